"""Checks and conversions of the arguments of losses."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import ArrayLike, InputError, as_array, describe


def check_values(
    name: str, array: Any, expected: str, invalid: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Raises an error if an array has invalid values; traced arrays are not checked.

    Args:
        name: the name of the argument, for error messages.
        array: the array.
        expected: a description of valid values, for error messages.
        invalid: a function from the values to a mask of the invalid ones.

    Raises:
        InputError: if a value is invalid.
    """
    if isinstance(array, jax.core.Tracer):
        return
    values = np.asarray(array)
    found = values[invalid(values)]
    if found.size:
        raise InputError(name, expected, str(found[0]))


def floating(name: str, array: ArrayLike) -> jax.Array:
    """Converts to an array and checks that its dtype is floating-point."""
    array = as_array(name, array)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(name, "an array of a floating dtype", describe(array))
    return array


def scores(outputs: ArrayLike) -> jax.Array:
    """Checks that outputs are floating with at least one class on the last axis."""
    outputs = floating("outputs", outputs)
    if outputs.ndim == 0 or outputs.shape[-1] == 0:
        raise InputError("outputs", "the classes on the last axis", describe(outputs))
    return outputs


def real(name: str, array: ArrayLike, dtype: jnp.dtype) -> jax.Array:
    """Converts real numbers, integers or booleans to an array of the given floating dtype."""
    array = as_array(name, array)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise InputError(name, "real numbers", describe(array))
    return array.astype(dtype)


def aligned(name: str, array: ArrayLike, outputs: jax.Array) -> jax.Array:
    """Converts an array to the outputs' dtype and shape; a last axis of size 1 may be missing."""
    array = real(name, array, outputs.dtype)
    if (*array.shape, 1) == outputs.shape:
        array = array[..., None]
    if array.shape != outputs.shape:
        raise InputError(name, f"the outputs' shape {outputs.shape}", str(array.shape))
    return array


def same_shape(name: str, array: ArrayLike, other: str, shape: jax.Array) -> jax.Array:
    """Checks that an array is floating and has the shape of another argument."""
    array = floating(name, array)
    if array.shape != shape.shape:
        raise InputError(name, f"the shape {shape.shape} of {other}", str(array.shape))
    return array


def vectors(name: str, array: ArrayLike) -> jax.Array:
    """Checks that an array is a floating vector [D], or vectors [N, D]."""
    array = floating(name, array)
    if array.ndim not in (1, 2):
        raise InputError(name, "vectors [N, D] or [D]", describe(array))
    return array


def signs(name: str, array: ArrayLike, outputs: jax.Array) -> jax.Array:
    """Checks labels 1 and -1, and converts them to the outputs' dtype and shape."""
    read = aligned(name, array, outputs)
    check_values(name, array, "1 or -1", lambda values: (values != 1) & (values != -1))
    return read


def broadcast(name: str, array: ArrayLike, outputs: jax.Array) -> jax.Array:
    """Converts an array to the outputs' dtype and shape like ``aligned``, with broadcasting."""
    array = real(name, array, outputs.dtype)
    if (*array.shape, 1) == outputs.shape:
        return array[..., None]
    try:
        return jnp.broadcast_to(array, outputs.shape)
    except ValueError:
        expected = f"a shape that broadcasts to the outputs' {outputs.shape}"
        raise InputError(name, expected, str(array.shape)) from None


def class_weights(weight: ArrayLike, outputs: jax.Array) -> jax.Array:
    """Checks class weights [C], and converts them to the outputs' dtype and rank, [1, ..., C]."""
    weight = real("weight", weight, outputs.dtype)
    classes = outputs.shape[-1]
    if weight.shape != (classes,):
        raise InputError("weight", f"one weight per class, shape {(classes,)}", str(weight.shape))
    return weight.reshape((1,) * (outputs.ndim - 1) + weight.shape)


def integers(name: str, array: ArrayLike | Sequence[int]) -> jax.Array:
    """Converts integers to int32 or int64; large unsigned ones are clipped, not wrapped around."""
    values = as_array(name, array)
    if not jnp.issubdtype(values.dtype, jnp.integer):
        raise InputError(name, "integers", describe(values))
    if values.dtype in (jnp.uint32, jnp.uint64):
        values = jnp.minimum(values, jnp.iinfo(jnp.int32).max)
    return values if values.dtype == jnp.int64 else values.astype(jnp.int32)


def probabilities(name: str, array: ArrayLike) -> None:
    """Checks that all values are in [0, 1]."""
    as_array(name, array)

    def invalid(values: np.ndarray) -> np.ndarray:
        # Rounding can make a softmax slightly larger than one.
        rounding = jnp.finfo(values.dtype).eps if values.dtype.kind not in "biu" else 0
        return ~((values >= 0) & (values <= 1 + rounding))

    check_values(name, array, "probabilities from 0 to 1", invalid)
