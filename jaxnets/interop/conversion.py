"""Arrays of any library as NumPy's, and from one dtype to another without silent harm."""

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

#: What makes a plain tensor of one that is not.
_TO_PLAIN = {"is_quantized": "dequantize", "is_sparse": "to_dense", "is_nested": "to_padded_tensor"}


@dataclass(frozen=True)
class Unreadable:
    """Takes the place of an array of a file whose values NumPy has no numbers for.

    Attributes:
        dtype: its dtype, by the file's name for it.
        shape: its shape.
        numbers: whether its values are numbers, as those of a weight.
    """

    dtype: str = ""
    shape: tuple[int, ...] = ()
    numbers: bool = False


def unreadable(value: Any) -> Unreadable | None:
    """A placeholder for values of an array that are not read; None for other arrays."""
    return value if isinstance(value, Unreadable) else getattr(value, "unreadable", None)


def to_numpy(value: Any) -> np.ndarray:
    """A tensor or an array as NumPy's; it may share the memory of what came.

    Raises:
        ValueError: if it has no plain values: it is sparse, quantized, on the meta device, or of a
            dtype that NumPy lacks.
    """
    if (found := unreadable(value)) is not None:
        raise ValueError(f"is {described(found)}, a dtype that is not read")
    if not hasattr(value, "detach"):
        return np.asarray(value)
    import torch
    from torch.nn.parameter import is_lazy

    if is_lazy(value):
        raise ValueError(f"is {described(value)}")

    try:
        if value.dtype == torch.bfloat16:  # which NumPy lacks; JAX brings its own
            return value.detach().cpu().view(torch.int16).numpy(force=True).view(jnp.bfloat16)
        return value.numpy(force=True)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        methods = (method for sign, method in _TO_PLAIN.items() if getattr(value, sign, False))
        remedy = "".join(f" (use its {method}() first, in PyTorch)" for method in methods)
        line = str(error).partition("\n")[0]
        raise ValueError(f"is a tensor that gives no plain array: {line}{remedy}") from error


def as_count(array: np.ndarray) -> np.ndarray:
    """A whole number of any dtype, alone or as a vector of one, as an integer without axes.

    Raises:
        ValueError: if it is another number, or several.
    """
    if array.size != 1 or _kind(array.dtype) not in ("integer", "floating-point"):
        raise ValueError(f"is {describe(array)}, not a whole number")
    number = array.reshape(()).item()
    if number % 1 != 0:  # NaN for what is not finite
        raise ValueError(f"is {number:g}, not a whole number")
    if not abs(number) < 2**63:
        raise ValueError(f"is {number:g}, which is too large for int64")
    return np.asarray(int(number), np.int64)


def described(value: Any) -> str:
    """The dtype and shape of a tensor or an array, for a message."""
    try:
        return describe(unreadable(value) or value)
    except RuntimeError:  # PyTorch's, of a shape that is not known yet
        return f"an {type(value).__name__}: run the network once, which gives it a shape"


def to_tensor(array: np.ndarray) -> Any:
    """A torch tensor of a NumPy array, which hands over its memory."""
    import torch

    if array.dtype == jnp.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def check_kind(dtype: np.dtype, expected: np.dtype) -> None:
    """Raises if one dtype is floating-point and the other integer, or the like.

    Raises:
        ValueError: if the kinds differ.
    """
    if _kind(dtype) != _kind(expected):
        raise ValueError(f"is {_kind(dtype)} ({dtype}), not {_kind(expected)} ({expected})")


def _kind(dtype: np.dtype) -> str:
    names = (name for name, kind in _KINDS.items() if jnp.issubdtype(dtype, kind))
    return next(names, str(dtype))


def converted(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A copy in another dtype of the same kind.

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
        raise ValueError(f"holds {array.dtype} values that are too large for {dtype}")
    return result
