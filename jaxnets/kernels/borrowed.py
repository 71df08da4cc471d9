"""NumPy arrays that kernels read in place, outside of XLA's memory.

XLA reads a NumPy array in place only if its address is a multiple of 64 bytes, which is rare for
large arrays. A copy takes about as long as the inference of a small network.
"""

import sys
from typing import Any

import jax
import numpy as np


class CannotBorrowError(Exception):
    """Raised if an operation other than a kernel's call reads a borrowed array."""


@jax.tree_util.register_pytree_node_class
class Borrowed:
    """An array that is passed to a program by its address.

    Args:
        address: the address; see ``address_of``.
        shape: shape of the array, which is in row-major order.
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
        """Returns the array with another shape."""
        return Borrowed(self.address, shape, self.dtype)

    def astype(self, dtype: Any) -> jax.Array:
        """Returns the address, which a kernel takes in place of the array."""
        assert dtype == self.dtype
        return self.address

    def tree_flatten(self) -> tuple[tuple[jax.Array], Any]:
        """Returns the address as the child, and shape and dtype as static data."""
        return (self.address,), (self.shape, self.dtype)

    @classmethod
    def tree_unflatten(cls, about: Any, addresses: tuple[jax.Array]) -> "Borrowed":
        """Inverts ``tree_flatten``."""
        return cls(addresses[0], *about)


def address_of(array: np.ndarray) -> np.ndarray:
    """Returns the address of a NumPy array's data as uint32 [2], the lower half first.

    Two halves, because JAX has no 64-bit integers by default.
    """
    return np.array([array.ctypes.data], np.uint64).view(np.uint32)


def can_borrow(array: np.ndarray) -> bool:
    """Whether a kernel can read an array in place."""
    known = array.dtype in (np.dtype(np.float32), np.dtype(np.float64))
    here = sys.byteorder == "little" and array.dtype.isnative
    return known and here and array.flags.c_contiguous and array.ndim > 0
