"""GELU, sine and cosine by native kernels compared with XLA's and NumPy's functions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.kernels import explain, native, with_kernels
from jaxnets.kernels.activation import (
    cosine,
    gelu,
    sine,
    sine_and_cosine,
    supports,
    supports_sines,
)
from jaxnets.layers import GELU
from jaxnets.layers.activation_functions import exact_gelu
from tests.kernels import assert_close, precisions

kernel = gelu(exact_gelu)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


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


@dtypes
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


def angles(dtype):
    """Angles of many sizes, and those next to multiples of a quarter of π."""
    random = np.random.default_rng(0)
    most = 1e5 if dtype == np.float32 else 1e7
    logs = np.exp(random.uniform(-80, np.log(most), 4001))
    quarters = random.integers(0, int(most), 4001) * np.pi / 4
    given = [random.uniform(-10, 10, 4001), random.uniform(-most, most, 4001), logs, quarters]
    return np.concatenate(given).astype(dtype)


def check_sines(dtype):
    x = angles(dtype)
    wider = x.astype(np.float64 if dtype == np.float32 else np.longdouble)
    for function, exact in ((sine, np.sin(wider)), (cosine, np.cos(wider))):
        units = np.spacing(np.abs(exact.astype(dtype)))
        assert np.max(np.abs(np.asarray(function(x)) - exact) / units) < 1.6
    np.testing.assert_array_equal(sine_and_cosine(x), [sine(x), cosine(x)])


@dtypes
def test_sine_and_cosine(dtype):
    check_sines(dtype)


@dtypes
@pytest.mark.parametrize(("function", "exact"), [(sine, np.sin), (cosine, np.cos)])
def test_sine_and_cosine_of_extreme_values(function, exact, dtype):
    given = np.asarray([0, -0.0, np.nan, np.inf, -np.inf, 1e5, 1.1e5, -3e9, 1e30, 1], dtype)
    ours = np.asarray(jax.jit(function)(given))
    with np.errstate(invalid="ignore"):
        wanted = exact(given)
    np.testing.assert_allclose(ours, wanted, 3 * np.finfo(dtype).eps, 0)
    np.testing.assert_array_equal(np.signbit(ours[:2]), np.signbit(wanted[:2]))


def test_an_angle_has_the_same_bits_beside_any_others():
    x = jnp.asarray(angles(np.float32))
    whole = sine(x.at[::3].set(1e30))
    np.testing.assert_array_equal(whole[1::3], sine(x[1::3]))


@pytest.mark.parametrize(("function", "plain"), [(sine, jnp.sin), (cosine, jnp.cos)])
def test_derivatives_of_sine_and_cosine(function, plain):
    x, d = jnp.linspace(-3, 3, 7), jnp.linspace(1, 2, 7)

    def derivatives(one):
        slope = jax.grad(lambda x: one(x) @ d)
        curve = jax.grad(lambda x: slope(x) @ d)
        return slope(x), curve(x), jax.grad(lambda x: curve(x) @ d)(x), jax.jvp(one, (x,), (d,))

    assert_close(jax.jit(derivatives, static_argnums=0)(function), derivatives(plain), 1e-14)


def test_networks_reach_the_kernels_of_sine_and_cosine():
    x = jnp.linspace(-3, 3, 600).reshape(4, 150)
    assert explain(lambda x: jnp.sin(3 * x) + 1, x) == ["sine of 4 × 150"]
    assert explain(jnp.cos, x) == ["cosine of 4 × 150"]
    both = ["sine and cosine of 4 × 150"]
    assert explain(lambda x: jnp.concatenate([jnp.sin(x), jnp.cos(x)]), x) == both
    assert explain(jax.grad(lambda x: jnp.sin(x).sum()), x) == both
    assert explain(jnp.sin, x[:, :9]) == []
    ours = with_kernels(lambda x: (jnp.cos(x), jnp.sin(x)))(x)
    np.testing.assert_array_equal(ours, (cosine(x), sine(x)))


def test_sines_of_constants_stay_with_xla():
    table = jnp.linspace(-3, 3, 600)
    assert explain(lambda x: x + jnp.sin(2 * table), table) == []
    places = explain(lambda x: x + jnp.sin(jnp.arange(600.0)), table)
    assert places == ["sine of 600"]  # XLA does not evaluate these in advance


def test_what_the_kernels_of_sine_and_cosine_take():
    assert supports_sines(jnp.zeros(512))
    assert supports_sines(jnp.zeros((2, 3, 100), jnp.bfloat16))
    assert not supports_sines(jnp.zeros(511))
    assert not supports_sines(jnp.zeros(512, np.float16))


@pytest.mark.slow
def test_without_avx_512(vectors_of_32_bytes):
    for dtype, tolerance in ((np.float32, 3e-7), (np.float64, 1e-15)):
        check(dtype, tolerance)
        check_sines(dtype)
