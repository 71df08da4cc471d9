"""Fixed and random rotation, translation, scaling and shearing of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import jax
import jax.numpy as jnp

from jaxnets.arrays import ArrayLike, InputError, check_choice, check_number, entries
from jaxnets.data.transforms.checks import around, check_images, interval
from jaxnets.data.transforms.sampling import Interpolation, inverse_matrix, sample
from jaxnets.data.transforms.transform import RandomTransform, dtype_of_draws


@dataclass(frozen=True, init=False)
class Affine:
    """Rotates, scales, shears and translates: ``torchvision.transforms.functional.affine``.

    The size of the images does not change, and the centre moves only by ``translate``.

    Args:
        angle: rotation in degrees, clockwise.
        translate: pixels to the right and downwards.
        scale: a positive factor.
        shear: degrees between -90 and 90: along x, or along x and along y.
        interpolation: ``"nearest"`` or ``"bilinear"``, which is rounded for uint8.
        fill: the value outside of the image. With ``"bilinear"``, a pixel at the border is a mean
            of the image and ``fill``; torchvision mixes in ``fill`` a second time.

    Raises:
        InputError: if an argument is invalid; on a call, if the input is not a batch of images, or
            the dtype cannot represent ``fill``.
    """

    angle: float
    translate: tuple[float, float]
    scale: float
    shear: tuple[float, float]
    interpolation: Interpolation
    fill: float

    def __init__(
        self,
        angle: float = 0,
        translate: Sequence[float] = (0, 0),
        scale: float = 1,
        shear: float | Sequence[float] = 0,
        interpolation: Interpolation = "nearest",
        fill: float = 0,
    ) -> None:
        settings: dict[str, Any] = {
            "angle": check_number("angle", angle),
            "translate": _pair("translate", translate),
            "scale": check_number("scale", scale, above=0),
            "shear": _shear(_pair("shear", (shear, 0) if entries(shear) is None else shear)),
            "interpolation": check_choice("interpolation", interpolation, get_args(Interpolation)),
            "fill": check_number("fill", fill),
        }
        for name, value in settings.items():
            object.__setattr__(self, name, value)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Transforms a batch [B, H, W, C]."""
        x = check_images(x)
        dtype = dtype_of_draws(x.dtype)
        settings = (self.angle, self.translate, self.scale, self.shear)
        matrix = inverse_matrix(*(jnp.asarray(setting, dtype) for setting in settings))
        return jax.vmap(lambda image: sample(image, matrix, self.interpolation, self.fill))(x)


@dataclass(frozen=True, init=False)
class Rotate:
    """Rotates each image around its centre: ``torchvision.transforms.functional.rotate``.

    Args:
        angle: degrees, counter-clockwise. ``Affine`` counts clockwise, as in PyTorch.
        interpolation: see ``Affine``.
        fill: see ``Affine``.

    Raises:
        InputError: see ``Affine``.
    """

    angle: float
    affine: Affine

    def __init__(
        self, angle: float, interpolation: Interpolation = "nearest", fill: float = 0
    ) -> None:
        object.__setattr__(self, "angle", check_number("angle", angle))
        object.__setattr__(
            self, "affine", Affine(-self.angle, interpolation=interpolation, fill=fill)
        )

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Rotates a batch [B, H, W, C]."""
        return self.affine(x)


@dataclass(frozen=True, init=False)
class RandomAffine(RandomTransform):
    """Rotates, translates, scales and shears at random: ``torchvision.transforms.RandomAffine``.

    Each parameter is uniform in its range; translations are then rounded to whole pixels.

    Args:
        degrees: the range of angles (low, high), clockwise; a number d means (-d, d).
        translate: the largest translation along x and y as fractions of width and height, from 0 to
            1; None for none.
        scale: the range of factors; None for 1.
        shear: the range of angles along x, in degrees; or four numbers, for x and y; a number s
            means (-s, s); None for 0.
        interpolation: see ``Affine``.
        fill: see ``Affine``.

    Raises:
        InputError: see ``Affine``.
    """

    degrees: tuple[float, float]
    translate: tuple[float, float]
    scale: tuple[float, float]
    shear: tuple[float, float, float, float]
    interpolation: Interpolation
    fill: float

    def __init__(
        self,
        degrees: float | Sequence[float],
        translate: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        shear: float | Sequence[float] | None = None,
        interpolation: Interpolation = "nearest",
        fill: float = 0,
    ) -> None:
        settings: dict[str, Any] = {
            "degrees": around("degrees", degrees),
            "translate": _pair(
                "translate", (0, 0) if translate is None else translate, least=0, most=1
            ),
            "scale": interval("scale", (1, 1) if scale is None else scale),
            "shear": _shear(_ranges(0 if shear is None else shear)),
            "interpolation": check_choice("interpolation", interpolation, get_args(Interpolation)),
            "fill": check_number("fill", fill),
        }
        check_number("scale", settings["scale"][0], above=0)
        for name, value in settings.items():
            object.__setattr__(self, name, value)

    def example(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """Transforms one image [H, W, C]."""
        dtype = dtype_of_draws(image.dtype)
        reach = self.translate[0] * image.shape[1], self.translate[1] * image.shape[0]
        low = (self.degrees[0], -reach[0], -reach[1], self.scale[0], *self.shear[::2])
        high = (self.degrees[1], reach[0], reach[1], self.scale[1], *self.shear[1::2])
        draws = jax.random.uniform(key, (6,), dtype)
        # This formula gives exactly ``low`` if low == high.
        draws = jnp.asarray(low, dtype) + draws * (
            jnp.asarray(high, dtype) - jnp.asarray(low, dtype)
        )
        matrix = inverse_matrix(draws[0], jnp.round(draws[1:3]), draws[3], draws[4:])
        return sample(image, matrix, self.interpolation, self.fill)


@dataclass(frozen=True, init=False)
class RandomRotation(RandomTransform):
    """Rotates each image by a random angle: ``torchvision.transforms.RandomRotation``.

    Args:
        degrees: the range of angles (low, high), counter-clockwise; a number d means (-d, d).
        interpolation: see ``Affine``.
        fill: see ``Affine``.

    Raises:
        InputError: see ``Affine``.
    """

    degrees: tuple[float, float]
    affine: RandomAffine

    def __init__(
        self,
        degrees: float | Sequence[float],
        interpolation: Interpolation = "nearest",
        fill: float = 0,
    ) -> None:
        low, high = around("degrees", degrees)
        object.__setattr__(self, "degrees", (low, high))
        clockwise = RandomAffine((-high, -low), interpolation=interpolation, fill=fill)
        object.__setattr__(self, "affine", clockwise)

    def example(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """Rotates one image [H, W, C]."""
        return self.affine.example(image, key)


def _pair(
    name: str, values: Any, least: float | None = None, most: float | None = None
) -> tuple[float, float]:
    pair = entries(values)
    if pair is None or len(pair) != 2:
        raise InputError(name, "two numbers, for x and for y", values)
    x, y = (check_number(name, value, least=least, most=most) for value in pair)
    return x, y


def _ranges(shear: float | Sequence[float]) -> tuple[float, ...]:
    several = entries(shear)
    if several is not None and len(several) == 4:
        return interval("shear", several[:2]) + interval("shear", several[2:])
    return (*around("shear", shear), 0.0, 0.0)


def _shear(degrees: tuple[float, ...]) -> tuple[float, ...]:
    if not all(-90 < angle < 90 for angle in degrees):
        raise InputError("shear", "degrees between -90 and 90", degrees)
    return degrees
