"""Exact GELU by a native kernel, forward and backward."""

import math
from collections.abc import Callable

import jax

from jaxnets.kernels import native
from jaxnets.kernels.geometry import Shaped
from jaxnets.kernels.gradients import with_gradient


def supports(x: Shaped) -> bool:
    """Whether the kernels of ``gelu`` can run this, and are faster than XLA's operations."""
    return x.ndim > 0 and math.prod(x.shape) > 0 and native.ready("activation", x)


def gelu(plain: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """Makes exact GELU, x Φ(x) with Φ the normal distribution function, that kernels compute.

    Args:
        plain: the same function in XLA's operations.

    Returns:
        A function of an array of any shape that returns an array of the same shape.
    """

    def call(way: str, *arrays: jax.Array) -> jax.Array:
        results = [jax.ShapeDtypeStruct(arrays[0].shape, arrays[0].dtype)]
        return native.call("activation", f"gelu_{way}", results, *arrays)[0]

    def run(x: jax.Array) -> jax.Array:
        return call("forward", x)

    def keep(x: jax.Array) -> tuple[jax.Array, None]:
        return call("forward", x), None

    def pull_back(inputs: tuple, _: None, d: jax.Array) -> tuple[jax.Array]:
        return (call("backward", d, *inputs),)

    return with_gradient(run, keep, pull_back, plain)
