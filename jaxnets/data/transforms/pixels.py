"""Conversion of pixels to floats, and normalization of channels."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxnets.arrays import ArrayLike, InputError, as_array, check_float_dtype, describe
from jaxnets.data.transforms.checks import mean_and_std


@dataclass(frozen=True, init=False)
class ToFloat:
    """Divides uint8 pixels by 255, with exactly the values of ``torchvision.transforms.ToTensor``.

    Floating values are only converted to the dtype. No axis is moved.

    Args:
        dtype: the floating dtype of the result.

    Raises:
        InputError: if the dtype is not a floating one; on a call, if the batch is neither uint8
            nor floating.
    """

    dtype: np.dtype

    def __init__(self, dtype: DTypeLike = jnp.float32) -> None:
        object.__setattr__(self, "dtype", check_float_dtype("dtype", dtype))

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Converts a batch of any shape."""
        x = as_array("x", x)
        if jnp.issubdtype(x.dtype, jnp.floating):
            return x.astype(self.dtype)
        if x.dtype != jnp.uint8:
            raise InputError("x", "uint8 pixels or floating values", describe(x))
        x = x.astype(jnp.float64 if self.dtype == jnp.float64 else jnp.float32)
        # XLA replaces a division by a constant by a product with the rounded inverse, whose last
        # bit is wrong for half of the 256 values. But 1/255 = 257/2¹⁶ + 1/(255·2¹⁶). The first
        # product has 16 bits and is exact, so only the sum is rounded, like a division.
        return (x * (257 / 2**16) + x * (1 / (255 * 2**16))).astype(self.dtype)


@dataclass(frozen=True, init=False)
class Normalize:
    """Returns (x - mean) / std for each channel: ``torchvision.transforms.Normalize``.

    Args:
        mean: the means, one for each entry of the last axis, or one for all.
        std: the standard deviations, positive; as many as means.

    Raises:
        InputError: if a number is not finite, a standard deviation is not positive, or the numbers
            of means and standard deviations differ; on a call, if the batch is not floating or has
            another number of channels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        for name, values in zip(("mean", "std"), mean_and_std(mean, std), strict=True):
            object.__setattr__(self, name, values)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Normalizes a batch [..., C]."""
        x = as_array("x", x)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise InputError("x", "floating values (use ToFloat before Normalize)", describe(x))
        channels = len(self.mean)
        if x.ndim == 0 or channels not in (1, x.shape[-1]):
            raise InputError("x", f"{channels} channels in the last axis", describe(x))
        shape = (1,) * (x.ndim - 1) + (channels,)
        mean, std = (jnp.asarray(v, x.dtype).reshape(shape) for v in (self.mean, self.std))
        return (x - mean) / std
