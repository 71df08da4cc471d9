"""The integer matrix product of quantized layers."""

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
    """Computes scale · weight_scale · (x - zero) Wᵀ + bias, with an integer product.

    The sums are int32, and exact for fewer than 65,000 inputs.

    Args:
        scale: the scale of x, float32 [rows], or [1] for all rows.
        weight_scale: the scale of W, float32 [outputs].
        bias: the bias, float32 [outputs].
        x: the inputs, uint8 [rows, inputs].
        zero: the zero point of x, int32 of the shape of ``scale``.
        weight: the weight W, int8 [outputs, inputs].

    Returns:
        The outputs, float32 [rows, outputs].
    """
    # A product of int8 with int8 is fast: 128 is subtracted from x, which is an exclusive or with
    # the sign bit, and 128 times the sums of W is added to the result.
    less = lax.bitcast_convert_type(x ^ jnp.uint8(128), jnp.int8)
    ways = (((1,), (1,)), ((), ()))
    sums = lax.dot_general(less, weight, ways, preferred_element_type=jnp.int32)
    # The barrier prevents XLA from folding the sums of a constant weight when it compiles, which
    # takes seconds.
    weight = lax.optimization_barrier(weight)
    of_weight = weight.sum(axis=1, dtype=jnp.int32)
    sums = sums + (128 - zero)[:, None] * of_weight[None]
    return sums.astype(jnp.float32) * (scale[:, None] * weight_scale[None]) + bias[None]
