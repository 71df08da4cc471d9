"""From floating-point numbers to integers and back, as ``torch.ao.quantization`` computes it."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

#: The integers of weights, by their bits: PyTorch's qint8, and those of four bits.
ENDS = {8: (-128, 127), 4: (-8, 7)}
#: PyTorch's smallest scale of an observer, and that of an array whose range is measured in a call.
_EPS, _SMALLEST = np.finfo(np.float32).eps, np.float32(6.1e-5)
#: Without the last 12 bits of a float32, so that its product with a small integer is exact.
_HIGH = np.uint32(0xFFFFF000)


def largest(reduce_range: bool) -> int:
    """The largest integer of an activation, whose smallest is 0."""
    return 127 if reduce_range else 255


def symmetric_scale(most: np.ndarray, bits: int) -> np.ndarray:
    """The scale of numbers in [-most, most] whose zero point is 0: 2 · most / (integers - 1)."""
    low, high = ENDS[bits]
    return np.maximum(np.asarray(most, np.float32) / np.float32((high - low) / 2), _EPS)


def affine_scale(low: float, high: float, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The scale and the zero point of numbers in [low, high], as PyTorch's observers compute them.

    Args:
        low: the smallest number.
        high: the largest.
        most: the largest integer.

    Returns:
        A float32 and an int32.
    """
    below, above = np.float32(min(low, 0)), np.float32(max(high, 0))
    scale = np.maximum((above - below) / np.float32(most), _EPS)
    zero = np.clip(-np.rint(below / scale), 0, most)
    return np.asarray(scale, np.float32), np.asarray(zero, np.int32)


def rounded(x: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    """The int8 numbers of a weight: x / scale, to the nearest, ties to even."""
    integers = np.rint(x.astype(np.float32) * (np.float32(1) / scale))
    return np.clip(integers, *ENDS[bits]).astype(np.int8)


def packed(integers: np.ndarray) -> np.ndarray:
    """Integers [rows, n] of four bits, two to a byte: the first of two is in its lower half."""
    even = np.pad(integers, ((0, 0), (0, integers.shape[1] % 2)))
    return ((even[:, ::2] & 15) | (even[:, 1::2] << 4)).astype(np.uint8)


def unpacked(two: jax.Array, n: int) -> jax.Array:
    """The int8 numbers [rows, n] that were ``packed``."""
    signed = two.astype(jnp.int8)
    both = jnp.stack([(signed << 4) >> 4, signed >> 4], axis=-1)  # the sign moves along
    return both.reshape(len(two), 2 * two.shape[1])[:, :n]


def quantized(x: jax.Array, scale: jax.Array, zero: jax.Array, most: int) -> jax.Array:
    """The integers of an activation, uint8: x / scale + zero, to the nearest, ties to even."""
    steps = lax.round(x * (1 / scale), lax.RoundingMethod.TO_NEAREST_EVEN)
    return jnp.clip(steps + zero.astype(x.dtype), 0, most).astype(jnp.uint8)


def range_scale(low: jax.Array, high: jax.Array, most: int) -> tuple[jax.Array, jax.Array]:
    """The scale and the zero point of numbers in [low, high], as a dynamic layer computes them.

    PyTorch does so in float64. Here the float32 differences and quotients are corrected by what
    they round off, so that the same float32 results without 64-bit numbers.

    Args:
        low: the smallest numbers, float32 of any shape.
        high: the largest.
        most: the largest integer.

    Returns:
        float32 and int32 arrays of that shape.
    """
    below, high = -jnp.minimum(low, 0), jnp.maximum(high, 0)
    span = high + below
    added = span - high
    rest = (high - (span - added)) + (below - added)  # of the exact sum
    factor = np.float32(1 / most)
    quotient = span * factor
    left = _product_from(span, quotient, most) + rest
    scale = quotient + left * factor
    # The zero point is below · most / span: what float32 makes of it may be the integer beside it.
    zero = lax.round(below / jnp.where(scale > 0, scale, 1), lax.RoundingMethod.TO_NEAREST_EVEN)
    parts = _split(below)
    left = (parts[0] * most - _split(span)[0] * zero) + (
        parts[1] * most - _split(span)[1] * zero - rest * zero
    )
    odd, half = zero % 2 == 1, span / 2
    zero = zero + jnp.where((left > half) | (odd & (left == half)), 1, 0)
    zero = zero - jnp.where((left < -half) | (odd & (left == -half)), 1, 0)
    scale = jnp.where(scale > 0, jnp.maximum(scale, _SMALLEST), jnp.float32(0.1))
    # A range that is not a number has no integers: the outputs say so by their scale.
    scale = jnp.where(jnp.isfinite(span), scale, jnp.nan)
    return scale, jnp.clip(jnp.nan_to_num(zero), 0, most).astype(jnp.int32)


def _split(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """X as the sum of its 12 highest bits and the rest."""
    bits = lax.bitcast_convert_type(x, jnp.uint32)
    high = lax.bitcast_convert_type(bits & _HIGH, jnp.float32)
    return high, x - high


def _product_from(x: jax.Array, quotient: jax.Array, integer: int) -> jax.Array:
    """X - quotient · integer, without rounding the product."""
    high, low = _split(quotient)
    return (x - high * integer) - low * integer
