"""Arrays that kernels read where they are, in memory that is not XLA's.

XLA reads a NumPy array in place only where it begins at a multiple of 64 bytes, which large ones
seldom do. A copy costs as long as a small network computes.
"""

import sys
from typing import Any

import jax
import numpy as np


class CannotBorrowError(Exception):
    """An operation that is no kernel's call reads the array."""


@jax.tree_util.register_pytree_node_class
class Borrowed:
    """An array of which a program knows the address alone.

    Args:
        address: see ``address_of``.
        shape: of the array, whose numbers are in row-major order.
        dtype: float32 or float64.
    """

    def __init__(self, address: jax.Array, shape: tuple[int, ...], dtype: Any) -> None:
        self.address, self.shape, self.dtype = address, shape, dtype

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """The number of its axes."""
        return len(self.shape)

    def reshape(self, *shape: int) -> "Borrowed":
        """The same numbers with other axes."""
        return Borrowed(self.address, shape, self.dtype)

    def astype(self, dtype: Any) -> jax.Array:
        """What a kernel takes in place of the array: its address."""
        assert dtype == self.dtype
        return self.address

    def tree_flatten(self) -> tuple[tuple[jax.Array], Any]:
        """The address, as what a program is given, and what it is compiled for."""
        return (self.address,), (self.shape, self.dtype)

    @classmethod
    def tree_unflatten(cls, about: Any, addresses: tuple[jax.Array]) -> "Borrowed":
        """The inverse of ``tree_flatten``."""
        return cls(addresses[0], *about)


def address_of(array: np.ndarray) -> np.ndarray:
    """Where the numbers of a NumPy array begin: uint32 [2], the lower half first."""
    return np.array([array.ctypes.data], np.uint64).view(np.uint32)


def can_borrow(array: np.ndarray) -> bool:
    """Whether a kernel could read an array in place."""
    known = array.dtype in (np.dtype(np.float32), np.dtype(np.float64))
    here = sys.byteorder == "little" and array.dtype.isnative
    return known and here and array.flags.c_contiguous and array.ndim > 0
