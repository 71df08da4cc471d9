"""A convolution as one product with a banded matrix, for CPUs.

The outputs of a row are cut into tiles of a few positions. What a tile looks at, as many rows as
the kernel has and a little more than its own width, times the kernel written out for each of the
tile's positions, with zeros where a position does not look, gives all its channels. Products with
zeros are wasted; but a matrix product runs near the processor's limit, where XLA's convolution of
few channels is far from it, forward and backward.
"""

import jax
import jax.numpy as jnp
from jax import lax

# From so many channels on XLA's convolution is as fast.
_FEW = 16
# The columns of the matrix, positions of a tile times channels, with which the product is fast.
_COLUMNS = 40


def pays(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether on a CPU this is faster for x [N, ..., C] and kernel [..., C, O]."""
    return x.dtype in (jnp.float32, jnp.float64) and min(kernel.shape[-2:]) < _FEW


def convolve(x: jax.Array, kernel: jax.Array, padding: tuple[tuple[int, int], ...]) -> jax.Array:
    """Cross-correlates images with a kernel, at stride 1. Differentiable in both modes.

    An infinite input, times the zeros, makes outputs NaN that do not look at it.

    Args:
        x: [N, H, W, C].
        kernel: [height, width, C, O].
        padding: zeros before and after the rows, and the columns; a negative number cuts.

    Returns:
        [N, H', W', O].
    """
    (top, bottom), (left, right) = padding
    batch, rows, columns, _ = x.shape
    height, width, _, channels = kernel.shape
    rows, columns = rows + top + bottom - height + 1, columns + left + right - width + 1
    tile = _tile(width, channels)
    tiles = -(-columns // tile)
    missing = tiles * tile - columns  # positions that the last tile has too many
    edges = (0, 0, 0), (top, bottom, 0), (left, right + missing, 0), (0, 0, 0)
    x = lax.pad(x, jnp.zeros((), x.dtype), edges)
    seen, band = _seen(x, height, tile, tiles, rows), _band(kernel, tile)
    y = seen.reshape(batch * rows * tiles, len(band)) @ band
    return y.reshape(batch, rows, tiles * tile, channels)[:, :, :columns]


def _tile(width: int, channels: int) -> int:
    """How many positions a tile has: what it looks at is then a whole number of tiles wide."""
    fitting = [size for size in range(1, width) if (width - 1) % size == 0] or [1]
    return min(fitting, key=lambda size: abs(size * channels - _COLUMNS))


def _seen(x: jax.Array, height: int, tile: int, tiles: int, rows: int) -> jax.Array:
    """What each tile looks at, [N, rows, tiles, height, width seen · C]."""
    batch, there, columns, channels = x.shape
    blocks = x.reshape(batch, there, columns // tile, tile * channels)
    wide = [blocks[:, :, q : q + tiles] for q in range(columns // tile - tiles + 1)]
    high = [[block[:, i : i + rows] for block in wide] for i in range(height)]
    return jnp.stack([jnp.concatenate(row, axis=-1) for row in high], axis=3)


def _band(kernel: jax.Array, tile: int) -> jax.Array:
    """[height · (width + tile - 1) · C, tile · O]: the kernel, moved for each position."""
    height, width, inputs, outputs = kernel.shape
    moved = [
        jnp.pad(kernel, ((0, 0), (place, tile - 1 - place), (0, 0), (0, 0)))
        for place in range(tile)
    ]
    matrix = jnp.stack(moved, axis=3)  # [height, width seen, C, tile, O]
    return matrix.reshape(height * (width + tile - 1) * inputs, tile * outputs)
