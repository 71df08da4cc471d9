import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import layers
from tests import tier
from tests.parity.oracle import DTYPES, assert_equal, check_layer, images_first, images_last

#: Name and arguments, the same here and in torch.nn.
ACTIVATIONS = [
    ("Identity",),
    ("ReLU",),
    ("ReLU6",),
    ("LeakyReLU",),
    ("LeakyReLU", 0.3),
    ("ELU",),
    ("ELU", 0.5),
    ("CELU", 2.0),
    ("SELU",),
    ("GELU",),
    ("GELU", "tanh"),
    ("SiLU",),
    ("Mish",),
    ("Sigmoid",),
    ("LogSigmoid",),
    ("Tanh",),
    ("Softsign",),
    ("Softplus",),
    ("Softplus", 2.0, 5.0),
    ("Hardtanh",),
    ("Hardtanh", -0.5, 3.0),
    ("Hardswish",),
    ("Hardshrink",),
    ("Softshrink", 1.0),
    ("Tanhshrink",),
    ("Threshold", -0.5, 2.0),
    ("Softmax", -1),
    ("Softmax", 0),
    ("Softmin", -1),
    ("LogSoftmax", -1),
    ("LogSoftmax", -2),
    ("GLU",),
    ("GLU", -2),
]
#: The kinks of piecewise functions, each twice, for the halves of GLU.
KINKS = np.repeat([-6.0, -5.0, -3.0, -1.0, -0.5, 0.0, 1.0, 2.5, 3.0, 6.0, 20.0, 21.0], 2)
ORDINARY = np.random.default_rng(0).normal(0.0, 3.0, size=24)
INPUTS = {
    "ordinary": np.concatenate([KINKS, ORDINARY]).reshape(4, 6, 2),
    "large": np.array([-1e4, -800.0, -90.0, -30.0, 30.0, 90.0, 800.0, 1e4]).reshape(2, 2, 2),
}


@pytest.mark.parametrize("inputs", INPUTS)
@DTYPES
@pytest.mark.parametrize(
    ("name", "arguments"), tier.one_in(2, [pytest.param(name, rest) for name, *rest in ACTIVATIONS])
)
def test_activation_equals_torch(name, arguments, dtype, inputs):
    ours, theirs = getattr(layers, name)(*arguments), getattr(torch.nn, name)(*arguments)
    check_layer(ours, theirs, INPUTS[inputs].astype(dtype))


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax", "GLU"])
@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 4), (2, 4, 4, 4)])
def test_the_channels_are_the_last_axis(name, shape):
    inputs = np.random.default_rng(0).normal(size=shape)
    ours, theirs = getattr(layers, name)(-1), getattr(torch.nn, name)(1)
    check_layer(ours, theirs, inputs, to_ours=images_last, from_ours=images_first)


@pytest.mark.parametrize("inputs", INPUTS)
def test_hardsigmoid_equals_torch(inputs):
    # In float64, torch's slope is 1/6 rounded to float32; ours is not rounded.
    check_layer(layers.Hardsigmoid(), torch.nn.Hardsigmoid(), INPUTS[inputs].astype(np.float32))


@DTYPES
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3)])
def test_prelu_equals_torch(dtype, count, shape):
    inputs = np.random.default_rng(0).normal(size=shape).astype(dtype)
    inputs.flat[:2] = 0.0
    theirs = torch.nn.PReLU(count, 0.1).to(torch.tensor(inputs).dtype)
    with torch.no_grad():
        theirs.weight += torch.arange(count) * 0.2
    ours = layers.PReLU(count, rngs=nnx.Rngs(0), param_dtype=dtype)
    check_layer(ours, theirs, inputs, to_ours=images_last, from_ours=images_first)


def test_prelu_starts_as_torch_does():
    np.testing.assert_array_equal(
        np.asarray(layers.PReLU(3).negative_slope.get_value()),
        torch.nn.PReLU(3).weight.detach().numpy(),
    )


#: Points where the slope of each activation jumps, or where its definition changes.
JUMPS = [
    *[(name, (), [0.0]) for name in ["ReLU", "LeakyReLU", "ELU", "CELU", "SELU", "GELU", "SiLU"]],
    *[(name, (), [0.0]) for name in ["Mish", "Sigmoid", "LogSigmoid", "Tanh", "Tanhshrink"]],
    *[(name, (), [0.0]) for name in ["Softsign", "PReLU", "RReLU"]],
    *[(name, (), [-0.5, 0.5]) for name in ["Hardshrink", "Softshrink"]],
    *[(name, (0.0,), [0.0]) for name in ["Hardshrink", "Softshrink"]],
    *[(name, (), [-3.0, 3.0]) for name in ["Hardswish", "Hardsigmoid"]],
    ("Hardtanh", (), [-1.0, 1.0]),
    ("Hardtanh", (0.0, 2.0), [0.0, 2.0]),
    ("ReLU6", (), [0.0, 6.0]),
    ("Softplus", (), [0.0, 20.0]),
    ("Softplus", (2.0, 5.0), [2.5]),
    ("Threshold", (0.0, 0.0), [0.0]),
    ("Threshold", (0.5, 3.0), [0.5]),
]


@DTYPES
def test_slopes_at_jumps_equal_torch(dtype):
    points, ours, theirs = [], [], []
    options = {"RReLU": {"rngs": nnx.Rngs(0)}, "PReLU": {"param_dtype": dtype}}
    for name, arguments, jumps in JUMPS:
        ours.append(getattr(layers, name)(*arguments, **options.get(name, {})))
        ours[-1].eval()
        theirs.append(getattr(torch.nn, name)(*arguments).eval())
        jumps = np.array([*jumps, -0.0], dtype)
        step = np.maximum(np.spacing(np.abs(jumps)), np.finfo(dtype).tiny)  # XLA flushes subnormals
        points.append(np.concatenate([jumps - step, jumps, jumps + step]))
    slopes = jax.jit(
        lambda points: [
            jax.vjp(layer, x)[1](jnp.ones_like(x))[0] for layer, x in zip(ours, points, strict=True)
        ]
    )(points)
    for case, layer, x, slope in zip(JUMPS, theirs, points, slopes, strict=True):
        given = torch.tensor(x, requires_grad=True)
        layer.to(given.dtype)(given).sum().backward()
        if case[0] == "Hardsigmoid" and dtype == np.float64:  # PyTorch's 1/6 is a float32
            np.testing.assert_allclose(slope, given.grad, rtol=1e-7)
        else:
            assert_equal(slope, given.grad, f"slope of {case}")
