"""Adjustment of brightness, contrast, saturation and hue of uint8 or float images in [0, 1]."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.arrays import ArrayLike, InputError, check_number, describe, entries
from jaxnets.data.transforms.checks import around, check_pixels, interval
from jaxnets.data.transforms.pixels import ToFloat
from jaxnets.data.transforms.transform import RandomTransform, dtype_of_draws

_GREY = (0.2989, 0.587, 0.114)  # weights of red, green and blue in grayscale
_WIDEST = 255.999  # a float in [0, 1] times this, truncated, is a uint8 pixel


def adjust_brightness(x: ArrayLike, factor: float | jax.Array) -> jax.Array:
    """Returns factor · x, clipped to the range of pixels; uint8 results are truncated.

    Args:
        x: images [..., H, W, C] with one or three channels.
        factor: 0 gives black, 1 does not change the images.

    Raises:
        InputError: if the images are invalid, or the factor is out of range.

    PyTorch: ``torchvision.transforms.functional.adjust_brightness``.
    """
    x = _images(x)
    return _blend(x, jnp.zeros_like(x), factor)


def adjust_contrast(x: ArrayLike, factor: float | jax.Array) -> jax.Array:
    """Returns factor · x + (1 - factor) · m, where m is the mean of the grayscale image.

    Args:
        x: see ``adjust_brightness``.
        factor: 0 gives uniform gray, 1 does not change the images.

    Raises:
        InputError: if the images are invalid, or the factor is out of range.

    PyTorch: ``torchvision.transforms.functional.adjust_contrast``.
    """
    x = _images(x)
    grey = _grey(x).astype(dtype_of_draws(x.dtype))
    return _blend(x, jnp.mean(grey, axis=(-3, -2, -1), keepdims=True), factor)


def adjust_saturation(x: ArrayLike, factor: float | jax.Array) -> jax.Array:
    """Returns factor · x + (1 - factor) · g, where g is the grayscale image.

    Images with one channel are not changed.

    Args:
        x: see ``adjust_brightness``.
        factor: 0 gives grayscale, 1 does not change the images.

    Raises:
        InputError: if the images are invalid, or the factor is out of range.

    PyTorch: ``torchvision.transforms.functional.adjust_saturation``.
    """
    x = _images(x)
    return x if x.shape[-1] == 1 else _blend(x, _grey(x), factor)


def adjust_hue(x: ArrayLike, factor: float | jax.Array) -> jax.Array:
    """Shifts the hue in HSV; images with one channel are not changed.

    Args:
        x: see ``adjust_brightness``.
        factor: the shift as a fraction of a full turn, from -0.5 to 0.5; 0 changes nothing.

    Raises:
        InputError: if the images are invalid, or the factor is out of range.

    PyTorch: ``torchvision.transforms.functional.adjust_hue``.
    """
    x, factor = _images(x), _factor(factor, -0.5, 0.5)
    if x.shape[-1] == 1:
        return x
    dtype = dtype_of_draws(x.dtype)
    pixels = ToFloat(dtype)(x)
    red, green, blue = jnp.moveaxis(pixels, -1, 0)
    value = jnp.max(pixels, axis=-1)
    chroma = value - jnp.min(pixels, axis=-1)
    divisor = jnp.where(chroma == 0, 1, chroma)  # the hue of gray is 0 with any divisor
    # The hue circle has six sectors. Red is at 0, green at 2, blue at 4.
    hue = jnp.where(
        value == red,
        (green - blue) / divisor,
        jnp.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hue = hue + 6 * jnp.asarray(factor, dtype)

    # A channel equals the value within one sector of its own position, value - chroma from two
    # sectors on, and is linear between.
    places = jnp.asarray([5, 3, 1], dtype).reshape((1,) * hue.ndim + (3,))
    away = (hue[..., None] + places) / 6
    away = 6 * (away - jnp.floor(away))  # several times faster than % on a CPU
    turned = value[..., None] - chroma[..., None] * jnp.clip(jnp.minimum(away, 4 - away), 0, 1)
    if x.dtype == jnp.uint8:
        turned = jnp.clip(turned, 0, 1) * _WIDEST
    return turned.astype(x.dtype)


@dataclass(frozen=True, init=False)
class ColorJitter(RandomTransform):
    """Brightness, contrast, saturation, hue, in random order: ``torchvision``'s ``ColorJitter``.

    Factors, which are uniform, and the order are drawn for each image. Use it before ``Normalize``,
    because floats must be in [0, 1].

    Args:
        brightness: the range of factors (low, high); a number b means (max(0, 1 - b), 1 + b),
            so that 0 changes nothing.
        contrast: the range of factors, like ``brightness``.
        saturation: the range of factors, like ``brightness``.
        hue: the range of shifts within (-0.5, 0.5); a number h means (-h, h).

    Raises:
        InputError: if a range is invalid; on a call, if the images are invalid.
    """

    brightness: tuple[float, float]
    contrast: tuple[float, float]
    saturation: tuple[float, float]
    hue: tuple[float, float]

    def __init__(
        self,
        brightness: float | Sequence[float] = 0,
        contrast: float | Sequence[float] = 0,
        saturation: float | Sequence[float] = 0,
        hue: float | Sequence[float] = 0,
    ) -> None:
        object.__setattr__(self, "brightness", _factors("brightness", brightness))
        object.__setattr__(self, "contrast", _factors("contrast", contrast))
        object.__setattr__(self, "saturation", _factors("saturation", saturation))
        object.__setattr__(self, "hue", interval("hue", around("hue", hue), -0.5, 0.5))

    def example(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """Changes one image [H, W, C]."""
        image = _images(image)
        settings = (
            (adjust_brightness, self.brightness, 1),
            (adjust_contrast, self.contrast, 1),
            (adjust_saturation, self.saturation, 1),
            (adjust_hue, self.hue, 0),
        )
        used = [(adjust, limits) for adjust, limits, same in settings if limits != (same, same)]
        order_key, factors_key = jax.random.split(key)
        draws = jax.random.uniform(factors_key, (len(used),), dtype_of_draws(image.dtype))
        adjustments = [
            functools.partial(adjust, factor=low + draw * (high - low))
            for (adjust, (low, high)), draw in zip(used, draws, strict=True)
        ]
        if not adjustments:
            return image
        order = jax.random.permutation(order_key, len(adjustments))

        # A loop, because XLA would fuse four unrolled rounds and recompute the earlier ones.
        def adjust(turn: int, image: jax.Array) -> jax.Array:
            return lax.switch(order[turn], adjustments, image)

        return lax.fori_loop(0, len(adjustments), adjust, image)


def _factors(name: str, value: float | Sequence[float]) -> tuple[float, float]:
    if entries(value) is not None:
        return interval(name, value, 0)
    reach = check_number(name, value, least=0)
    return max(0.0, 1 - reach), 1 + reach


def _images(x: ArrayLike) -> jax.Array:
    x = check_pixels(x)
    if x.shape[-1] not in (1, 3):
        raise InputError("x", "images of one or three channels", describe(x))
    return x


def _grey(x: jax.Array) -> jax.Array:
    """Converts images to grayscale, [..., H, W, 1], in their dtype; uint8 is truncated."""
    if x.shape[-1] == 1:
        return x
    pixels = x.astype(dtype_of_draws(x.dtype))
    red, green, blue = (share * pixels[..., i : i + 1] for i, share in enumerate(_GREY))
    return (red + green + blue).astype(x.dtype)


def _factor(factor: Any, least: float, most: float | None = None) -> Any:
    """Checks a factor if its value is known, that is, not under ``jax.jit``."""
    if isinstance(factor, jax.core.Tracer):
        return factor
    return check_number("factor", factor, least=least, most=most)


def _blend(x: jax.Array, other: jax.Array, factor: float | jax.Array) -> jax.Array:
    factor, dtype = _factor(factor, 0), dtype_of_draws(x.dtype)
    factor = jnp.asarray(factor, dtype)
    mixed = factor * x.astype(dtype) + (1 - factor) * other.astype(dtype)
    return jnp.clip(mixed, 0, 255 if x.dtype == jnp.uint8 else 1).astype(x.dtype)
