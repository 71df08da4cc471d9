"""Arrays of any library as NumPy's, and from one dtype to another without silent harm."""

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


def to_numpy(value: Any) -> np.ndarray:
    """A tensor or an array as NumPy's; it may share the memory of what came.

    Raises:
        ValueError: if it is a tensor without plain values: sparse, quantized, on the meta device.
    """
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
        line = str(error).partition("\n")[0]
        raise ValueError(f"is a tensor that gives no plain array: {line}") from error


def described(value: Any) -> str:
    """The dtype and shape of a tensor or an array, for a message."""
    try:
        return describe(value)
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
