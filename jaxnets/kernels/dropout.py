"""Dropout by a native kernel that draws the bits of JAX's generator."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxnets.kernels import native
from jaxnets.kernels.geometry import Shaped
from jaxnets.kernels.gradients import with_gradient


def serves(x: Shaped, key: Shaped) -> bool:
    """Whether the kernel of ``dropout`` draws what ``jax.random.bernoulli`` would."""
    return x.dtype == np.float32 and draws(x.shape, key) and native.ready("dropout", x)


def draws(shape: tuple[int, ...], key: Shaped) -> bool:
    """Whether kernels draw so many numbers as ``jax.random`` does with this key."""
    config: Any = jax.config
    usual = config.jax_threefry_partitionable and not config.jax_enable_x64
    threefry = key.shape == () and str(key.dtype) == "key<fry>"
    return bool(usual) and threefry and 0 < math.prod(shape) < 2**32


def attributes(rate: float) -> dict[str, Any]:
    """What kernels know of dropout: the factor of what is kept, and the limit of its draws."""
    keep = 1.0 - rate
    limit = math.ceil(float(np.float32(keep)) * 2**23)
    return {"factor": np.float64(1 / keep), "limit": np.uint32(limit)}


def dropout(rate: float, plain: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Drops each number with some probability, and divides the others by that of their staying.

    Args:
        rate: the probability that a number is dropped.
        plain: the same function in XLA's operations.

    Returns:
        A function of x and a key, which gives an array of x's shape.
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
        return call(d, inputs[1], gradient=True), None

    return with_gradient(run, keep, pull_back, plain)
