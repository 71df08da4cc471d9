"""What the transforms expect of their settings and batches."""

import math
from collections.abc import Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import ArrayLike, InputError, describe


def check_images(x: ArrayLike) -> jax.Array:
    """The batch as a JAX array.

    Raises:
        InputError: if it has not four axes.
    """
    if np.ndim(x) != 4:
        raise InputError("x", "a batch of images [B, H, W, C]", describe(x))
    return jnp.asarray(x)


def check_pixels(x: ArrayLike) -> jax.Array:
    """The image or images [..., H, W, C] as a JAX array.

    Raises:
        InputError: if they are neither uint8 nor floating.
    """
    if x.ndim < 3 or not (x.dtype == jnp.uint8 or jnp.issubdtype(x.dtype, jnp.floating)):
        raise InputError("x", "images [..., H, W, C], uint8 or floating", describe(x))
    return jnp.asarray(x)


def numbers(name: str, values: float | Sequence[float]) -> tuple[float, ...]:
    """One number or several as a tuple, all of them finite."""
    try:
        given = tuple(float(v) for v in (values if isinstance(values, Sequence) else (values,)))
    except (TypeError, ValueError) as error:
        raise InputError(name, "a number or a sequence of numbers", values) from error
    if not given or not all(math.isfinite(number) for number in given):
        raise InputError(name, "finite numbers", values)
    return given


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number from low to high."""
    real = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not real or not math.isfinite(value) or not low <= value <= high:
        limits = "" if low == -math.inf else f" from {low:g}"
        limits += "" if high == math.inf else f" to {high:g}"
        raise InputError(name, f"a finite number{limits}", value)
    return float(value)


def interval(
    name: str, values: Sequence[float], low: float = -math.inf, high: float = math.inf
) -> tuple[float, float]:
    """Two numbers from low to high, the smaller first."""
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 2:
        raise InputError(name, "two numbers", values)
    first, last = (number(name, value, low, high) for value in values)
    if first > last:
        raise InputError(name, "the smaller number first", values)
    return first, last


def around(name: str, value: float | Sequence[float]) -> tuple[float, float]:
    """The interval itself, or that from -value to value."""
    if isinstance(value, Sequence):
        return interval(name, value)
    reach = number(name, value, 0)
    return 0.0 - reach, reach  # not -0.0


def height_and_width(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    """Height and width; one number stands for both."""
    pair = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(pair) != 2 or not all(whole(side) and side > 0 for side in pair):
        raise InputError(name, "a positive integer, or two: height and width", value)
    return int(pair[0]), int(pair[1])


def whole(value: Any) -> bool:
    """Whether a value is an integer."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def choice(name: str, value: Any, choices: Any) -> Any:
    """One of the values of a ``Literal``."""
    if value not in get_args(choices):
        raise InputError(name, f"one of {', '.join(get_args(choices))}", value)
    return value


def fitting(name: str, value: float, dtype: np.dtype) -> float | int:
    """The number, as one that pixels of this dtype can hold."""
    if jnp.issubdtype(dtype, jnp.floating):
        return value
    limits = jnp.iinfo(dtype)
    if value != int(value) or not limits.min <= value <= limits.max:
        expected = f"an integer from {limits.min} to {limits.max}, as the pixels are {dtype}"
        raise InputError(name, expected, value)
    return int(value)
