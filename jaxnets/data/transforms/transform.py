"""The kinds of transforms: functions of inputs, of inputs and a key, or also of labels."""

import abc
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxnets.arrays import ArrayLike, InputError, check_function
from jaxnets.data.transforms.checks import check_images, check_key

Transform = Callable[[ArrayLike], jax.Array]
"""A function of a batch of inputs."""


class RandomTransform(abc.ABC):
    """Base class of random transforms of images, also for user-defined ones.

    The random numbers of each image depend on the key and the image's position in the batch. A
    subclass must be hashable, for example a frozen dataclass.
    """

    @abc.abstractmethod
    def example(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """Transforms one image [H, W, C]; called under ``jax.vmap``."""

    def __call__(self, x: ArrayLike, key: jax.Array) -> jax.Array:
        """Transforms a batch [B, H, W, C]."""
        x = check_images(x)
        return jax.vmap(self.example)(x, jax.random.split(check_key(key), len(x)))


class PairTransform(abc.ABC):
    """Base class of random transforms that change inputs and labels together.

    It is called with inputs [B, ...], labels [B] and a key, and returns the new inputs and labels.
    """

    @abc.abstractmethod
    def __call__(
        self, x: ArrayLike, labels: ArrayLike, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Transforms a batch of inputs and its labels."""


Augmentation = Transform | RandomTransform | PairTransform
"""Any transform that ``fit`` accepts as ``augment``."""


def check_transforms(name: str, transforms: tuple[Any, ...]) -> None:
    """Checks that transforms can be part of a compiled program.

    Args:
        name: name of the argument, for error messages.
        transforms: the transforms.

    Raises:
        InputError: if one of them cannot be called or hashed.
    """
    if not isinstance(transforms, tuple):
        raise InputError(name, "a tuple of callables", transforms)
    for transform in transforms:
        if not callable(transform):
            raise InputError(name, "callables", type(transform).__name__)
        check_function(name, transform, "callables, not classes")
        try:
            hash(transform)
        except TypeError as error:
            raise InputError(name, "hashable callables", transform) from error


def dtype_of_draws(dtype: np.dtype) -> np.dtype:
    """Returns the dtype of random numbers and intermediate values for pixels of a dtype."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)
