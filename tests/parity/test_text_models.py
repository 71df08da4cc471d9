"""Text networks compared with PyTorch's on packed sequences: outputs, gradients and training."""

import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import losses, optimizers
from jaxnets.compare import twin
from jaxnets.data import Dataset, Split, epoch_plan
from jaxnets.interop import to_numpy
from jaxnets.models import LanguageModel, TextClassifier
from jaxnets.training import fit
from tests.parity.oracle import assert_equal, copy_weights

STEPS, BATCH, SMALLER = 12, 8, 5
VOCABULARY, TIME = 13, 9


def tokens(count):
    """Rows of random lengths from 1 to TIME, padded with 0."""
    draw = np.random.default_rng(0)
    rows = draw.integers(1, VOCABULARY, size=(count, TIME)).astype(np.int32)
    rows[np.arange(TIME)[None, :] >= draw.integers(1, TIME + 1, size=(count, 1))] = 0
    return rows


def classifier(dtype, **options):
    options = {"n_layers": 2, "output_dim": 4} | options
    return TextClassifier(VOCABULARY, 5, 7, rngs=nnx.Rngs(0), param_dtype=dtype, **options)


MODELS = {
    "gru": lambda dtype: classifier(dtype, cell="gru"),
    "lstm-bidirectional": lambda dtype: classifier(dtype, bidirectional=True),
    "lstm-sigmoid": lambda dtype: classifier(dtype, output_dim=1),
    "language-lstm": lambda dtype: LanguageModel(
        VOCABULARY, 5, 7, 2, rngs=nnx.Rngs(0), param_dtype=dtype
    ),
    "language-gru": lambda dtype: LanguageModel(
        VOCABULARY, 5, 7, cell="gru", rngs=nnx.Rngs(0), param_dtype=dtype
    ),
}


def task(name, count):
    """Inputs, labels, and our and PyTorch's loss."""
    inputs, draw = tokens(count), np.random.default_rng(1)
    if name.startswith("language"):
        labels = draw.integers(VOCABULARY, size=(count, TIME)).astype(np.int32)
        return (
            inputs,
            labels,
            losses.cross_entropy,
            lambda x, y: torch.nn.functional.cross_entropy(x.flatten(0, 1), y.flatten().long()),
        )
    if name.endswith("sigmoid"):
        labels = draw.integers(2, size=(count, 1)).astype(np.int32)
        return (
            inputs,
            labels,
            losses.binary_cross_entropy,
            lambda x, y: torch.nn.functional.binary_cross_entropy(x, y.to(x.dtype)),
        )
    labels = draw.integers(4, size=count).astype(np.int32)
    return (
        inputs,
        labels,
        losses.cross_entropy,
        lambda x, y: torch.nn.functional.cross_entropy(x, y.long()),
    )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.slow
def test_a_run_of_training_equals_torch_in_float64(name):
    count = BATCH * (STEPS - 1) + SMALLER
    inputs, labels, ours, theirs = task(name, count)
    model = MODELS[name](np.float64)
    network = twin(model).double()
    copy_weights(model, network)

    split = Split(inputs, labels)
    result = fit(
        model, Dataset("drawn", split, split.take(BATCH)), loss=ours,
        optimizer=optimizers.adam(0.01, weight_decay=1e-3), epochs=1, batch_size=BATCH, seed=1,
        progress="none",
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, weight_decay=1e-3)
    plan = epoch_plan(count, BATCH, seed=1, epoch=0)
    torch_losses = []
    for rows in [*plan.full, plan.rest]:
        optimizer.zero_grad()
        loss = theirs(network(torch.tensor(inputs[rows])), torch.tensor(labels[rows]))
        loss.backward()
        optimizer.step()
        torch_losses.append(loss.item())
    np.testing.assert_allclose(result.step_losses, torch_losses, rtol=1e-10)
    expected = network.state_dict()
    for key, value in to_numpy(result.model).items():
        np.testing.assert_allclose(value, expected.pop(key).numpy(), rtol=1e-6, atol=1e-9)
    assert not expected


@pytest.mark.parametrize("name", ["lstm-bidirectional", "language-lstm"])
def test_outputs_equal_torch_in_float32(name):
    model = MODELS[name](np.float32)
    network = twin(model)
    copy_weights(model, network)
    assert_equal(model(tokens(6)), network(torch.tensor(tokens(6))), name)
