"""Local response normalization over neighbouring channels, channels last."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxnets.arrays import ArrayLike, check_floats, check_number, check_positive


def local_response_norm(
    input: ArrayLike, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> jax.Array:
    """``torch.nn.functional.local_response_norm``: x / (k + alpha · mean of squares)^beta.

    The mean is over ``size`` neighbouring channels, of which size // 2 are before each channel.
    Channels beyond the first and last count as zeros.

    Args:
        input: [N, ..., C], of at least three axes.
        size: the number of neighbouring channels.
        alpha: the factor of the mean.
        beta: the exponent.
        k: added to the mean.

    Returns:
        An array of the shape and dtype of the input.

    Raises:
        InputError: if the input has fewer axes or is not floating, or a number is invalid.
    """
    check_floats("input", input, ("...", "N", "L", "C"))
    return LocalResponseNorm(size, alpha, beta, k)(input)


class LocalResponseNorm(nnx.Module):
    """``torch.nn.LocalResponseNorm``: x / (k + alpha · mean of squares)^beta.

    Args:
        size: the number of neighbouring channels; see ``local_response_norm``.
        alpha: the factor of the mean.
        beta: the exponent.
        k: added to the mean.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        self.size = check_positive("size", size)
        self.alpha, self.beta, self.k = _numbers(alpha, beta, k)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Normalizes x [N, ..., C], of at least three axes."""
        check_floats("x", x, ("...", "N", "L", "C"))
        x = jnp.asarray(x)
        mean = _windows(jnp.square(x), self.size, self.size // 2) / self.size
        return x / (self.k + self.alpha * mean) ** self.beta


class CrossMapLRN2d(nnx.Module):
    """``torch.nn.CrossMapLRN2d``: x / (k + alpha / size · sum of squares)^beta.

    PyTorch's layer deviates from this formula, and this layer reproduces its results. The sum for
    channel c is over the channels c - r to c + r with r = ⌊(size - 1) / 2⌋, and always includes
    channel 0. The gradient is that of windows that start one channel earlier.

    Args:
        size: the number of neighbouring channels.
        alpha: the factor of the sum, which is divided by the size.
        beta: the exponent.
        k: added to the sum.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1) -> None:
        self.size = check_positive("size", size)
        self.alpha, self.beta, self.k = _numbers(alpha, beta, k)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Normalizes images x [N, H, W, C].

        Raises:
            InputError: if x has another number of axes, or is not floating.
        """
        check_floats("x", x, ("N", "H", "W", "C"))
        return _across_maps(jnp.asarray(x), self.size, self.alpha, self.beta, self.k)


def _numbers(alpha: float, beta: float, k: float) -> tuple[float, float, float]:
    return check_number("alpha", alpha), check_number("beta", beta), check_number("k", k)


def _windows(values: jax.Array, size: int, before: int) -> jax.Array:
    """Computes the sum over ``size`` channels, of which ``before`` are before each channel."""
    sizes = (*[1] * (values.ndim - 1), size)
    padding = (*[(0, 0)] * (values.ndim - 1), (before, size - 1 - before))
    return lax.reduce_window(values, 0.0, lax.add, sizes, (1,) * values.ndim, padding)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _across_maps(x: jax.Array, size: int, alpha: float, beta: float, k: float) -> jax.Array:
    return x * _energies(x, size, alpha, k) ** -beta


def _energies(x: jax.Array, size: int, alpha: float, k: float) -> jax.Array:
    squares, radius = jnp.square(x), (size - 1) // 2
    sums = _windows(squares, 2 * radius + 1, radius)
    # As in PyTorch, channel 0 is added to the windows that do not contain it.
    first = jnp.broadcast_to(squares[..., :1], (*x.shape[:-1], max(x.shape[-1] - radius - 1, 0)))
    within = jnp.zeros_like(squares[..., : radius + 1])
    return k + alpha / size * (sums + jnp.concatenate([within, first], axis=-1))


def _across_maps_forward(
    x: jax.Array, size: int, alpha: float, beta: float, k: float
) -> tuple[jax.Array, jax.Array]:
    return _across_maps(x, size, alpha, beta, k), x


def _across_maps_backward(
    size: int, alpha: float, beta: float, k: float, x: jax.Array, g: jax.Array
) -> tuple[jax.Array]:
    energies = _energies(x, size, alpha, k)
    y = x * energies**-beta
    sums = _windows(g * y / energies, size, (size + 1) // 2)
    return (g * energies**-beta - 2 * alpha * beta / size * x * sums,)


_across_maps.defvjp(_across_maps_forward, _across_maps_backward)
