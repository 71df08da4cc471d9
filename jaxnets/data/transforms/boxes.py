"""Rectangles of pixels."""

import jax
import jax.numpy as jnp


def inside(
    height: int, width: int, top: jax.Array, bottom: jax.Array, left: jax.Array, right: jax.Array
) -> jax.Array:
    """Whether each pixel [H, W] is in the rows [top, bottom) and the columns [left, right)."""
    rows, columns = jnp.arange(height, dtype=jnp.int32), jnp.arange(width, dtype=jnp.int32)
    in_rows = (top <= rows) & (rows < bottom)
    in_columns = (left <= columns) & (columns < right)
    return in_rows[:, None] & in_columns[None, :]
