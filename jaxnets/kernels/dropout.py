"""Dropout by a native kernel that generates the same random bits as JAX."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxnets.kernels import native
from jaxnets.kernels.geometry import Shaped
from jaxnets.kernels.gradients import with_gradient


def supports(x: Shaped, key: Shaped) -> bool:
    """Whether the kernel of ``dropout`` draws the same numbers as ``jax.random.bernoulli``."""
    return x.dtype == np.float32 and draws(x.shape, key) and native.ready("dropout", x)


def draws(shape: tuple[int, ...], key: Shaped) -> bool:
    """Whether kernels draw the same numbers as ``jax.random`` for this shape and key.

    They implement Threefry with 32-bit counters, in JAX's partitionable form.
    """
    config: Any = jax.config
    # With jax_enable_x64, ``jax.random.bernoulli`` compares 64-bit draws.
    usual = config.jax_threefry_partitionable and not config.jax_enable_x64
    threefry = key.shape == () and str(key.dtype) == "key<fry>"
    return bool(usual) and threefry and 0 < math.prod(shape) < 2**32


def attributes(rate: float) -> dict[str, Any]:
    """Returns the kernels' settings of dropout: the scale of kept values, and a threshold.

    ``jax.random.uniform`` uses the upper 23 bits of a draw, so u < keep is a comparison of these
    bits with an integer.
    """
    keep = 1.0 - rate
    limit = math.ceil(float(np.float32(keep)) * 2**23)
    return {"factor": np.float64(1 / keep), "limit": np.uint32(limit)}


def dropout(rate: float, plain: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Makes dropout that a kernel computes: values are dropped, or divided by 1 - rate.

    Args:
        rate: the probability of dropping a value.
        plain: the same function in XLA's operations.

    Returns:
        A function of x and a key that returns an array of x's shape.
    """

    def call(x: jax.Array, key: jax.Array, *, gradient: bool) -> jax.Array:
        result, words = jax.ShapeDtypeStruct(x.shape, x.dtype), jax.random.key_data(key)
        settings = attributes(rate) | {"gradient": np.int32(gradient)}
        return native.call("dropout", "dropout", [result], x, words, **settings)[0]

    def run(x: jax.Array, key: jax.Array) -> jax.Array:
        return call(x, key, gradient=False)

    def keep(x: jax.Array, key: jax.Array) -> tuple[jax.Array, tuple[()]]:
        return run(x, key), ()

    def pull_back(inputs: tuple, kept: tuple[()], d: jax.Array) -> tuple:
        # The mask is generated again from the key, so that it need not be kept in memory.
        return call(d, inputs[1], gradient=True), None

    return with_gradient(run, keep, pull_back, plain)
