"""Where the maximum of each window is, counted as PyTorch counts."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.arrays import ArrayLike


def maxima(x: jax.Array, windows: Sequence[ArrayLike]) -> jax.Array:
    """The flat index of each window's maximum within the plane of its channel.

    Of several maxima the first by rows has it, of several that are NaN the last.

    Args:
        x: [N, ..., C].
        windows: for each spatial axis the positions in each window, integers
            [N or 1, windows, elements, C or 1]. A position may be there more than once in a row.

    Returns:
        Integers [N, windows, ..., C]: (d H + h) W + w of an element at [d, h, w].
    """
    x = lax.stop_gradient(x)
    flat, step = jnp.zeros((), jnp.int32), 1
    # Along the rows first, so that of several maxima the first in row-major order wins.
    for axis in range(x.ndim - 2, 0, -1):
        places = _winners(x, jnp.asarray(windows[axis - 1], jnp.int32), axis)
        step, size = step * x.shape[axis], step
        x = _taken(x, places, axis)
        flat = (_taken(flat, places, axis) if flat.ndim else flat) + places * size
    return flat


def values_at(x: jax.Array, indices: jax.Array) -> jax.Array:
    """The elements of x, [N, ..., C], at flat indices [N, ..., C] within each channel's plane."""
    flat = x.reshape(len(x), -1, x.shape[-1])
    places = indices.reshape(len(x), -1, x.shape[-1])
    return _taken(flat, places, 1).reshape(indices.shape)


def _winners(x: jax.Array, windows: jax.Array, axis: int) -> jax.Array:
    """The position of each window's maximum along one axis."""
    batch, count, elements, channels = windows.shape
    before, after = (1,) * (axis - 1), (1,) * (x.ndim - 2 - axis)
    positions = windows.reshape(batch, *before, count * elements, *after, channels)
    seen = _taken(x, positions, axis)
    seen = seen.reshape(*x.shape[:axis], count, elements, *x.shape[axis + 1 :])
    nan = jnp.isnan(seen)
    last = elements - 1 - jnp.argmax(jnp.flip(nan, axis + 1), axis + 1, keepdims=True)
    first = jnp.argmax(seen, axis + 1, keepdims=True)
    winners = jnp.where(nan.any(axis + 1, keepdims=True), last, first).astype(jnp.int32)
    windows = windows.reshape(batch, *before, count, elements, *after, channels)
    return _taken(windows, winners, axis + 1).squeeze(axis + 1)


def _taken(x: jax.Array, places: jax.Array, axis: int) -> jax.Array:
    return jnp.take_along_axis(x, places, axis, mode="promise_in_bounds")
