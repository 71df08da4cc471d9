"""From images or sequences to vectors, in PyTorch's order."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.arrays import ArrayLike, InputError, as_array, check_integer, describe


def flatten(x: ArrayLike) -> jax.Array:
    """Flattens everything after the batch, the channels slowest: ``torch.flatten(x, 1)``.

    PyTorch holds images as [N, C, H, W] and so numbers them channel by channel. Ours are
    [N, H, W, C]; the channels are moved to the front first, so that PyTorch's weights of the next
    linear layer fit as they are.

    Args:
        x: [N, ..., C], of rank 2 or more.

    Returns:
        [N, C · ...]; a matrix comes back unchanged.

    Raises:
        InputError: if x has fewer than two axes.

    Examples:
        >>> image = jnp.asarray([[[[1, 10], [2, 20], [3, 30]]]])  # [1, 1, 3, 2]
        >>> flatten(image).tolist()
        [[1, 2, 3, 10, 20, 30]]
    """
    x = as_array("x", x)
    if x.ndim < 2:
        raise InputError("x", "an array [N, ..., C] of rank 2 or more", describe(x))
    return jnp.moveaxis(x, -1, 1).reshape(x.shape[0], math.prod(x.shape[1:]))


class Flatten(nnx.Module):
    """``torch.nn.Flatten``: ``flatten`` as a layer.

    Args:
        start_dim: 1, the first axis that is flattened.
        end_dim: -1, the last one.
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        for name, value, only in (("start_dim", start_dim, 1), ("end_dim", end_dim, -1)):
            if check_integer(name, value) != only:
                raise InputError(name, f"{only}, as all axes but the batch are flattened", value)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Flattens [N, ..., C] to [N, C · ...]."""
        return flatten(x)
