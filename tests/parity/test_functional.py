"""The functions of ``jaxnets.functional`` that layers use, called as in PyTorch."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import nnx

from jaxnets import functional, layers
from tests.parity.layer_cases import KINKS
from tests.parity.oracle import assert_equal

RANDOM = np.random.default_rng(0)
TABLE = RANDOM.normal(size=(5, 3))
#: Functions and their positional arguments: arrays and settings.
CASES = [
    ("relu", KINKS, True),
    ("relu6", KINKS, True),
    ("leaky_relu", KINKS, 0.3, True),
    ("prelu", KINKS, np.array([0.3])),
    ("prelu", KINKS, np.linspace(0, 1, 6)),
    ("elu", KINKS, 0.5, True),
    ("celu", KINKS, 2.0, True),
    ("selu", KINKS, True),
    ("gelu", KINKS),
    ("silu", KINKS, True),
    ("mish", KINKS, True),
    ("softplus", KINKS, 2.0, 5.0),
    ("hardtanh", KINKS, -0.5, 3.0, True),
    ("hardswish", KINKS, True),
    ("softmax", KINKS, 1),
    ("log_softmax", KINKS, 0),
    ("glu", KINKS, 0),
    ("glu", KINKS),
    ("sigmoid", KINKS),
    ("logsigmoid", KINKS),
    ("tanh", KINKS),
    ("softsign", KINKS),
    ("linear", KINKS, RANDOM.normal(size=(2, 6)), np.array([1.0, 2.0])),
    ("linear", KINKS[0], RANDOM.normal(size=(2, 6))),
    ("embedding", np.array([[1, 0], [4, 4]]), TABLE, -1),
]


def is_float(value):
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def test_functions_equal_torch():
    """Compares the values and gradients of all functions, computed in one program."""
    given, found = [], []
    for name, *rest in CASES:
        tensors = [torch.tensor(x) if isinstance(x, np.ndarray) else x for x in rest]
        floats = [
            x.requires_grad_() for x in tensors if torch.is_tensor(x) and x.is_floating_point()
        ]
        tensors = [x * 1 if torch.is_tensor(x) else x for x in tensors]  # not in place on leaves
        outputs = getattr(F, name)(*tensors)
        cotangent = np.cos(np.arange(outputs.numel())).reshape(outputs.shape)
        found.append((outputs, torch.autograd.grad(outputs, floats, torch.tensor(cotangent))))
        given.append(([x for x in rest if is_float(x)], cotangent))

    @jax.jit
    def run(given):
        results = []
        for (name, *rest), (floats, cotangent) in zip(CASES, given, strict=True):

            def call(*floats, name=name, rest=rest):
                values = iter(floats)
                every = [next(values) if is_float(x) else x for x in rest]
                return getattr(functional, name)(*every)

            outputs, pull_back = jax.vjp(call, *floats)
            results.append((outputs, pull_back(cotangent)))
        return results

    results = run(jax.tree.map(jnp.asarray, given))
    for (name, *_), ours, theirs in zip(CASES, results, found, strict=True):
        assert_equal(ours[0], theirs[0], name)
        for i, (one, other) in enumerate(zip(ours[1], theirs[1], strict=True)):
            assert_equal(one, other, f"{name}: gradient in argument {i}")


def test_options_that_are_named_equal_torch():
    x = KINKS.astype(np.float32)
    found = functional.softmax(x, dim=-1, dtype=jnp.float64)
    assert_equal(found, F.softmax(torch.tensor(x), dim=-1, dtype=torch.float64), "softmax")
    found = functional.log_softmax(x, dim=-1, dtype=jnp.float64)
    assert_equal(found, F.log_softmax(torch.tensor(x), -1, dtype=torch.float64), "log_softmax")
    found = functional.gelu(KINKS, approximate="tanh")
    assert_equal(found, F.gelu(torch.tensor(KINKS), approximate="tanh"), "gelu")
    # In float64, PyTorch rounds the slope 1/6 of hardsigmoid to float32, but not its values.
    assert_equal(functional.hardsigmoid(x, inplace=True), F.hardsigmoid(torch.tensor(x)), "value")


PYTHON = [name for name, *_ in CASES if inspect.isfunction(getattr(F, name))]


@pytest.mark.parametrize("name", sorted({*PYTHON, "hardsigmoid"} - {"sigmoid", "softsign", "tanh"}))
def test_arguments_are_those_of_torch(name):
    theirs = [*inspect.signature(getattr(F, name)).parameters]
    ours = [*inspect.signature(getattr(functional, name)).parameters]
    assert ours == [parameter for parameter in theirs if parameter != "_stacklevel"]


def test_a_variable_is_an_array():
    slopes = nnx.Param(jnp.array([0.5]))
    assert functional.prelu(jnp.array([-1.0]), slopes) == -0.5
    layer = layers.Linear(3, 2, rngs=nnx.Rngs(0))
    weight = nnx.Param(layer.kernel.T)
    x = jnp.ones((1, 3), jnp.float32)
    np.testing.assert_array_equal(functional.linear(x, weight, layer.bias), layer(x))
    row = functional.embedding(jnp.array([1]), weight)
    np.testing.assert_array_equal(row[0], weight[1])


X = jnp.ones((2, 4, 4, 4))
BAD = [
    (lambda: functional.elu([1.0]), r"input: expected a floating-point array \[...\], got list"),
    (lambda: functional.relu(X, 1), "inplace: expected True or False, got 1"),
    (lambda: functional.gelu(X, "erf"), "approximate: expected one of none, tanh, got erf"),
    (lambda: functional.softmax(X, 1), r"dim: expected 0, or -1 for the channels \(PyTorch's 1\)"),
    (lambda: functional.softmax(X, 0, dtype=int), "dtype: expected a floating-point dtype, got"),
    (lambda: functional.glu(X[..., :3]), "input: expected an even size along axis -1, got float32"),
    (lambda: functional.prelu(X, X), r"weight: expected slopes \[C\] or \[1\], got float32\[2, 4"),
    (lambda: functional.prelu(X, X[0, 0, 0, :3]), r"input: expected \[N, ..., 3\], a slope per ch"),
    (lambda: functional.linear(X, X[0, 0, :, :3]), r"input: expected .* \[..., 3\], got float32"),
    (lambda: functional.linear(X, X), r"weight: expected .* \[out_features, in_features\], got"),
    (lambda: functional.linear(X, X[0, 0], X[0, 0]), r"bias: expected .* \[4\], got float32\[4, 4"),
    (lambda: functional.embedding(X, X[0, 0]), "input: expected an array of integers, got float32"),
    (
        lambda: functional.embedding(jnp.array([4]), X[0, 0]),
        r"input: expected indices in \[0, 4\), got 4 to 4",
    ),
    (
        lambda: functional.embedding(jnp.array([3]), X[0, 0], max_norm=1.0),
        "max_norm: expected None, the only supported value, got 1.0",
    ),
    (
        lambda: functional.embedding(jnp.array([3]), X[0, 0], 4),
        "padding_idx: expected an integer from -4 to 3, got 4",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
