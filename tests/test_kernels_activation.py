"""GELU by a native kernel compared with XLA's operations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.kernels import explain, native, with_kernels
from jaxnets.kernels.activation import gelu, supports
from jaxnets.layers import GELU
from jaxnets.layers.activation_functions import exact_gelu
from tests.kernels import assert_close, precisions

kernel = gelu(exact_gelu)


@pytest.fixture(scope="module", autouse=True)
def wide():
    with jax.enable_x64(True):
        yield


def values(dtype):
    """Many values, whose number is not a multiple of a vector, and extreme values."""
    ends = [0.0, 1e-30, -1e-30, 1e15, -1e15, np.nan]
    return jnp.asarray([*np.linspace(-9, 9, 1001), *np.linspace(-50, 50, 999), *ends], dtype)


@functools.partial(jax.jit, static_argnums=0)
def everything(function, x):
    made, pull_back = jax.vjp(function, x)
    return made, *pull_back(jnp.cos(x))


def check(dtype, tolerance):
    x = values(dtype)
    assert_close(everything(kernel, x), everything(exact_gelu, x), tolerance)


@precisions(3e-7, 1e-15)
def test_equal_to_xla(dtype, tolerance):
    check(dtype, tolerance)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_at_infinity(dtype):
    np.testing.assert_array_equal(kernel(jnp.asarray([np.inf, -np.inf], dtype)), [np.inf, np.nan])


def test_an_example_has_the_same_bits_in_every_batch():
    x = jnp.sin(jnp.arange(37 * 1000.0)).reshape(37, 1000)
    whole = kernel(x)
    for some in (slice(0, 1), slice(3, 14)):
        np.testing.assert_array_equal(kernel(x[some]), whole[some])


def test_second_derivatives():
    ours, theirs = (
        jax.jit(jax.grad(lambda x: (jax.grad(lambda x: one(x).sum())(x) ** 2).sum()))  # noqa: B023
        for one in (kernel, exact_gelu)
    )
    x = jnp.linspace(-3, 3, 7)
    assert_close(ours(x), theirs(x), 1e-14)


def test_a_layer_reaches_the_kernel():
    x = jnp.linspace(-3.0, 3.0, 12).reshape(4, 3)
    assert explain(GELU(), x) == ["exact gelu of 4 × 3"]
    assert explain(GELU("tanh"), x) == []
    np.testing.assert_array_equal(with_kernels(GELU())(x), kernel(x))


def test_what_the_kernel_takes():
    assert supports(jnp.zeros(3))
    assert supports(jnp.zeros((2, 3), np.float32))
    assert not supports(jnp.zeros(()))
    assert not supports(jnp.zeros((0, 3)))
    assert not supports(jnp.zeros(3, jnp.float16))
    with native.aside():
        assert not supports(jnp.zeros(3))


@pytest.mark.slow
def test_without_avx_512(vectors_of_32_bytes):
    check(np.float32, 3e-7)
    check(np.float64, 1e-15)
