"""The array types and the one way in which a bad argument is reported."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

#: An array as a user may hand it over: on the host or on a device.
ArrayLike = jax.Array | np.ndarray


class InputError(ValueError):
    """A bad argument, said in one sentence: ``lr: expected a positive number, got -0.1``.

    Args:
        argument: the name of the argument, as the caller wrote it.
        expected: what it should have been, in words.
        got: what came: a string is shown as it is, anything else by ``repr``.
    """

    def __init__(self, argument: str, expected: str, got: Any) -> None:
        super().__init__(argument, expected, got)
        self.argument, self.expected, self.got = argument, expected, got

    def __str__(self) -> str:
        got = self.got if isinstance(self.got, str) else repr(self.got)
        return f"{self.argument}: expected {self.expected}, got {got}"


def describe(array: Any) -> str:
    """Describes an array for an error message: ``float32[64, 10]``."""
    return f"{array.dtype}[{', '.join(map(str, array.shape))}]"


def check_floats(argument: str, array: Any, shape: tuple[int | str, ...]) -> None:
    """Checks that an array holds floating-point values and has this shape.

    Args:
        argument: the name of the argument, for the message.
        array: what came.
        shape: the size of each axis; a word names an axis of any size.

    Raises:
        InputError: if the array differs.
    """
    expected = f"a floating-point array [{', '.join(map(str, shape))}]"
    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        raise InputError(argument, expected, type(array).__name__)
    fits = len(array.shape) == len(shape) and all(
        isinstance(want, str) or want == have for want, have in zip(shape, array.shape, strict=True)
    )
    if not fits or not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(argument, expected, describe(array))


def check_positive(argument: str, value: Any) -> None:
    """Checks that a value is a positive integer.

    Raises:
        InputError: if it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(argument, "a positive integer", value)


def check_seed(argument: str, value: Any) -> None:
    """Checks that a value can seed a random key: JAX's keys are made of 32 bits.

    Raises:
        InputError: if it is not an integer from 0 to 2³² - 1.
    """
    integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not integer or not 0 <= value < 2**32:
        raise InputError(argument, f"an integer from 0 to {2**32 - 1}", value)
