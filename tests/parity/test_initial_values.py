"""Initial weights come from PyTorch's distributions: two-sample Kolmogorov-Smirnov tests."""

import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import layers, models
from jaxnets.interop import table
from tests import tier
from tests.parity.oracle import of_one_distribution

LAYERS = {
    "linear": (lambda r: layers.Linear(100, 80, rngs=r), lambda: torch.nn.Linear(100, 80)),
    "conv1d": (lambda r: layers.Conv1d(12, 30, 7, rngs=r), lambda: torch.nn.Conv1d(12, 30, 7)),
    "conv2d": (lambda r: layers.Conv2d(6, 32, 5, rngs=r), lambda: torch.nn.Conv2d(6, 32, 5)),
    "conv2d-groups": (
        lambda r: layers.Conv2d(12, 60, 5, groups=3, rngs=r),
        lambda: torch.nn.Conv2d(12, 60, 5, groups=3),
    ),
    "conv-transpose2d": (
        lambda r: layers.ConvTranspose2d(12, 30, 4, rngs=r),
        lambda: torch.nn.ConvTranspose2d(12, 30, 4),
    ),
    "rnn": (lambda r: layers.RNN(20, 40, 2, rngs=r), lambda: torch.nn.RNN(20, 40, 2)),
    "lstm": (
        lambda r: layers.LSTM(20, 40, 2, bidirectional=True, rngs=r),
        lambda: torch.nn.LSTM(20, 40, 2, bidirectional=True),
    ),
    "lstm-projected": (
        lambda r: layers.LSTM(20, 40, proj_size=10, rngs=r),
        lambda: torch.nn.LSTM(20, 40, proj_size=10),
    ),
    "gru": (lambda r: layers.GRU(20, 40, 2, rngs=r), lambda: torch.nn.GRU(20, 40, 2)),
    "lstm-cell": (lambda r: layers.LSTMCell(20, 40, rngs=r), lambda: torch.nn.LSTMCell(20, 40)),
    "gru-cell": (lambda r: layers.GRUCell(20, 40, rngs=r), lambda: torch.nn.GRUCell(20, 40)),
    "embedding": (lambda r: layers.Embedding(70, 50, rngs=r), lambda: torch.nn.Embedding(70, 50)),
    "attention": (
        lambda r: layers.MultiheadAttention(48, 4, rngs=r),
        lambda: torch.nn.MultiheadAttention(48, 4),
    ),
    "transformer": (
        lambda r: layers.Transformer(48, 4, 1, 1, 64, rngs=r),
        lambda: torch.nn.Transformer(48, 4, 1, 1, 64, batch_first=True),
    ),
    "bilinear": (
        lambda r: layers.Bilinear(12, 20, 30, rngs=r),
        lambda: torch.nn.Bilinear(12, 20, 30),
    ),
    "embedding-bag": (
        lambda r: layers.EmbeddingBag(70, 50, rngs=r),
        lambda: torch.nn.EmbeddingBag(70, 50),
    ),
    "batch-norm": (lambda r: layers.BatchNorm2d(40, rngs=r), lambda: torch.nn.BatchNorm2d(40)),
    "layer-norm": (lambda r: layers.LayerNorm(40, rngs=r), lambda: torch.nn.LayerNorm(40)),
    "group-norm": (lambda r: layers.GroupNorm(4, 40, rngs=r), lambda: torch.nn.GroupNorm(4, 40)),
    "prelu": (lambda r: layers.PReLU(40, rngs=r), lambda: torch.nn.PReLU(40)),
}


def draws(build) -> dict[str, np.ndarray]:
    """Five draws of every parameter, by PyTorch's name."""
    found: dict[str, list[np.ndarray]] = {}
    for seed in range(5):
        layer = build(nnx.Rngs(seed))
        for path, module in nnx.iter_modules(layer):
            for attribute, leaf in table.leaves(module).items():
                name = ".".join([*map(str, path), leaf.name])
                value = np.asarray(getattr(module, attribute).get_value())
                found.setdefault(name, []).append(value.ravel())
    return {name: np.concatenate(values) for name, values in found.items()}


def torch_draws(build) -> dict[str, np.ndarray]:
    found: dict[str, list[np.ndarray]] = {}
    for seed in range(100, 105):
        torch.manual_seed(seed)
        for name, value in build().state_dict().items():
            found.setdefault(name, []).append(value.numpy().ravel())
    return {name: np.concatenate(values) for name, values in found.items()}


@pytest.mark.parametrize("kind", tier.one_in(2, LAYERS))
def test_initial_values_have_the_distribution_of_torch(kind):
    ours, theirs = draws(LAYERS[kind][0]), torch_draws(LAYERS[kind][1])
    assert set(ours) == set(theirs)
    for name, values in theirs.items():
        if values.min() == values.max():  # a constant, such as a norm's scale
            np.testing.assert_array_equal(ours[name], values)
            continue
        p_value = of_one_distribution(ours[name], values)
        assert p_value > 1e-3, f"{name}: p = {p_value:.1e}"
        bound = np.abs(values).max()
        if "embedding" not in kind:  # all others are uniform: the bound is sharp
            assert np.abs(ours[name]).max() == pytest.approx(bound, rel=0.05), name


def test_the_ks_test_sees_a_bound_that_is_wrong_by_a_tenth():
    ours = draws(LAYERS["linear"][0])["weight"]
    assert of_one_distribution(1.1 * ours, ours) < 1e-6


def test_linear_regressions_normal_start_is_the_documents():
    values = [
        np.asarray(getattr(models.LinearRegression(30, 20, init_std=0.01, rngs=nnx.Rngs(0)), name))
        for name in ("kernel", "bias")
    ]
    drawn = np.concatenate([value.ravel() for value in values])
    torch.manual_seed(0)
    theirs = torch.nn.init.normal_(torch.empty(620), mean=0.0, std=0.01).numpy()
    assert of_one_distribution(drawn, theirs) > 1e-3
