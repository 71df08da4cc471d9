"""A logarithm of probabilities that is finite at zero, with a finite gradient."""

import jax
import jax.numpy as jnp
import numpy as np

#: The lower limit of the logarithm of a probability in PyTorch's ``binary_cross_entropy``.
LEAST_LOGARITHM = -100.0


def least_divisor(dtype: np.dtype) -> float:
    """Returns the smallest divisor in a gradient: 1e-12, or the smallest normal float16.

    In PyTorch the constant 1e-12 is rounded to single precision, also for float64.
    """
    return max(float(np.float32(1e-12)), float(jnp.finfo(dtype).tiny))


@jax.custom_jvp
def clamped_log(probabilities: jax.Array) -> jax.Array:
    """Computes the logarithm, limited to at least -100.

    The derivative is 1 / p, limited to at most 1e12, so it is not zero below the limit.
    """
    return jnp.maximum(jnp.log(probabilities), LEAST_LOGARITHM)


@clamped_log.defjvp
def _derivative(
    primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (probabilities,), (tangent,) = primals, tangents
    divisor = jnp.maximum(probabilities, least_divisor(probabilities.dtype))
    return clamped_log(probabilities), tangent / divisor
