"""Checks of the arguments and batches of transforms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    as_array,
    check_number,
    check_positive,
    describe,
    entries,
)


def check_images(x: ArrayLike) -> jax.Array:
    """Converts a batch of images to a JAX array.

    Raises:
        InputError: if it does not have four axes.
    """
    x = as_array("x", x)
    if x.ndim != 4:
        raise InputError("x", "a batch of images [B, H, W, C]", describe(x))
    return x


def check_pixels(x: ArrayLike) -> jax.Array:
    """Converts one or several images [..., H, W, C] to a JAX array.

    Raises:
        InputError: if they are neither uint8 nor floating.
    """
    x = as_array("x", x)
    if x.ndim < 3 or not (x.dtype == jnp.uint8 or jnp.issubdtype(x.dtype, jnp.floating)):
        raise InputError("x", "images [..., H, W, C], uint8 or floating", describe(x))
    return x


def check_key(key: Any) -> jax.Array:
    """Checks a random key, and returns it.

    Raises:
        InputError: if it is not a key.
    """
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    raw = isinstance(key, jax.Array | np.ndarray) and key.dtype == np.uint32 and key.ndim == 1
    if not (typed and key.ndim == 0) and not raw:
        raise InputError("key", "a key, such as jax.random.key(0)", key)
    return key


def numbers(name: str, values: Any) -> tuple[float, ...]:
    """Checks one or several finite numbers, and returns them as a tuple."""
    several = entries(values)
    given = (values,) if several is None else several
    if not given:
        raise InputError(name, "a number or a sequence of numbers", values)
    return tuple(check_number(name, value) for value in given)


def interval(
    name: str, values: Any, low: float | None = None, high: float | None = None
) -> tuple[float, float]:
    """Checks two numbers between ``low`` and ``high``, the smaller first."""
    pair = entries(values)
    if pair is None or len(pair) != 2:
        raise InputError(name, "two numbers", values)
    first, last = (check_number(name, value, least=low, most=high) for value in pair)
    if first > last:
        raise InputError(name, "the smaller number first", values)
    return first, last


def around(name: str, value: Any) -> tuple[float, float]:
    """Checks an interval; a number stands for that from -value to value."""
    if entries(value) is not None:
        return interval(name, value)
    reach = check_number(name, value, least=0)
    return 0.0 - reach, reach  # not -0.0


def height_and_width(name: str, value: Any) -> tuple[int, int]:
    """Checks height and width; one number is used for both."""
    several = entries(value)
    pair = (value, value) if several is None else several
    if len(pair) != 2:
        raise InputError(name, "a positive integer, or two: height and width", value)
    return check_positive(name, pair[0]), check_positive(name, pair[1])


def fitting(name: str, value: float, dtype: np.dtype) -> float | int:
    """Converts a number to one that the dtype of the pixels can represent."""
    if jnp.issubdtype(dtype, jnp.floating):
        return value
    limits = jnp.iinfo(dtype)
    if value != int(value) or not limits.min <= value <= limits.max:
        expected = f"an integer from {limits.min} to {limits.max}, as the pixels are {dtype}"
        raise InputError(name, expected, value)
    return int(value)


def mean_and_std(mean: Any, std: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Checks means and positive standard deviations, and returns tuples of one length."""
    means, stds = numbers("mean", mean), numbers("std", std)
    if min(stds) <= 0:
        raise InputError("std", "positive numbers", std)
    if len(stds) != len(means):
        raise InputError("std", f"{len(means)} numbers, as many as in mean", std)
    return means, stds
