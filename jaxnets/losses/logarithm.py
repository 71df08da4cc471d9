"""A logarithm of probabilities that stays finite at zero, and so does its gradient."""

import jax
import jax.numpy as jnp
import numpy as np

#: Where PyTorch's ``binary_cross_entropy`` stops the logarithm of a probability.
LEAST_LOGARITHM = -100.0


def least_divisor(dtype: np.dtype) -> float:
    """The least that a gradient is divided by: 1e-12, or the least that float16 can hold.

    PyTorch writes 1e-12 as a constant of single precision, in float64 too.
    """
    return max(float(np.float32(1e-12)), float(jnp.finfo(dtype).tiny))


@jax.custom_jvp
def clamped_log(probabilities: jax.Array) -> jax.Array:
    """The logarithm, at least -100; its derivative, at most 1e12, does not vanish there."""
    return jnp.maximum(jnp.log(probabilities), LEAST_LOGARITHM)


@clamped_log.defjvp
def _derivative(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (probabilities,), (tangent,) = primals, tangents
    divisor = jnp.maximum(probabilities, least_divisor(probabilities.dtype))
    return clamped_log(probabilities), tangent / divisor
