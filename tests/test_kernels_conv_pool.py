"""Convolution, ReLU and pool by one kernel compared with three separate operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets.kernels import native
from jaxnets.kernels.rewrite import explain, with_kernels
from jaxnets.layers import Conv2d, MaxPool2d
from tests import tier

POOL = MaxPool2d(2)


@pytest.fixture(params=[3, 21], ids=["bands", "kernel"])
def count(request, monkeypatch):
    """Batch size: few examples use a product with a banded matrix, many use a kernel."""
    if request.param == 3:
        monkeypatch.setattr(native, "ready", lambda *_: False)
    return request.param


def apart(conv, pool, x):
    return pool(jax.nn.relu(conv(x)))


def relu_and_pool(conv, pool, x):
    """``apart`` with kernels."""
    graphdef, state = nnx.split(conv)
    return with_kernels(lambda state, x: apart(nnx.merge(graphdef, state), pool, x))(state, x)


def normal(*shape, seed=1, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def outputs(function, conv, x):
    graphdef, state = nnx.split(conv)
    return jax.jit(lambda state, x: function(nnx.merge(graphdef, state), POOL, x))(state, x)


def outputs_and_gradients(function, conv, x, seed=2):
    """The outputs, and the gradients of their weighted sum for parameters and input."""
    graphdef, parameters = nnx.split(conv)

    @jax.jit
    def run(parameters, x):
        def forward(parameters, x):
            return function(nnx.merge(graphdef, parameters), POOL, x)

        y, pull_back = jax.vjp(forward, parameters, x)
        return y, *pull_back(
            normal(*y.shape, seed=seed, dtype=y.dtype) if seed else jnp.ones_like(y)
        )

    return run(parameters, x)


SHAPES = [
    ((1, 6), 5, 2, (28, 28)),
    ((6, 16), 5, 0, (14, 14)),
    ((3, 6), 5, 0, (32, 32)),
    ((2, 3), 3, 1, (7, 9)),  # the last row and column are in no window
    ((2, 3), (3, 5), (0, 2), (11, 6)),
    ((20, 3), 3, 0, (4, 5)),
    ((3, 20), 1, 0, (5, 4)),
    ((3, 4), 7, 3, (6, 6)),
    ((2, 30), 3, "same", (5, 5)),
]


@pytest.mark.parametrize("shapes", tier.usually(SHAPES, SHAPES[::4]))
def test_outputs_and_gradients_are_those_of_three_layers(shapes, count):
    channels, kernel, padding, shape = shapes
    with jax.enable_x64(True):
        conv = Conv2d(*channels, kernel, padding=padding, rngs=nnx.Rngs(0), param_dtype=float)
        x = normal(count, *shape, channels[0], dtype=float)
        found = outputs_and_gradients(relu_and_pool, conv, x)
        wanted = outputs_and_gradients(apart, conv, x)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-12, atol=1e-13)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), found[1:], wanted[1:]
    )


def test_of_several_maxima_the_first_has_the_gradient(count):
    conv = Conv2d(1, 2, 3, padding=1, rngs=nnx.Rngs(0))
    x = np.ones((count, 12, 12, 1), np.float32)  # all outputs not at the edges are equal
    conv.bias[...] = jnp.asarray([5.0, -9.0])  # the second channel's ReLU is 0
    found = outputs_and_gradients(relu_and_pool, conv, x, seed=None)
    wanted = outputs_and_gradients(apart, conv, x, seed=None)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, wanted)
    assert abs(found[2]).max() > 0


@pytest.mark.parametrize("place", [(0, 0), (2, 2), (3, 2)])
def test_nan_goes_through_to_its_windows_alone(place, count):
    conv = Conv2d(1, 2, 3, rngs=nnx.Rngs(0))
    x = normal(count, 8, 8, 1)
    x[1, *place] = np.nan
    expected = np.asarray(outputs(apart, conv, x))
    assert 0 < np.isnan(expected).sum() < expected[1].size
    y, _, gradient = outputs_and_gradients(relu_and_pool, conv, x, seed=None)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    assert not np.isnan(np.delete(gradient, 1, axis=0)).any()


@pytest.mark.slow
def test_gradients_of_gradients(count):
    conv = Conv2d(1, 2, 3, rngs=nnx.Rngs(0))

    def steepness(x, function):
        slope = jax.grad(lambda x: (function(conv, POOL, x) ** 2).sum())
        return (slope(x) ** 2).sum()

    derivative = jax.jit(jax.grad(steepness), static_argnums=1)
    x = normal(count, 8, 8, 1)
    np.testing.assert_allclose(derivative(x, relu_and_pool), derivative(x, apart), rtol=1e-4)


def test_by_a_kernel_from_eight_examples_on():
    conv = Conv2d(1, 6, 5, rngs=nnx.Rngs(0))

    def calls(count):
        program = jax.make_jaxpr(lambda x: relu_and_pool(conv, POOL, x))
        return str(program(jnp.zeros((count, 28, 28, 1)))).count("ffi_call[")

    assert calls(7) == 2  # a convolution, and a pool
    assert calls(8) == 1
    with native.aside():
        assert calls(8) == 0


def test_unused_outputs_are_not_computed():
    """Inference stores no indices, and without the gradient of x there are three calls."""
    conv, x = Conv2d(1, 6, 5, rngs=nnx.Rngs(0)), jnp.zeros((8, 28, 28, 1))
    graphdef, parameters = nnx.split(conv)

    def total(parameters, x):
        return relu_and_pool(nnx.merge(graphdef, parameters), POOL, x).sum()

    def program(function):
        return jax.jit(function).lower(parameters, x).compile().as_text()

    assert "u8[8,12,12,6]" not in program(total)
    assert program(jax.grad(total)).count('custom_call_target="jaxnets_conv_pool_') == 2
    every = program(jax.grad(total, argnums=(0, 1)))
    assert every.count('custom_call_target="jaxnets_conv_pool_') == 3
    assert "u8[8,12,12,6]" in every


def test_an_example_has_the_same_bits_in_every_batch():
    conv = Conv2d(2, 5, 3, padding=1, rngs=nnx.Rngs(0))
    x = normal(50, 9, 7, 2)
    whole = outputs(relu_and_pool, conv, x)
    for some in (slice(0, 8), slice(3, 14), slice(20, 47)):
        np.testing.assert_array_equal(outputs(relu_and_pool, conv, x[some]), whole[some])


def test_many_at_once_have_the_bits_of_one():
    conv = Conv2d(2, 5, 3, padding=1, rngs=nnx.Rngs(0))
    x = normal(3, 9, 9, 7, 2)
    answer = jax.jit(lambda x: relu_and_pool(conv, POOL, x))
    for one, alone in zip(jax.vmap(answer)(x), x, strict=True):
        np.testing.assert_array_equal(one, answer(alone))


@pytest.mark.parametrize(
    ("options", "pool", "dtype"),
    [
        ({"stride": 2}, POOL, jnp.float32),
        ({"dilation": 2}, POOL, jnp.float32),
        ({"groups": 2}, POOL, jnp.float32),
        ({"bias": False}, POOL, jnp.float32),
        ({"kernel_size": 2}, POOL, jnp.float32),
        ({}, MaxPool2d(3), jnp.float32),
        ({}, MaxPool2d(2, 1), jnp.float32),
        ({}, MaxPool2d(2, ceil_mode=True), jnp.float32),
        ({}, POOL, jnp.float16),
    ],
)
def test_operations_that_cannot_be_fused_stay_separate(options, pool, dtype):
    options = {"kernel_size": 3, "param_dtype": dtype, **options}
    conv = Conv2d(2, 4, **options, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (2, 9, 9, 2), dtype)
    assert not any("pooling" in line for line in explain(lambda x: apart(conv, pool, x), x))


class Twice(Conv2d):
    def __call__(self, x):
        return 2 * super().__call__(x)


def test_another_layer_in_place_of_the_convolution_is_called():
    conv = Twice(1, 6, 5, rngs=nnx.Rngs(0))
    x = normal(2, 12, 12, 1)
    np.testing.assert_allclose(outputs(relu_and_pool, conv, x), outputs(apart, conv, x), rtol=1e-5)


def test_an_image_too_small_is_refused_by_the_layer_that_minds():
    conv = Conv2d(1, 2, 3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="at least one window"):
        outputs(relu_and_pool, conv, jnp.zeros((1, 3, 9, 1)))
