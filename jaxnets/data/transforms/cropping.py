"""Random crops and flips of images."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.arrays import ArrayLike, InputError, check_number, describe
from jaxnets.data.transforms.checks import check_images, height_and_width
from jaxnets.data.transforms.geometry import Pad, PaddingMode
from jaxnets.data.transforms.transform import RandomTransform, dtype_of_draws


@dataclass(frozen=True, init=False)
class RandomCrop(RandomTransform):
    """Crops each image at a random position: ``torchvision.transforms.RandomCrop``.

    All positions are equally likely.

    Args:
        size: height and width; one number is used for both.
        padding: number of pixels to add first; see ``Pad``.
        fill: see ``Pad``.
        padding_mode: see ``Pad``.

    Raises:
        InputError: if an argument is invalid; on a call, if the padded images are smaller than
            ``size``.
    """

    size: tuple[int, int]
    pad: Pad

    def __init__(
        self,
        size: int | Sequence[int],
        padding: int | Sequence[int] = 0,
        fill: float = 0,
        padding_mode: PaddingMode = "constant",
    ) -> None:
        object.__setattr__(self, "size", height_and_width("size", size))
        object.__setattr__(self, "pad", Pad(padding, fill, padding_mode))

    def __call__(self, x: ArrayLike, key: jax.Array) -> jax.Array:
        """Crops a batch [B, H, W, C]."""
        x = self.pad(check_images(x))
        if x.shape[1] < self.size[0] or x.shape[2] < self.size[1]:
            expected = f"at most the {x.shape[1]}×{x.shape[2]} pixels of {describe(x)}"
            raise InputError("size", expected, self.size)
        return super().__call__(x, key)

    def example(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """Crops one image [H, W, C]."""
        spare = jnp.asarray([image.shape[0] - self.size[0], image.shape[1] - self.size[1]])
        top, left = jax.random.randint(key, (2,), 0, spare.astype(jnp.int32) + 1, jnp.int32)
        start = (top, left, jnp.zeros((), jnp.int32))
        return lax.dynamic_slice(image, start, (*self.size, image.shape[2]))


@dataclass(frozen=True, init=False)
class RandomHorizontalFlip(RandomTransform):
    """Flips each image left to right at random: ``torchvision.transforms.RandomHorizontalFlip``.

    Args:
        p: the probability of a flip.

    Raises:
        InputError: if ``p`` is not a number from 0 to 1; on a call, if the input is not a batch of
            images.
    """

    p: float

    def __init__(self, p: float = 0.5) -> None:
        object.__setattr__(self, "p", check_number("p", p, least=0, most=1))

    def example(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """Flips one image [H, W, C] at random."""
        mirrored = jax.random.uniform(key, (), dtype_of_draws(image.dtype)) < self.p
        return jnp.where(mirrored, image[:, ::-1], image)
