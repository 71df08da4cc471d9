"""The array types and the one way in which a bad argument is reported."""

from typing import Any

import jax
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
