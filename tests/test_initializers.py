"""Initial distributions drawn by NumPy compared with JAX's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import initializers
from tests import tier

# With optimizations, as users have them, XLA rounds a product and a sum only once.
pytestmark = pytest.mark.usefixtures("optimized")


def by_jax(key, shape, bound, dtype=jnp.float32):
    return jax.random.uniform(key, shape, dtype, minval=-bound, maxval=bound)


def drawn(initializer, shape, seed=0):
    return np.asarray(initializer(jax.random.key(seed), shape))


@pytest.mark.parametrize("bound", [784**-0.5, 1 / 3, 0.1, 1.0, 0.0])
@pytest.mark.parametrize("shape", tier.one_in(2, [(), (7,), (0, 3), (33, 5, 2), (300, 400)]))
def test_numpy_draws_the_bits_of_jax(shape, bound):
    for seed in range(5):
        key = jax.random.fold_in(jax.random.key(seed), seed)
        ours = initializers.uniform(-bound, bound)(key, shape)
        assert ours.dtype == jnp.float32
        np.testing.assert_array_equal(ours, by_jax(key, shape, bound), strict=True)


@pytest.mark.slow
def test_numpy_draws_the_bits_of_jax_between_any_ends():
    for seed, (a, b) in enumerate([(0.0, 1.0), (0.2, 3.0), (-5.0, -1e-3)]):
        expected = jax.random.uniform(jax.random.key(seed), (40, 5), minval=a, maxval=b)
        np.testing.assert_array_equal(drawn(initializers.uniform(a, b), (40, 5), seed), expected)


def test_no_program_is_compiled_for_a_shape(monkeypatch):
    monkeypatch.delattr(jax.random, "uniform")
    assert initializers.uniform(-0.1, 0.1)(jax.random.key(0), (3, 5)).shape == (3, 5)


@pytest.mark.slow
def test_other_keys_and_dtypes_are_drawn_by_jax():
    draw, key = initializers.uniform(-0.3, 0.3), jax.random.key(3)
    within = jax.jit(lambda key: draw(key, (5,)))(key)
    np.testing.assert_array_equal(within, by_jax(key, (5,), 0.3))
    many = jax.vmap(lambda key: draw(key, (5,)))(jax.random.split(key, 2))
    np.testing.assert_array_equal(many[1], by_jax(jax.random.split(key, 2)[1], (5,), 0.3))
    half = draw(key, (5,), jnp.float16)
    np.testing.assert_array_equal(half, by_jax(key, (5,), 0.3, jnp.float16), strict=True)
    with jax.enable_x64(True):
        wide = draw(key, (5,), jnp.float64)
        np.testing.assert_array_equal(wide, by_jax(key, (5,), 0.3, jnp.float64), strict=True)
    for other in (jax.random.PRNGKey(3), jax.random.key(3, impl="rbg")):
        np.testing.assert_array_equal(draw(other, (5,)), by_jax(other, (5,), 0.3))
    with jax.threefry_partitionable(False):
        np.testing.assert_array_equal(draw(key, (5,)), by_jax(key, (5,), 0.3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: initializers.normal(std=-1), "std: expected a finite number >= 0, got -1"),
        (lambda: initializers.uniform(0.1, -0.1), "b: expected a finite number >= 0.1, got -0.1"),
        (lambda: initializers.trunc_normal(std=0), "std: expected a finite number > 0, got 0"),
        (lambda: initializers.trunc_normal(a=2.0), "b: expected a finite number > 2, got 2"),
        (lambda: initializers.dirac(0), "groups: expected a positive integer, got 0"),
        (lambda: initializers.sparse(1.5), r"sparsity: expected a number in \[0, 1\], got 1.5"),
        (lambda: initializers.kaiming_normal(mode="fan"), "mode: expected one of fan_in, fan_out"),
        (
            lambda: initializers.calculate_gain("gelu"),
            "nonlinearity: expected one of linear, sigmoid, .*, got gelu",
        ),
        (lambda: drawn(initializers.eye(), (2, 3, 4)), r"shape: expected a kernel's \[I, O\], got"),
        (
            lambda: drawn(initializers.xavier_uniform(), (3,)),
            r"shape: expected a kernel's \[\.\.\., I, O\], got \(3,\)",
        ),
        (
            lambda: drawn(initializers.dirac(), (3, 3)),
            r"shape: expected a convolution's \[\.\.\., I, O\] of 3 to 5 axes, got",
        ),
        (
            lambda: drawn(initializers.dirac(2), (3, 3, 5)),
            "shape: expected a last axis that is a multiple of 2 groups, got",
        ),
        (lambda: initializers.fan_in_uniform(-1), "fan_in: expected an integer >= 0, got -1"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
