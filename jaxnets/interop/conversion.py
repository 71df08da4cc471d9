"""Converts arrays of any library to NumPy, and between dtypes without silent overflow."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import describe

_KINDS = {
    "floating-point": jnp.floating,
    "integer": jnp.integer,
    "boolean": jnp.bool_,
    "complex": jnp.complexfloating,
}

#: Flags of special tensors, and the tensor method that converts each to a plain tensor.
_TO_PLAIN = {"is_quantized": "dequantize", "is_sparse": "to_dense", "is_nested": "to_padded_tensor"}


@dataclass(frozen=True)
class Unreadable:
    """A placeholder for an array of a file whose dtype NumPy lacks.

    Attributes:
        dtype: the dtype as named in the file.
        shape: the shape of the array.
        numbers: whether the values are numbers, so that the array may be a weight.
    """

    dtype: str = ""
    shape: tuple[int, ...] = ()
    numbers: bool = False


def unreadable(value: Any) -> Unreadable | None:
    """Returns the ``Unreadable`` placeholder of an array, or None for a readable array."""
    return value if isinstance(value, Unreadable) else getattr(value, "unreadable", None)


def to_numpy(value: Any) -> np.ndarray:
    """Converts a tensor or an array to NumPy; the result may share memory with the input.

    Raises:
        ValueError: if the tensor has no plain values: it is sparse, quantized, on the meta device,
            or of a dtype that NumPy lacks.
    """
    if (found := unreadable(value)) is not None:
        raise ValueError(f"is {described(found)}, an unsupported dtype")
    if not hasattr(value, "detach"):
        return np.asarray(value)
    import torch
    from torch.nn.parameter import is_lazy

    if is_lazy(value):
        raise ValueError(f"is {described(value)}")

    try:
        if value.dtype == torch.bfloat16:  # NumPy lacks bfloat16, so JAX's is used
            return value.detach().cpu().view(torch.int16).numpy(force=True).view(jnp.bfloat16)
        return value.numpy(force=True)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        methods = (method for sign, method in _TO_PLAIN.items() if getattr(value, sign, False))
        remedy = "".join(f" (use its {method}() first, in PyTorch)" for method in methods)
        line = str(error).partition("\n")[0]
        raise ValueError(f"is a tensor without plain values: {line}{remedy}") from error


def as_count(array: np.ndarray) -> np.ndarray:
    """Converts a whole number of any dtype and of shape [] or [1] to an int64 scalar.

    Raises:
        ValueError: if the array has several elements, or its element is not a whole number.
    """
    if array.size != 1 or _kind(array.dtype) not in ("integer", "floating-point"):
        raise ValueError(f"is {describe(array)}, not a whole number")
    number = array.reshape(()).item()
    if number % 1 != 0:  # the remainder is NaN if the number is not finite
        raise ValueError(f"is {number:g}, not a whole number")
    if not abs(number) < 2**63:
        raise ValueError(f"is {number:g}, which is too large for int64")
    return np.asarray(int(number), np.int64)


def described(value: Any) -> str:
    """Describes the dtype and shape of a tensor or an array for a message."""
    try:
        return describe(unreadable(value) or value)
    except RuntimeError:  # PyTorch raises it for the shape of a lazy parameter
        return f"an {type(value).__name__}: run the network once to initialize its shape"


def to_tensor(array: np.ndarray) -> Any:
    """Converts a NumPy array to a torch tensor that shares the array's memory."""
    import torch

    if array.dtype == jnp.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def check_kind(dtype: np.dtype, expected: np.dtype) -> None:
    """Checks that two dtypes are of the same kind, such as floating-point or integer.

    Raises:
        ValueError: if the kinds differ.
    """
    if _kind(dtype) != _kind(expected):
        raise ValueError(f"is {_kind(dtype)} ({dtype}), not {_kind(expected)} ({expected})")


def _kind(dtype: np.dtype) -> str:
    names = (name for name, kind in _KINDS.items() if jnp.issubdtype(dtype, kind))
    return next(names, str(dtype))


def converted(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Returns a copy of an array in another dtype of the same kind.

    Raises:
        ValueError: if a value is too large for the dtype.
    """
    with np.errstate(over="ignore"):
        result = np.array(array, dtype, order="C")  # always a copy
    if jnp.issubdtype(dtype, jnp.integer):
        fits = np.array_equal(result, array)
    else:
        fits = np.array_equal(np.isfinite(result), np.isfinite(array))
    if not fits:
        raise ValueError(f"has {array.dtype} values that are too large for {dtype}")
    return result
