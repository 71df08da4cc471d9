"""What the losses expect of their arguments, checked before anything is computed."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import ArrayLike, InputError, as_array, describe


def refuse(
    name: str, array: Any, expected: str, strange: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Refuses an array with strange values, unless it is being traced and has no values yet."""
    if isinstance(array, jax.core.Tracer):
        return
    values = np.asarray(array)
    found = values[strange(values)]
    if found.size:
        raise InputError(name, expected, str(found[0]))


def floating(name: str, array: ArrayLike) -> jax.Array:
    """The array, which must be of a floating dtype."""
    array = as_array(name, array)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(name, "an array of a floating dtype", describe(array))
    return array


def scores(outputs: ArrayLike) -> jax.Array:
    """Outputs with one floating entry per class on the last axis."""
    outputs = floating("outputs", outputs)
    if outputs.ndim == 0 or outputs.shape[-1] == 0:
        raise InputError("outputs", "the classes on the last axis", describe(outputs))
    return outputs


def real(name: str, array: ArrayLike, dtype: jnp.dtype) -> jax.Array:
    """The real array (truth values and integers too) in the given floating dtype."""
    array = as_array(name, array)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise InputError(name, "real numbers", describe(array))
    return array.astype(dtype)


def aligned(name: str, array: ArrayLike, outputs: jax.Array) -> jax.Array:
    """The array in the outputs' dtype and shape; it may lack their trailing axis of one."""
    array = real(name, array, outputs.dtype)
    if (*array.shape, 1) == outputs.shape:
        array = array[..., None]
    if array.shape != outputs.shape:
        raise InputError(name, f"the outputs' shape {outputs.shape}", str(array.shape))
    return array


def same_shape(name: str, array: ArrayLike, other: str, shape: jax.Array) -> jax.Array:
    """The floating array, which must have the shape of another argument's."""
    array = floating(name, array)
    if array.shape != shape.shape:
        raise InputError(name, f"the shape {shape.shape} of {other}", str(array.shape))
    return array


def vectors(name: str, array: ArrayLike) -> jax.Array:
    """A floating vector, or one in each row."""
    array = floating(name, array)
    if array.ndim not in (1, 2):
        raise InputError(name, "vectors [N, D] or [D]", describe(array))
    return array


def signs(name: str, array: ArrayLike, outputs: jax.Array) -> jax.Array:
    """Labels 1 and -1, in the outputs' dtype and shape."""
    read = aligned(name, array, outputs)
    refuse(name, array, "1 or -1", lambda values: (values != 1) & (values != -1))
    return read


def broadcast(name: str, array: ArrayLike, outputs: jax.Array) -> jax.Array:
    """As ``aligned``, but a smaller array is repeated along the outputs' leading axes."""
    array = real(name, array, outputs.dtype)
    if (*array.shape, 1) == outputs.shape:
        return array[..., None]
    try:
        return jnp.broadcast_to(array, outputs.shape)
    except ValueError:
        expected = f"a shape that broadcasts to the outputs' {outputs.shape}"
        raise InputError(name, expected, str(array.shape)) from None


def class_weights(weight: ArrayLike, outputs: jax.Array) -> jax.Array:
    """One weight per class, in the outputs' dtype and rank: [1, ..., C]."""
    weight = real("weight", weight, outputs.dtype)
    classes = outputs.shape[-1]
    if weight.shape != (classes,):
        raise InputError("weight", f"one weight per class, shape {(classes,)}", str(weight.shape))
    return weight.reshape((1,) * (outputs.ndim - 1) + weight.shape)


def integers(name: str, array: ArrayLike | Sequence[int]) -> jax.Array:
    """The integers as int32 or int64, without letting a large one wrap round to a small one."""
    values = as_array(name, array)
    if not jnp.issubdtype(values.dtype, jnp.integer):
        raise InputError(name, "integers", describe(values))
    if values.dtype in (jnp.uint32, jnp.uint64):
        values = jnp.minimum(values, jnp.iinfo(jnp.int32).max)
    return values if values.dtype == jnp.int64 else values.astype(jnp.int32)


def probabilities(name: str, array: ArrayLike) -> None:
    """Refuses values outside of [0, 1]."""
    as_array(name, array)

    def strange(values: np.ndarray) -> np.ndarray:
        # A softmax may round to just above one.
        rounding = jnp.finfo(values.dtype).eps if values.dtype.kind not in "biu" else 0
        return ~((values >= 0) & (values <= 1 + rounding))

    refuse(name, array, "probabilities from 0 to 1", strange)
