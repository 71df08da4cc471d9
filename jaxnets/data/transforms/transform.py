"""What a transform is: a function of a batch, of a batch and a key, or of labels besides."""

import abc
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxnets.arrays import ArrayLike, InputError, check_function
from jaxnets.data.transforms.checks import check_images, check_key

Transform = Callable[[ArrayLike], jax.Array]
"""What can be applied to a batch."""


class RandomTransform(abc.ABC):
    """A transform of images that takes a key; derive from it to write one of your own.

    Each image of a batch is transformed by draws of its own, which follow from the key and the
    image's place in the batch. A subclass must be hashable, as a frozen dataclass is.
    """

    @abc.abstractmethod
    def example(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """Transforms one image [H, W, C]; it is called under ``jax.vmap``."""

    def __call__(self, x: ArrayLike, key: jax.Array) -> jax.Array:
        """Transforms a batch [B, H, W, C]."""
        x = check_images(x)
        return jax.vmap(self.example)(x, jax.random.split(check_key(key), len(x)))


class PairTransform(abc.ABC):
    """A transform of inputs and their labels together, which takes a key.

    It is called with inputs [B, ...], labels [B] and a key, and returns both, changed.
    """

    @abc.abstractmethod
    def __call__(
        self, x: ArrayLike, labels: ArrayLike, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Transforms a batch of inputs and its labels."""


Augmentation = Transform | RandomTransform | PairTransform
"""Anything that ``fit`` takes for augmentation."""


def check_transforms(name: str, transforms: tuple[Any, ...]) -> None:
    """Checks that transforms can be part of a compiled program.

    Args:
        name: of the argument, for the message.
        transforms: what is given.

    Raises:
        InputError: if one of them cannot be called or hashed.
    """
    if not isinstance(transforms, tuple):
        raise InputError(name, "a tuple of callables", transforms)
    for transform in transforms:
        if not callable(transform):
            raise InputError(name, "callables", type(transform).__name__)
        check_function(name, transform, "callables, and no class of such")
        try:
            hash(transform)
        except TypeError as error:
            raise InputError(name, "hashable callables", transform) from error


def dtype_of_draws(dtype: np.dtype) -> np.dtype:
    """The dtype in which random numbers and intermediate values for such pixels are computed."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)
