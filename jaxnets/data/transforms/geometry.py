"""Padding, cropping, resizing and reshaping of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    check_bool,
    check_choice,
    check_integer,
    check_number,
    describe,
    entries,
)
from jaxnets.data.transforms.checks import (
    check_images,
    check_pixels,
    fitting,
    height_and_width,
)
from jaxnets.data.transforms.transform import dtype_of_draws

PaddingMode = Literal["constant", "edge", "reflect", "symmetric"]


@dataclass(frozen=True, init=False)
class Pad:
    """Adds pixels around each image: ``torchvision.transforms.Pad``.

    Args:
        padding: number of pixels on each side; or (left and right, top and bottom); or (left, top,
            right, bottom), which is the form of the attribute.
        fill: value of the new pixels with ``"constant"``.
        padding_mode: ``"constant"``; ``"edge"`` repeats the nearest pixel; ``"reflect"`` mirrors
            the image at its outermost pixels; ``"symmetric"`` mirrors it at its edges, so that the
            outermost pixels occur twice.

    Raises:
        InputError: if an argument is invalid; on a call, if the input is not a batch of images, the
            dtype cannot represent ``fill``, or the padding of a mirrored image is larger than the
            image.
    """

    padding: tuple[int, int, int, int]
    fill: float
    padding_mode: PaddingMode

    def __init__(
        self,
        padding: int | Sequence[int],
        fill: float = 0,
        padding_mode: PaddingMode = "constant",
    ) -> None:
        several = entries(padding)
        given = (padding,) if several is None else several
        if len(given) not in (1, 2, 4):
            raise InputError("padding", "one, two or four integers >= 0", padding)
        sides = tuple(check_integer("padding", side, least=0) for side in given)
        check_choice("padding_mode", padding_mode, get_args(PaddingMode))
        object.__setattr__(self, "padding", sides * (4 // len(sides)))
        object.__setattr__(self, "fill", check_number("fill", fill))
        object.__setattr__(self, "padding_mode", padding_mode)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Pads a batch [B, H, W, C]."""
        x = check_images(x)
        left, top, right, bottom = self.padding
        widths = ((0, 0), (top, bottom), (left, right), (0, 0))
        if self.padding_mode == "constant":
            return jnp.pad(x, widths, constant_values=fitting("fill", self.fill, x.dtype))
        most = min(x.shape[1:3]) - (self.padding_mode == "reflect")
        if self.padding_mode != "edge" and max(self.padding) > most:
            raise InputError("padding", f"at most {most} for {describe(x)}", self.padding)
        return jnp.pad(x, widths, mode=self.padding_mode)


@dataclass(frozen=True, init=False)
class CenterCrop:
    """Crops the centre of each image: ``torchvision.transforms.CenterCrop``.

    Smaller images are first padded with zeros.

    Args:
        size: height and width; one number is used for both.

    Raises:
        InputError: if ``size`` is not one or two positive integers; on a call, if the input is not
            a batch of images.
    """

    size: tuple[int, int]

    def __init__(self, size: int | Sequence[int]) -> None:
        object.__setattr__(self, "size", height_and_width("size", size))

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Crops a batch [B, H, W, C]."""
        x = check_images(x)
        missing = [max(0, want - have) for want, have in zip(self.size, x.shape[1:3], strict=True)]
        x = jnp.pad(x, ((0, 0), *((m // 2, (m + 1) // 2) for m in missing), (0, 0)))
        # Python's round, half to even, as in torchvision.
        top, left = (round((x.shape[1 + axis] - self.size[axis]) / 2) for axis in (0, 1))
        return x[:, top : top + self.size[0], left : left + self.size[1]]


@dataclass(frozen=True, init=False)
class Resize:
    """Resizes images by linear interpolation: ``torchvision.transforms.Resize``.

    Args:
        size: height and width; or one number for the shorter side, which keeps the aspect ratio.
        antialias: whether downscaling averages over all pixels that an output pixel covers.

    Raises:
        InputError: if ``size`` is not one or two positive integers; on a call, if the input is not
            a batch of images, uint8 (for which the result is rounded) or floating.
    """

    size: int | tuple[int, int]
    antialias: bool

    def __init__(self, size: int | Sequence[int], antialias: bool = True) -> None:
        pair = height_and_width("size", size)
        object.__setattr__(self, "size", pair[0] if entries(size) is None else pair)
        object.__setattr__(self, "antialias", check_bool("antialias", antialias))

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Resizes a batch [B, H, W, C]."""
        x = check_pixels(check_images(x))
        shape = (x.shape[0], *self._target(*x.shape[1:3]), x.shape[3])
        pixels = x.astype(dtype_of_draws(x.dtype))
        resized = jax.image.resize(
            pixels, shape, "linear", antialias=self.antialias, precision=jax.lax.Precision.HIGHEST
        )
        return (jnp.round(resized) if x.dtype == jnp.uint8 else resized).astype(x.dtype)

    def _target(self, height: int, width: int) -> tuple[int, int]:
        if isinstance(self.size, tuple):
            return self.size
        if height <= width:
            return self.size, int(self.size * width / height)
        return int(self.size * height / width), self.size


@dataclass(frozen=True)
class ImageRows:
    """Reshapes images to sequences of rows: [B, H, W, C] becomes [B, H, W·C].

    For one channel this is ``x.reshape(-1, 28, 28)`` in the PyTorch tutorials that feed MNIST to an
    LSTM.

    Raises:
        InputError: on a call, if the batch does not have four axes.
    """

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Reshapes a batch."""
        x = check_images(x)
        batch, height, width, channels = x.shape
        return x.reshape(batch, height, width * channels)
