"""Random erasing, which includes cutout."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from jaxnets.arrays import InputError, check_number, describe
from jaxnets.data.transforms.boxes import inside
from jaxnets.data.transforms.checks import fitting, interval, numbers
from jaxnets.data.transforms.transform import RandomTransform, dtype_of_draws

_TRIES = 10  # as in torchvision


@dataclass(frozen=True, init=False)
class RandomErasing(RandomTransform):
    """Overwrites a rectangle at a random position: ``torchvision.transforms.RandomErasing``.

    The fraction of the area is uniform in ``scale``, and the logarithm of height / width is uniform
    between the logarithms of ``ratio``. Ten rectangles are drawn, and the first that is smaller
    than the image is used, or none. ``RandomErasing(1, (a, a), (1, 1))`` is cutout with the square
    inside the image.

    Args:
        p: the probability that an image is changed.
        scale: the range of the fraction of the area, from 0 to 1.
        ratio: the range of height / width.
        value: the new value: a number, one number for each channel, or ``"random"`` for standard
            normal numbers in floating images.

    Raises:
        InputError: if an argument is invalid; on a call, if the input is not a batch of images, or
            its dtype cannot represent ``value``.
    """

    p: float
    scale: tuple[float, float]
    ratio: tuple[float, float]
    value: tuple[float, ...] | Literal["random"]

    def __init__(
        self,
        p: float = 0.5,
        scale: Sequence[float] = (0.02, 0.33),
        ratio: Sequence[float] = (0.3, 3.3),
        value: float | Sequence[float] | Literal["random"] = 0,
    ) -> None:
        object.__setattr__(self, "p", check_number("p", p, least=0, most=1))
        object.__setattr__(self, "scale", interval("scale", scale, 0, 1))
        object.__setattr__(self, "ratio", interval("ratio", ratio))
        if self.ratio[0] <= 0:
            raise InputError("ratio", "positive numbers", ratio)
        random = isinstance(value, str) and value == "random"
        constant = value if random else numbers("value", value)
        object.__setattr__(self, "value", constant)

    def example(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """Erases a rectangle of one image [H, W, C] at random."""
        height, width, _ = image.shape
        chance, shape, place, noise = jax.random.split(key, 4)
        dtype = dtype_of_draws(image.dtype)
        rows, columns, found = self._size(height, width, shape, dtype)
        spare = jnp.stack([height - rows, width - columns])
        top, left = jax.random.randint(place, (2,), 0, spare + 1, jnp.int32)
        erased = found & (jax.random.uniform(chance, (), dtype) < self.p)
        box = inside(height, width, top, top + rows, left, left + columns)
        return jnp.where((erased & box)[..., None], self._values(image, noise), image)

    def _size(
        self, height: int, width: int, key: jax.Array, dtype: jnp.dtype
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Draws height and width of the rectangle, and whether one fits."""
        share, ratio = jax.random.uniform(key, (2, _TRIES), dtype)
        low, high = self.scale
        area = height * width * (low + share * (high - low))
        low, high = map(math.log, self.ratio)
        root = jnp.exp((low + ratio * (high - low)) / 2)
        rows = jnp.round(jnp.sqrt(area) * root).astype(jnp.int32)
        columns = jnp.round(jnp.sqrt(area) / root).astype(jnp.int32)
        fits = (rows < height) & (columns < width)
        first = jnp.argmax(fits)
        found = fits[first]
        return jnp.where(found, rows[first], 0), jnp.where(found, columns[first], 0), found

    def _values(self, image: jax.Array, key: jax.Array) -> jax.Array:
        if self.value == "random":
            if not jnp.issubdtype(image.dtype, jnp.floating):
                raise InputError("value", f"numbers for {image.dtype} pixels", self.value)
            return jax.random.normal(key, image.shape, image.dtype)
        if len(self.value) not in (1, image.shape[2]):
            raise InputError("value", f"a number for each channel of {describe(image)}", self.value)
        values = [fitting("value", value, image.dtype) for value in self.value]
        return jnp.asarray(values, image.dtype)[None, None, :]
