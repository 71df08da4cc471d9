"""Dropout by a native kernel drops the same numbers as XLA's operations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets.kernels import native
from jaxnets.kernels.dropout import dropout, supports
from jaxnets.kernels.rewrite import explain
from jaxnets.layers import Dropout, Dropout2d
from jaxnets.layers.dropout import drop
from tests.kernels import calls

KEY = jax.random.key(7)


def plainly(rate):
    return functools.partial(drop, rate=rate, alike=())


def kernel(rate):
    return dropout(rate, plainly(rate))


def numbers(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


@pytest.mark.parametrize(("rate", "shape"), [(0.1, (70000,)), (0.5, (3, 5, 7)), (0.9, (1,))])
def test_the_same_numbers_are_dropped(rate, shape):
    x = numbers(*shape)

    def everything(function):
        def run(x):
            made = function(x, KEY)
            return jnp.sin(made).sum(), made

        return jax.jit(jax.value_and_grad(run, has_aux=True))(x)

    assert supports(x, KEY)
    ours, theirs = everything(kernel(rate)), everything(plainly(rate))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ours, theirs)
    np.testing.assert_array_equal(ours[0][1] == 0, theirs[0][1] == 0)


def test_what_is_not_finite_stays_visible():
    x = numbers(64).at[:20].set(jnp.nan).at[20:40].set(jnp.inf)
    for function in kernel(0.5), plainly(0.5):
        made = jax.jit(function)(x, KEY)
        assert np.isnan(made[:20]).all()
        assert not np.isfinite(made[20:40]).any()
        assert np.isfinite(made[40:]).all()
        np.testing.assert_array_equal(made, jax.jit(kernel(0.5))(x, KEY))
    slopes = jax.jit(jax.grad(lambda x: kernel(0.5)(x, KEY).sum()))(x)
    np.testing.assert_array_equal(slopes, jax.grad(lambda x: plainly(0.5)(x, KEY).sum())(x))


def test_second_derivatives():
    x = numbers(30)

    def penalty(function):
        def squares(x):
            return (function(x, KEY) ** 3).sum()

        return jax.jit(jax.grad(lambda x: (jax.grad(squares)(x) ** 2).sum()))(x)

    np.testing.assert_allclose(penalty(kernel(0.3)), penalty(plainly(0.3)), rtol=1e-4)


def test_many_at_once_have_the_bits_of_one():
    x, keys = numbers(3, 40), jax.random.split(KEY, 3)
    many = jax.jit(jax.vmap(kernel(0.3)))(x, keys)
    for made, one, key in zip(many, x, keys, strict=True):
        np.testing.assert_array_equal(made, jax.jit(kernel(0.3))(one, key))


def test_what_the_kernel_takes():
    assert supports(numbers(1), KEY)
    assert not supports(numbers(0), KEY)
    assert not supports(numbers(1), jax.random.key(0, impl="rbg"))
    assert not supports(numbers(1), jax.random.split(KEY, 2))
    assert not supports(jnp.zeros(3, jnp.float16), KEY)
    assert not supports(jax.ShapeDtypeStruct((2**16, 2**16), jnp.float32), KEY)
    with jax.threefry_partitionable(False):
        assert not supports(numbers(1), KEY)
    with jax.enable_x64(True):
        assert not supports(numbers(1), KEY)
    with native.aside():
        assert not supports(numbers(1), KEY)


def test_layers():
    """Dropout in a training step calls a kernel; dropout of whole channels does not."""

    def said(layer):
        graphdef, state = nnx.split(layer)

        def run(state, x):
            layer = nnx.merge(graphdef, state)
            return layer(x)

        return explain(run, state, numbers(2, 3, 4, 5))

    assert said(Dropout(0.5, rngs=nnx.Rngs(0))) == ["dropout of 2 × 3 × 4 × 5"]
    assert said(Dropout2d(0.5, rngs=nnx.Rngs(0))) == []
    assert calls(lambda x: kernel(0.5)(x, KEY), numbers(3)) == 1


@pytest.mark.slow
def test_without_avx_512(vectors_of_32_bytes):
    test_the_same_numbers_are_dropped(0.5, (3, 5, 7))
