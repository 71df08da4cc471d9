"""The product of integers that quantized layers compute."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.kernels.marks import marked


@marked
def int8_linear(
    scale: jax.Array,
    weight_scale: jax.Array,
    bias: jax.Array,
    x: jax.Array,
    zero: jax.Array,
    weight: jax.Array,
) -> jax.Array:
    """Y = scale · weight_scale · (x - zero) Wᵀ + bias, whose product is of integers.

    The sums are int32, so they are exact for fewer than 65,000 inputs.

    Args:
        scale: of x, float32 [rows], or [1] for all rows.
        weight_scale: of W, float32 [outputs].
        bias: float32 [outputs].
        x: uint8 [rows, inputs].
        zero: the zero point of x, int32 of the shape of ``scale``.
        weight: W, int8 [outputs, inputs].

    Returns:
        float32 [rows, outputs].
    """
    # Both factors are to be int8: x is less by 128, and the sums are more by 128 times W's.
    less = lax.bitcast_convert_type(x ^ jnp.uint8(128), jnp.int8)
    ways = (((1,), (1,)), ((), ()))
    sums = lax.dot_general(less, weight, ways, preferred_element_type=jnp.int32)
    # Not when the program is compiled, which takes seconds for the sums of a large constant.
    weight = lax.optimization_barrier(weight)
    of_weight = weight.sum(axis=1, dtype=jnp.int32)
    sums = sums + (128 - zero)[:, None] * of_weight[None]
    return sums.astype(jnp.float32) * (scale[:, None] * weight_scale[None]) + bias[None]
