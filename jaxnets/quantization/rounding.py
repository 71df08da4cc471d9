"""Scales, zero points and rounding, with the same results as ``torch.ao.quantization``."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

#: The smallest and largest integer of weights, by bits.
ENDS = {8: (-128, 127), 4: (-8, 7)}
#: PyTorch's smallest scale of an observer, and its smallest scale of a dynamic range.
_EPS, _SMALLEST = np.finfo(np.float32).eps, np.float32(6.1e-5)
#: A mask without the last 12 bits of a float32, whose product with a small integer is then exact.
_HIGH = np.uint32(0xFFFFF000)


def largest(reduce_range: bool) -> int:
    """Returns the largest integer of an activation; the smallest is 0."""
    return 127 if reduce_range else 255


def symmetric_scale(most: np.ndarray, bits: int) -> np.ndarray:
    """Returns the scale for numbers in [-most, most] with zero point 0: 2 · most / (2^bits - 1)."""
    low, high = ENDS[bits]
    return np.maximum(np.asarray(most, np.float32) / np.float32((high - low) / 2), _EPS)


def affine_scale(low: float, high: float, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Computes the scale and the zero point for numbers in [low, high], as PyTorch's observers.

    Args:
        low: the smallest number.
        high: the largest number.
        most: the largest integer.

    Returns:
        The scale, float32, and the zero point, int32.
    """
    below, above = np.float32(min(low, 0)), np.float32(max(high, 0))
    scale = np.maximum((above - below) / np.float32(most), _EPS)
    zero = np.clip(-np.rint(below / scale), 0, most)
    return np.asarray(scale, np.float32), np.asarray(zero, np.int32)


def rounded(x: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    """Quantizes a weight to int8: x / scale, rounded to nearest, ties to even."""
    integers = np.rint(x.astype(np.float32) * (np.float32(1) / scale))
    return np.clip(integers, *ENDS[bits]).astype(np.int8)


def packed(integers: np.ndarray) -> np.ndarray:
    """Packs integers of 4 bits [rows, n] into bytes; the first of two is in the lower half."""
    even = np.pad(integers, ((0, 0), (0, integers.shape[1] % 2)))
    return ((even[:, ::2] & 15) | (even[:, 1::2] << 4)).astype(np.uint8)


def unpacked(two: jax.Array, n: int) -> jax.Array:
    """Unpacks the integers that ``packed`` packed, int8 [rows, n]."""
    signed = two.astype(jnp.int8)
    both = jnp.stack([(signed << 4) >> 4, signed >> 4], axis=-1)  # shifts extend the sign
    return both.reshape(len(two), 2 * two.shape[1])[:, :n]


def quantized(x: jax.Array, scale: jax.Array, zero: jax.Array, most: int) -> jax.Array:
    """Quantizes an activation to uint8: x / scale + zero, rounded to nearest, ties to even."""
    steps = lax.round(x * (1 / scale), lax.RoundingMethod.TO_NEAREST_EVEN)
    return jnp.clip(steps + zero.astype(x.dtype), 0, most).astype(jnp.uint8)


def range_scale(low: jax.Array, high: jax.Array, most: int) -> tuple[jax.Array, jax.Array]:
    """Computes the scale and the zero point for numbers in [low, high] in a dynamic layer.

    PyTorch computes in float64. Here, float32 differences and quotients are corrected by their
    rounding errors, which gives the same float32 results without 64-bit numbers.

    Args:
        low: the smallest numbers, float32 of any shape.
        high: the largest numbers, of the same shape.
        most: the largest integer.

    Returns:
        The scale, float32, and the zero point, int32, of the same shape.
    """
    below, high = -jnp.minimum(low, 0), jnp.maximum(high, 0)
    span = high + below
    added = span - high
    rest = (high - (span - added)) + (below - added)  # the rounding error of span (TwoSum)
    factor = np.float32(1 / most)
    quotient = span * factor
    left = _product_from(span, quotient, most) + rest
    scale = quotient + left * factor
    # The zero point is below · most / span. The float32 result may be off by one, so the exact
    # remainder decides.
    zero = lax.round(below / jnp.where(scale > 0, scale, 1), lax.RoundingMethod.TO_NEAREST_EVEN)
    parts = _split(below)
    left = (parts[0] * most - _split(span)[0] * zero) + (
        parts[1] * most - _split(span)[1] * zero - rest * zero
    )
    odd, half = zero % 2 == 1, span / 2
    zero = zero + jnp.where((left > half) | (odd & (left == half)), 1, 0)
    zero = zero - jnp.where((left < -half) | (odd & (left == -half)), 1, 0)
    scale = jnp.where(scale > 0, jnp.maximum(scale, _SMALLEST), jnp.float32(0.1))
    # for a range that is not finite, the scale and therefore the outputs are NaN
    scale = jnp.where(jnp.isfinite(span), scale, jnp.nan)
    return scale, jnp.clip(jnp.nan_to_num(zero), 0, most).astype(jnp.int32)


def _split(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Splits x into its 12 highest bits of mantissa and the rest."""
    bits = lax.bitcast_convert_type(x, jnp.uint32)
    high = lax.bitcast_convert_type(bits & _HIGH, jnp.float32)
    return high, x - high


def _product_from(x: jax.Array, quotient: jax.Array, integer: int) -> jax.Array:
    """Computes x - quotient · integer, without rounding the product."""
    high, low = _split(quotient)
    return (x - high * integer) - low * integer
