"""Indices of the maximum of each window, numbered as in PyTorch."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.arrays import ArrayLike

_UNROLLED = 8  # scan steps, one for each element of a window, that are unrolled


def maxima(x: jax.Array, windows: Sequence[ArrayLike]) -> jax.Array:
    """Computes the flat index of each window's maximum within the plane of its channel.

    Of several equal maxima the first in row-major order is taken, of several NaN the last.

    Args:
        x: [N, ..., C].
        windows: for each spatial axis, the positions in each window, integers
            [N or 1, windows, elements, C or 1]. A position may be repeated in succession.

    Returns:
        Integers [N, windows, ..., C]: (d H + h) W + w for a maximum at [d, h, w].
    """
    # The last axis is reduced first, so that the first of equal maxima in row-major order wins.
    step = x.shape[-2]
    x, flat = _largest(lax.stop_gradient(x), windows[-1], x.ndim - 2)
    for axis in range(x.ndim - 3, 0, -1):
        size = x.shape[axis]
        x, places = _largest(x, windows[axis - 1], axis)
        flat, step = _taken(flat, places, axis) + step * places, step * size
    return flat


def values_at(x: jax.Array, indices: jax.Array) -> jax.Array:
    """Takes the elements of x, [N, ..., C], at flat indices [N, ..., C] in each channel's plane."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    places = indices.reshape(x.shape[0], -1, x.shape[-1])
    return _taken(flat, places, 1).reshape(indices.shape)


def _largest(x: jax.Array, windows: ArrayLike, axis: int) -> tuple[jax.Array, jax.Array]:
    """Returns the maximum of each window along one axis, and its position."""
    batch, count, elements, channels = windows.shape
    before, after = (1,) * (axis - 1), (1,) * (x.ndim - 2 - axis)
    shape = elements, batch, *before, count, *after, channels
    places = jnp.moveaxis(jnp.asarray(windows, jnp.int32), 2, 0).reshape(shape)

    def look(
        so_far: tuple[jax.Array, jax.Array], place: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
        value = _taken(x, place, axis)
        wins = (value > so_far[0]) | jnp.isnan(value)
        return (jnp.where(wins, value, so_far[0]), jnp.where(wins, place, so_far[1])), None

    value = _taken(x, places[0], axis)
    start = value, jnp.broadcast_to(places[0], value.shape)
    return lax.scan(look, start, places[1:], unroll=_UNROLLED)[0]


def _taken(x: jax.Array, places: jax.Array, axis: int) -> jax.Array:
    return jnp.take_along_axis(x, places, axis, mode="promise_in_bounds")
