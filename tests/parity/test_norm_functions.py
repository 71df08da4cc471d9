"""Normalization functions compared with those of ``torch.nn.functional``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import functional
from tests.parity.oracle import DTYPES, assert_equal, images_first, images_last

#: By function: shape of the input in torch's layout, further arguments, shape of weight and bias.
CASES = {
    "group_norm": ((3, 4, 5), (2,), (4,)),
    "layer_norm": ((3, 4, 5), ((4, 5),), (4, 5)),
    "rms_norm": ((3, 4, 5), ((5,),), (5,)),
    "instance_norm": ((3, 4, 5), (None, None), (4,)),
    "batch_norm": ((3, 4, 5), (None, None), (4,)),
}
#: Functions whose channels are the second axis in torch's layout.
OF_CHANNELS = {"group_norm", "instance_norm", "batch_norm"}


def draw(*shapes, dtype):
    random = np.random.default_rng(0)
    return [random.normal(1.0, 2.0, shape).astype(dtype) for shape in shapes]


@DTYPES
@pytest.mark.parametrize("name", CASES)
def test_function_equals_torch(name, dtype):
    shape, arguments, parameters = CASES[name]
    count = 1 if name == "rms_norm" else 2
    x, *weights = draw(shape, *[parameters] * count, dtype=dtype)
    to_ours, from_ours = (images_last, images_first) if name in OF_CHANNELS else (lambda a: a,) * 2
    options = {"training": True} if name == "batch_norm" else {}
    given = [torch.tensor(one, requires_grad=True) for one in (x, *weights)]
    theirs = getattr(torch.nn.functional, name)
    expected = theirs(given[0], *arguments, *given[1:], **options, eps=1e-3)
    cotangent = np.cos(np.arange(x.size)).reshape(shape).astype(dtype)
    expected.backward(torch.tensor(cotangent))
    function = getattr(functional, name)

    @jax.jit
    def run(x, weights, cotangent):
        outputs, pull_back = jax.vjp(
            lambda x, weights: function(x, *arguments, *weights, **options, eps=1e-3), x, weights
        )
        return outputs, *pull_back(cotangent)

    outputs, of_x, of_weights = run(to_ours(x), weights, to_ours(cotangent))
    assert_equal(from_ours(np.asarray(outputs)), expected, "outputs")
    assert_equal(from_ours(np.asarray(of_x)), given[0].grad, "input gradient")
    for ours, weight in zip(of_weights, given[1:], strict=True):
        assert_equal(ours, weight.grad, "gradient of a parameter")


@DTYPES
@pytest.mark.parametrize("name", ["batch_norm", "instance_norm"])
def test_running_statistics_equal_torch(name, dtype):
    x, mean, var = draw((3, 4, 5), (4,), (4,), dtype=dtype)
    var = np.abs(var)
    running = nnx.Variable(jnp.asarray(mean)), nnx.Variable(jnp.asarray(var))
    theirs = torch.tensor(mean), torch.tensor(var)
    options = {"training" if name == "batch_norm" else "use_input_stats": True, "momentum": 0.3}
    expected = getattr(torch.nn.functional, name)(torch.tensor(x), *theirs, **options)
    outputs = getattr(functional, name)(images_last(x), *running, **options)
    assert_equal(images_first(np.asarray(outputs)), expected, "outputs")
    for variable, tensor in zip(running, theirs, strict=True):
        assert_equal(variable[...], tensor, "running statistics")
    options = dict.fromkeys(options, False) | {"momentum": 0.3}
    expected = getattr(torch.nn.functional, name)(torch.tensor(x), *theirs, **options)
    plain = [variable[...] for variable in running]
    outputs = getattr(functional, name)(images_last(x), *plain, **options)
    assert_equal(images_first(np.asarray(outputs)), expected, "outputs by running statistics")


@pytest.mark.parametrize(
    ("name", "arguments", "options", "message"),
    [
        ("batch_norm", (jnp.zeros(3), None), {}, "running_var: expected .*, got NoneType"),
        ("batch_norm", (None, None), {}, "running_mean: expected .*, got NoneType"),
        (
            "batch_norm",
            (jnp.zeros(3), jnp.ones(3)),
            {"training": True},
            r"running_mean: expected an nnx.Variable to update, or None, got float32\[3\]",
        ),
        ("batch_norm", (None, None, jnp.ones(2)), {"training": True}, r"weight: .* \[3\], got"),
        ("instance_norm", (), {"bias": jnp.ones(2)}, r"bias: .* \[3\], got float32\[2\]"),
        ("group_norm", (2,), {}, "input: expected a multiple of 2 channels, got float32"),
        ("layer_norm", (4,), {}, r"input: expected .* \[..., 4\], got float32\[2, 2, 3\]"),
        ("layer_norm", ((),), {}, r"normalized_shape: expected at least one axis, got \(\)"),
        ("rms_norm", (3, jnp.ones(2)), {}, r"weight: expected .* \[3\], got float32\[2\]"),
    ],
)
def test_bad_arguments_are_named(name, arguments, options, message):
    with jax.enable_x64(False), pytest.raises(ValueError, match=message):
        getattr(functional, name)(jnp.zeros((2, 2, 3), jnp.float32), *arguments, **options)


@pytest.mark.parametrize("name", ["batch_norm", "instance_norm", "group_norm"])
def test_a_single_value_has_no_statistics(name):
    arguments = {"batch_norm": (None, None, None, None, True), "group_norm": (3,)}.get(name, ())
    with pytest.raises(ValueError, match="input: expected more than one "):
        getattr(functional, name)(jnp.zeros((1, 1, 3)), *arguments)
