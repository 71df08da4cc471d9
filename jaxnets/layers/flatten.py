"""Flattens images and sequences to vectors and back, in PyTorch's order of elements."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    as_array,
    check_bool,
    check_floats,
    check_integer,
    describe,
    entries,
)


def flatten(x: ArrayLike) -> jax.Array:
    """Flattens all axes after the batch, channel by channel: ``torch.flatten(x, 1)``.

    In PyTorch images are [N, C, H, W] and are flattened channel by channel. Here images are
    [N, H, W, C], so the channels are moved to the second axis first. The weights of a following
    linear layer are then the same as in PyTorch.

    Args:
        x: [N, ..., C], of rank 2 or more.

    Returns:
        [N, C · ...]; a matrix is returned unchanged.

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


def flatten_to(size: int, inputs: ArrayLike) -> jax.Array:
    """Flattens [batch, ...] to [batch, size] in PyTorch's order, and checks the size.

    Raises:
        InputError: if the inputs are not floating-point examples of ``size`` values.
    """
    check_floats("inputs", inputs, ("...",))
    if len(inputs.shape) < 2 or math.prod(inputs.shape[1:]) != size:
        raise InputError("inputs", f"a batch of examples of {size} values", describe(inputs))
    return flatten(inputs)


class Flatten(nnx.Module):
    """``torch.nn.Flatten``: ``flatten`` as a layer.

    Args:
        start_dim: the first axis that is flattened, which must be 1.
        end_dim: the last axis that is flattened, which must be -1.
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        for name, value, only in (("start_dim", start_dim, 1), ("end_dim", end_dim, -1)):
            if check_integer(name, value) != only:
                raise InputError(name, f"{only}, as all axes after the batch are flattened", value)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Flattens [N, ..., C] to [N, C · ...]."""
        return flatten(x)


class Unflatten(nnx.Module):
    """``torch.nn.Unflatten``: reshapes vectors to images, the inverse of ``Flatten``.

    Args:
        dim: the axis that is unflattened; with ``channels_last`` it must be 1 or -1, the features.
        unflattened_size: the sizes as in PyTorch, channels first: (C, H, W) results in
            [N, H, W, C]. One of the sizes may be -1.
        channels_last: whether to move the channels to the end, for images, signals and volumes.
            With False the axis is replaced by the new axes in order: (T, F) results in a sequence
            [N, T, F].

    Raises:
        InputError: if an argument is invalid; on a call, if the sizes do not multiply to the size
            of the axis.

    Examples:
        >>> Unflatten(1, (64, 7, 7))(jnp.ones((8, 3136))).shape
        (8, 7, 7, 64)
        >>> Unflatten(-1, (4, 16), channels_last=False)(jnp.ones((8, 5, 64))).shape
        (8, 5, 4, 16)
    """

    def __init__(
        self, dim: int, unflattened_size: Sequence[int], *, channels_last: bool = True
    ) -> None:
        self.dim = check_integer("dim", dim)
        self.channels_last = check_bool("channels_last", channels_last)
        if self.channels_last and dim not in (1, -1):
            raise InputError("dim", "1, the features, unless channels_last=False", dim)
        given = entries(unflattened_size)
        if not given:
            raise InputError("unflattened_size", "a tuple of sizes", unflattened_size)
        self.unflattened_size = tuple(check_integer("unflattened_size", n) for n in given)
        if any(n < 1 and n != -1 for n in given) or self.unflattened_size.count(-1) > 1:
            raise InputError("unflattened_size", "positive sizes, at most one of them -1", given)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Unflattens [N, C · ...] to [N, ..., C], or one axis of any array."""
        x = as_array("x", x)
        if self.channels_last and x.ndim != 2:
            raise InputError("x", "[N, features], unless channels_last=False", describe(x))
        if not -x.ndim <= self.dim < x.ndim:
            raise InputError("x", f"an array with an axis {self.dim}", describe(x))
        dim, size = self.dim % x.ndim, x.shape[self.dim]
        known = math.prod(n for n in self.unflattened_size if n != -1)
        sizes = [size // known if n == -1 else n for n in self.unflattened_size]
        if math.prod(sizes) != size:
            of = "a multiple of " if -1 in self.unflattened_size else ""
            raise InputError("x", f"{of}{known} values along axis {self.dim}", describe(x))
        y = x.reshape(*x.shape[:dim], *sizes, *x.shape[dim + 1 :])
        return jnp.moveaxis(y, 1, -1) if self.channels_last else y
