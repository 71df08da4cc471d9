"""Weight and spectral normalization compared with ``torch.nn.utils.parametrizations``."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch.nn import utils
from torch.nn.utils import parametrizations

from jaxnets import layers
from jaxnets.interop import load_torch, to_numpy, to_torch, trace_difference
from tests.parity.oracle import DTYPES, assert_equal, check_layer, images_first, images_last

#: By layer: arguments, shape of the inputs in torch's layout, and the axes to test.
LAYERS = {
    "Linear": ((4, 3), (5, 4), (0, 1)),
    "Conv2d": ((4, 6, 3, 1, 0, 1, 2), (2, 4, 4, 5), (0, 3)),
    "ConvTranspose2d": ((4, 6, 3, 1, 0, 0, 2), (2, 4, 3, 2), (0, None)),
}


def both(name, kind, dtype=np.float64, **options):
    """Our layer, torch's, the inputs, and the conversions of their layout."""
    arguments, shape, _ = LAYERS[name]
    ours = getattr(layers, name)(*arguments, rngs=nnx.Rngs(0), param_dtype=dtype)
    theirs = getattr(torch.nn, name)(*arguments).to(torch.tensor(dtype(0)).dtype)
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    moves = {"to_ours": images_last, "from_ours": images_first} if len(shape) > 2 else {}
    if kind == "weight_norm":
        ours = layers.WeightNorm(ours, **options)
    else:
        ours = layers.SpectralNorm(ours, **options, rngs=nnx.Rngs(1))
    return ours, getattr(parametrizations, kind)(theirs, **options), x, moves


def check_weights(ours, theirs):
    back = to_torch(ours)
    assert list(back) == list(theirs.state_dict())  # optimizers number parameters in this order
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(back[name], value, rtol=0, atol=0)


@pytest.mark.parametrize(("name", "dim"), [(n, dim) for n in LAYERS for dim in LAYERS[n][2]])
def test_weight_norm_equals_torch(name, dim):
    ours, theirs, x, moves = both(name, "weight_norm", dim=dim)
    with torch.no_grad():
        theirs.parametrizations.weight.original0 += 0.3
    check_layer(ours, theirs, x, **moves)
    check_weights(ours, theirs)


def test_weight_norm_equals_torch_in_float32():
    ours, theirs, x, moves = both("Conv2d", "weight_norm", np.float32)
    check_layer(ours, theirs, x, **moves)


def test_weight_norm_starts_as_the_layer():
    layer = layers.Linear(4, 3, rngs=nnx.Rngs(0))
    x = jnp.ones((2, 4), jnp.float32)
    expected = layer(x)
    np.testing.assert_allclose(layers.WeightNorm(layer)(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Linear", {"dim": -1}),
        ("Conv2d", {"n_power_iterations": 2}),
        ("ConvTranspose2d", {}),
    ],
)
def test_spectral_norm_equals_torch(name, options, training):
    ours, theirs, x, moves = both(name, "spectral_norm", **options)
    theirs.train(training)
    (ours.train if training else ours.eval)()
    load_torch(ours, theirs.state_dict())
    check_weights(ours, theirs)
    check_layer(ours, theirs, x, **moves)


@pytest.mark.parametrize("name", ["Linear", "ConvTranspose2d"])
def test_the_older_spectral_norm_computes_v_first(name):
    arguments, shape, _ = LAYERS[name]
    layer = getattr(layers, name)(*arguments, rngs=nnx.Rngs(0), param_dtype=np.float64)
    ours = layers.SpectralNorm(layer, v_first=True, rngs=nnx.Rngs(1))
    theirs = utils.spectral_norm(getattr(torch.nn, name)(*arguments).double())
    load_torch(ours, theirs.state_dict())
    x = np.random.default_rng(0).normal(size=shape)
    for _ in range(2):
        out = ours(images_last(x) if x.ndim > 2 else x)
        expected = theirs(torch.tensor(x))
        assert_equal(images_first(out) if x.ndim > 2 else out, expected, "outputs")
    for vector in ("u", "v"):
        moved = ours.parametrizations["weight"]["0"][f"_{vector}"][...]
        assert_equal(moved, getattr(theirs, f"weight_{vector}"), vector)


@DTYPES
def test_singular_vectors_move_in_training_alone(dtype):
    ours, theirs, x, _ = both("Linear", "spectral_norm", dtype)
    load_torch(ours, theirs.state_dict())
    call = nnx.jit(lambda layer, x: layer(x))
    for _ in range(2):
        assert_equal(call(ours, x), theirs(torch.tensor(x)), "outputs")
    moved = to_numpy(ours)
    for name, value in theirs.state_dict().items():
        assert_equal(moved[name], value, name)
    ours.eval()
    assert_equal(call(ours, x), theirs.eval()(torch.tensor(x)), "outputs in evaluation mode")
    assert_equal(call(nnx.view(ours, use_running_average=True), x), theirs(torch.tensor(x)), "view")
    for name, value in to_numpy(ours).items():
        np.testing.assert_array_equal(value, moved[name])


def test_the_largest_singular_value_is_one_at_first():
    layer = layers.SpectralNorm(layers.Linear(5, 4, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(1))
    layer.eval()
    weight = layer(jnp.eye(5, dtype=jnp.float32)) - layer(jnp.zeros((5, 5), jnp.float32))
    np.testing.assert_allclose(np.linalg.norm(weight, 2), 1.0, rtol=0.02)


class Ours(nnx.Module):
    """Weight and spectral normalization, and a layer that only PyTorch's network normalizes."""

    def __init__(self, rngs):
        self.first = layers.WeightNorm(layers.Linear(4, 3, rngs=rngs))
        self.second = layers.SpectralNorm(layers.Linear(3, 3, rngs=rngs), rngs=rngs)
        self.third = layers.Linear(3, 2, rngs=rngs)

    def __call__(self, x):
        return self.third(self.second(self.first(x)))


class Theirs(torch.nn.Module):
    def __init__(self, form):
        super().__init__()
        self.first = form.weight_norm(torch.nn.Linear(4, 3))
        self.second = form.spectral_norm(torch.nn.Linear(3, 3))
        self.third = form.weight_norm(torch.nn.Linear(3, 2))

    def forward(self, x):
        return self.third(self.second(self.first(x)))


@pytest.mark.parametrize("wrapping", ["", "module."])
@pytest.mark.parametrize("form", [parametrizations, utils], ids=["new", "old"])
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_checkpoints_of_either_form_are_loaded(form, wrapping):
    ours, theirs = Ours(nnx.Rngs(0)), Theirs(form).eval()
    weights = {wrapping + name: value for name, value in theirs.state_dict().items()}
    report = load_torch(ours, weights)
    assert report.conversions["third.weight"].startswith("from ")
    trace = trace_difference(ours, theirs, np.ones((2, 4), np.float32))
    assert trace.first is None
    if form is utils:
        assert report.conversions["first.parametrizations.weight.original1"].endswith("weight_v")
        assert report.conversions["second.parametrizations.weight.0._v"].endswith("weight_v")


@pytest.mark.slow
def test_a_layer_keeps_its_streams():
    layer = layers.GRU(3, 4, 2, dropout=0.5, rngs=nnx.Rngs(0))
    normed = layers.WeightNorm(layer, "weight_hh_l0")
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    assert (normed(x)[0] != normed(x)[0]).any()
    twin = torch.nn.GRU(3, 4, 2, batch_first=True)
    twin = parametrizations.weight_norm(twin, "weight_hh_l0")
    load_torch(normed, twin.state_dict())
    normed.eval()
    assert_equal(normed(x)[0], twin(torch.tensor(x))[0], "outputs")
