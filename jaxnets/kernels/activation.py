"""Exact GELU, sine and cosine by native kernels, with their derivatives."""

import math
from collections.abc import Callable

import jax

from jaxnets.kernels import native
from jaxnets.kernels.geometry import Shaped
from jaxnets.kernels.gradients import with_gradient

#: Number of elements from which a call for sine or cosine takes at most half of XLA's time.
LARGE = 512


def supports(x: Shaped) -> bool:
    """Whether the kernels of ``gelu`` can run this, and are faster than XLA's operations."""
    return x.ndim > 0 and math.prod(x.shape) > 0 and native.ready("activation", x)


def supports_sines(x: Shaped) -> bool:
    """Whether the kernels of sine and cosine can run this, and are faster than XLA's operations."""
    return math.prod(x.shape) >= LARGE and supports(x)


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


@jax.custom_jvp
def sine(x: jax.Array) -> jax.Array:
    """Returns the sine of each element."""
    return _sines("sine", x)[0]


@jax.custom_jvp
def cosine(x: jax.Array) -> jax.Array:
    """Returns the cosine of each element."""
    return _sines("cosine", x)[0]


@jax.custom_jvp
def sine_and_cosine(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the sine and the cosine of each element, for little more time than one of them."""
    first, second = _sines("sine_and_cosine", x)
    return first, second


def _sines(name: str, x: jax.Array) -> list[jax.Array]:
    each = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return native.call("activation", name, [each] * (1 + (name == "sine_and_cosine")), x)


# The derivatives of both functions are these functions again, so kernels compute derivatives of any
# order, forwards and backwards. What a gradient needs is computed together with the result.


@sine.defjvp
def _sine_jvp(x: tuple, d: tuple) -> tuple[jax.Array, jax.Array]:
    made, slope = sine_and_cosine(*x)
    return made, d[0] * slope


@cosine.defjvp
def _cosine_jvp(x: tuple, d: tuple) -> tuple[jax.Array, jax.Array]:
    slope, made = sine_and_cosine(*x)
    return made, d[0] * -slope


@sine_and_cosine.defjvp
def _both_jvp(x: tuple, d: tuple) -> tuple[tuple, tuple]:
    first, second = sine_and_cosine(*x)
    return (first, second), (d[0] * second, d[0] * -first)
