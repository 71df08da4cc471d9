"""Preprocessing of a batch, inside the compiled step: images are [B, H, W, C].

Each transform is a frozen, hashable value that is called on a batch. Two with the same settings are
equal, so a transform can be a static argument of ``jax.jit`` without compiling twice.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxnets.arrays import ArrayLike, InputError, describe

#: What can be applied to a batch.
Transform = Callable[[ArrayLike], jax.Array]


@dataclass(frozen=True, init=False)
class ToFloat:
    """Pixels from 0 to 255 as x / 255, exactly the values of ``torchvision.transforms.ToTensor``.

    Floating values stay as they are, but for the dtype. No axis is moved.

    Args:
        dtype: the floating dtype of the result.

    Raises:
        InputError: if the dtype is not a floating one; on a call, if the batch is neither uint8
            nor floating.
    """

    dtype: np.dtype

    def __init__(self, dtype: DTypeLike = jnp.float32) -> None:
        if not jnp.issubdtype(dtype, jnp.floating):
            raise InputError("dtype", "a floating dtype", jnp.dtype(dtype).name)
        object.__setattr__(self, "dtype", jnp.dtype(dtype))

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Converts a batch of any shape."""
        if jnp.issubdtype(x.dtype, jnp.floating):
            return jnp.asarray(x).astype(self.dtype)
        if x.dtype != jnp.uint8:
            raise InputError("x", "uint8 pixels or floating values", describe(x))
        x = jnp.asarray(x).astype(jnp.float64 if self.dtype == jnp.float64 else jnp.float32)
        # XLA turns a division by a constant into a product with the rounded inverse, which is off
        # in the last bit for half of the 256 values. 1/255 is 257/2¹⁶ + 1/(255·2¹⁶): the first
        # product has 16 bits and is exact, so only the sum rounds, as a division does.
        return (x * (257 / 2**16) + x * (1 / (255 * 2**16))).astype(self.dtype)


@dataclass(frozen=True, init=False)
class Normalize:
    """(x - mean) / std for each channel: ``torchvision.transforms.Normalize``.

    Args:
        mean: one number for each entry of the last axis, or one for all.
        std: the standard deviations, positive; as many as means.

    Raises:
        InputError: if a number is not finite, a std not positive, or their counts differ; on a
            call, if the batch is not floating or has another number of channels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        object.__setattr__(self, "mean", _numbers("mean", mean))
        object.__setattr__(self, "std", _numbers("std", std))
        if min(self.std) <= 0:
            raise InputError("std", "positive numbers", std)
        if len(self.std) != len(self.mean):
            raise InputError("std", f"{len(self.mean)} numbers, as many as in mean", std)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Normalizes a batch [..., C]."""
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise InputError("x", "floating values (ToFloat comes before Normalize)", describe(x))
        channels = len(self.mean)
        if x.ndim == 0 or channels not in (1, x.shape[-1]):
            raise InputError("x", f"{channels} channels in the last axis", describe(x))
        shape = (1,) * (x.ndim - 1) + (channels,)
        mean, std = (jnp.asarray(v, x.dtype).reshape(shape) for v in (self.mean, self.std))
        return (jnp.asarray(x) - mean) / std


@dataclass(frozen=True)
class ImageRows:
    """An image as the sequence of its rows: [B, H, W, C] becomes [B, H, W·C].

    For one channel this is ``x.reshape(-1, 28, 28)`` in the PyTorch tutorials that feed MNIST to an
    LSTM.

    Raises:
        InputError: on a call, if the batch does not have four axes.
    """

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Reshapes a batch."""
        if x.ndim != 4:
            raise InputError("x", "a batch of images [B, H, W, C]", describe(x))
        batch, height, width, channels = x.shape
        return jnp.asarray(x).reshape(batch, height, width * channels)


@dataclass(frozen=True, init=False)
class Compose:
    """Several transforms, one after the other: ``torchvision.transforms.Compose``.

    PyTorch's takes one list; this one takes the transforms themselves. Of none, it changes nothing.

    >>> prepare = Compose(ToFloat(), Normalize(0.1307, 0.3081))
    >>> prepare(np.zeros((64, 28, 28, 1), np.uint8)).shape
    (64, 28, 28, 1)

    Args:
        *transforms: the first is applied first.

    Raises:
        InputError: if one of them cannot be called or hashed.
    """

    transforms: tuple[Transform, ...]

    def __init__(self, *transforms: Transform) -> None:
        for transform in transforms:
            if not callable(transform):
                raise InputError("transforms", "callables", type(transform).__name__)
            try:
                hash(transform)
            except TypeError as error:
                raise InputError("transforms", "hashable callables", repr(transform)) from error
        object.__setattr__(self, "transforms", transforms)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Applies all of them to a batch."""
        x = jnp.asarray(x)
        for transform in self.transforms:
            x = transform(x)
        return x


def _numbers(name: str, values: float | Sequence[float]) -> tuple[float, ...]:
    try:
        numbers = tuple(float(v) for v in (values if isinstance(values, Sequence) else (values,)))
    except (TypeError, ValueError) as error:
        raise InputError(name, "a number or a sequence of numbers", values) from error
    if not numbers or not all(math.isfinite(number) for number in numbers):
        raise InputError(name, "finite numbers", values)
    return numbers
