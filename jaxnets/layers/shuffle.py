"""Pixel shuffle and channel shuffle, channels last."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.arrays import ArrayLike, InputError, as_array, check_positive, describe


def pixel_shuffle(input: ArrayLike, upscale_factor: int) -> jax.Array:
    """Expands each pixel to r x r pixels: ``torch.nn.functional.pixel_shuffle``.

    Args:
        input: [..., H, W, C · r²], with the r² values of an output channel in succession.
        upscale_factor: r.

    Returns:
        [..., H · r, W · r, C].

    Raises:
        InputError: if the number of channels is not a multiple of r².

    Examples:
        >>> pixel_shuffle(jnp.arange(4).reshape(1, 1, 1, 4), 2)[0, :, :, 0].tolist()
        [[0, 1], [2, 3]]
    """
    r = check_positive("upscale_factor", upscale_factor)
    x = as_array("input", input)
    if x.ndim < 3 or x.shape[-1] % r**2:
        raise InputError("input", f"an array [..., H, W, C · {r**2}]", describe(x))
    *batch, height, width, channels = x.shape
    blocks = x.reshape(*batch, height, width, channels // r**2, r, r)
    ordered = jnp.moveaxis(blocks, (-2, -1), (-4, -2))  # [..., H, r, W, r, C]
    return ordered.reshape(*batch, height * r, width * r, channels // r**2)


def pixel_unshuffle(input: ArrayLike, downscale_factor: int) -> jax.Array:
    """Combines r x r pixels to one: ``torch.nn.functional.pixel_unshuffle``.

    Args:
        input: [..., H · r, W · r, C].
        downscale_factor: r.

    Returns:
        [..., H, W, C · r²]; ``pixel_shuffle`` is the inverse.

    Raises:
        InputError: if height or width is not a multiple of r.

    Examples:
        >>> pixel_unshuffle(jnp.arange(4).reshape(1, 2, 2, 1), 2).ravel().tolist()
        [0, 1, 2, 3]
    """
    r = check_positive("downscale_factor", downscale_factor)
    x = as_array("input", input)
    if x.ndim < 3 or x.shape[-3] % r or x.shape[-2] % r:
        raise InputError("input", f"an array [..., H · {r}, W · {r}, C]", describe(x))
    *batch, height, width, channels = x.shape
    blocks = x.reshape(*batch, height // r, r, width // r, r, channels)
    ordered = jnp.moveaxis(blocks, (-4, -2), (-2, -1))  # [..., H, W, C, r, r]
    return ordered.reshape(*batch, height // r, width // r, channels * r**2)


def channel_shuffle(input: ArrayLike, groups: int) -> jax.Array:
    """Interleaves the channels of groups: ``torch.nn.functional.channel_shuffle``.

    Args:
        input: [N, ..., C].
        groups: the number of groups of consecutive channels.

    Returns:
        [N, ..., C]: the first channel of each group, then the second of each, and so on.

    Raises:
        InputError: if the number of channels is not a multiple of ``groups``.

    Examples:
        >>> channel_shuffle(jnp.arange(6).reshape(1, 1, 6), 2).ravel().tolist()
        [0, 3, 1, 4, 2, 5]
    """
    check_positive("groups", groups)
    x = as_array("input", input)
    if x.ndim < 3 or x.shape[-1] % groups:
        raise InputError(
            "input", f"an array [N, ..., C] with C a multiple of {groups}", describe(x)
        )
    grouped = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    return jnp.swapaxes(grouped, -1, -2).reshape(x.shape)


class PixelShuffle(nnx.Module):
    """``torch.nn.PixelShuffle``: [N, H, W, C · r²] to [N, H · r, W · r, C].

    Args:
        upscale_factor: r.

    Raises:
        InputError: if the argument is not a positive integer; on a call, if the number of channels
            is not a multiple.
    """

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = check_positive("upscale_factor", upscale_factor)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Expands each pixel to r x r pixels; see ``pixel_shuffle``."""
        return pixel_shuffle(x, self.upscale_factor)


class PixelUnshuffle(nnx.Module):
    """``torch.nn.PixelUnshuffle``: [N, H · r, W · r, C] to [N, H, W, C · r²].

    Args:
        downscale_factor: r.

    Raises:
        InputError: if the argument is not a positive integer; on a call, if height or width is not
            a multiple of r.
    """

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = check_positive("downscale_factor", downscale_factor)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Combines r x r pixels to one; see ``pixel_unshuffle``."""
        return pixel_unshuffle(x, self.downscale_factor)


class ChannelShuffle(nnx.Module):
    """``torch.nn.ChannelShuffle``: interleaves the channels of groups, of [N, ..., C].

    Args:
        groups: the number of groups of consecutive channels.

    Raises:
        InputError: if the argument is not a positive integer; on a call, if the number of channels
            is not a multiple.
    """

    def __init__(self, groups: int) -> None:
        self.groups = check_positive("groups", groups)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Interleaves the channels; see ``channel_shuffle``."""
        return channel_shuffle(x, self.groups)
