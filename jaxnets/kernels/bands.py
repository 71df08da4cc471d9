"""Convolutions as products with a banded matrix, for CPUs.

The outputs are divided into tiles of a few positions. The input patch that a tile depends on is one
row of a matrix. It is multiplied by a banded matrix: the kernel, shifted for each position of the
tile, and zeros elsewhere. Products with zeros are wasted. But a matrix product runs near the
processor's peak, and XLA's convolution of few channels is far below it, forward and backward.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.kernels.geometry import Padding, Shaped

# With at least this many channels, XLA's convolution is as fast.
_FEW = 16
# Number of columns of the matrix (positions of a tile times channels) at which products are fast.
_COLUMNS = 44


def is_faster(x: Shaped, kernel: Shaped) -> bool:
    """Whether a banded product is faster on a CPU for x [N, ..., C] and kernel [..., C, O]."""
    return x.dtype in (jnp.float32, jnp.float64) and min(kernel.shape[-2:]) < _FEW


def convolve(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Cross-correlates images with a kernel, at stride 1. Differentiable in both modes.

    A NaN or an infinity in the input, times the zeros of the band, makes outputs NaN that do not
    depend on it; see ``where_finite``.

    Args:
        x: [N, H, W, C].
        kernel: [height, width, C, O].
        padding: zeros before and after the rows, and the columns; a negative number removes
            positions.

    Returns:
        [N, H', W', O].
    """
    wide = _width(kernel, 1)
    rows, columns = size(x, kernel, padding)
    across = -(-columns // wide)  # the last tile may extend beyond the outputs
    y = _seen(x, kernel, padding, (1, wide), (rows, across)) @ _band(kernel, (1, wide))
    return y.reshape(len(x), rows, across * wide, kernel.shape[-1])[:, :, :columns]


def pools(kernel: Shaped) -> bool:
    """Whether ``convolve_and_pool`` supports a kernel: a patch must be a whole number of tiles."""
    return all(size % 2 and size > 1 for size in kernel.shape[:2])


def convolve_and_pool(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, padding: Padding
) -> jax.Array:
    """Computes 2×2 max pooling of ``relu(convolve(x, kernel, padding) + bias)``.

    A tile is a row of pooling windows. The columns of the band are ordered by the position within
    the window, so that pooling is an elementwise maximum of four arrays.

    Args:
        x: [N, H, W, C].
        kernel: [height, width, C, O]; see ``pools``.
        bias: [O].
        padding: see ``convolve``.

    Returns:
        [N, H' // 2, W' // 2, O]; of equal maxima the first receives the gradient.
    """
    wide, channels = _width(kernel, 2), kernel.shape[-1]
    rows, columns = (n // 2 for n in size(x, kernel, padding))
    windows = wide // 2
    across = -(-columns // windows)
    band = _band(kernel, (2, wide)).reshape(-1, 2, windows, 2, channels).swapaxes(2, 3)
    seen = _seen(x, kernel, padding, (2, wide), (rows, across))
    y = seen @ band.reshape(seen.shape[1], -1)
    # The bias is added after the maximum, which gives the same result with a quarter of the sums.
    y = _best(y.reshape(len(y), 4, windows * channels), jnp.tile(bias, windows))
    return y.reshape(len(x), rows, across * windows, channels)[:, :, :columns]


def where_finite(
    product: Callable[..., jax.Array], exact: Callable[..., jax.Array]
) -> Callable[..., jax.Array]:
    """Combines a product with a band and an exact function, which replaces results with NaN.

    The zeros of a band can only spread NaN and infinity, so a result is correct if all of it is
    finite. Outputs and gradients are checked separately. Reverse mode only, to any order.

    Args:
        product: the function that uses a band.
        exact: the same function, in which NaN and infinity do not spread.

    Returns:
        A function of the same arrays.
    """

    def chosen(made: Any, otherwise: Callable[..., Any], *inputs: Any) -> Any:
        return lax.cond(
            _finite(made), lambda made, *_: made, lambda _, *i: otherwise(*i), made, *inputs
        )

    def exact_gradients(g: jax.Array, *inputs: jax.Array) -> tuple[jax.Array, ...]:
        return jax.vjp(exact, *inputs)[1](g)

    @jax.custom_vjp
    def run(*inputs: jax.Array) -> jax.Array:
        return lax.cond(_finite(inputs), product, exact, *inputs)

    def forward(*inputs: jax.Array) -> tuple[jax.Array, Any]:
        made, pull_back = jax.vjp(product, *inputs)
        return chosen(made, exact, *inputs), (inputs, pull_back)

    def backward(residuals: Any, g: jax.Array) -> tuple[jax.Array, ...]:
        inputs, pull_back = residuals
        d_x, *others = pull_back(g)
        # Separate conditionals, so that XLA can remove the gradient of x if it is not used.
        return (
            chosen(d_x, lambda *given: exact_gradients(*given)[0], g, *inputs),
            *chosen(others, lambda *given: list(exact_gradients(*given)[1:]), g, *inputs),
        )

    run.defvjp(forward, backward)
    return run


def _finite(arrays: Any) -> jax.Array:
    leaves = jax.tree.leaves(lax.stop_gradient(arrays))
    return jnp.stack([_all_finite(array) for array in leaves]).all()


@jax.custom_batching.custom_vmap
def _all_finite(array: jax.Array) -> jax.Array:
    # A dot product is the fastest of XLA's reductions on CPUs. It also overflows for very large
    # finite numbers; then the exact function is used, which only takes longer.
    return jnp.isfinite(jnp.vdot(array, array))


@_all_finite.def_vmap
def _all_of_batch_finite(size: int, batched: Any, array: jax.Array) -> tuple[jax.Array, bool]:
    # One predicate for the whole batch: with one for each element, ``vmap`` would turn the cond
    # into a select, which computes both branches.
    return _all_finite(array), False


def size(x: jax.Array, kernel: jax.Array, padding: Padding) -> list[int]:
    """Returns the numbers of rows and columns of the output of ``convolve``."""
    axes = zip(x.shape[1:3], padding, kernel.shape, strict=False)
    return [n + sum(edges) - reach + 1 for n, edges, reach in axes]


def _width(kernel: jax.Array, tall: int) -> int:
    """Returns the width of tiles with ``tall`` rows.

    The width divides the kernel's reach, so that a patch is a whole number of tiles wide, and makes
    the number of columns closest to ``_COLUMNS``.
    """
    reach = kernel.shape[1] - 1
    widths = [wide for wide in range(tall, reach + 1, tall) if reach % wide == 0] or [1]
    return min(widths, key=lambda wide: abs(tall * wide * kernel.shape[-1] - _COLUMNS))


def _seen(
    x: jax.Array,
    kernel: jax.Array,
    padding: Padding,
    tile: tuple[int, int],
    tiles: tuple[int, int],
) -> jax.Array:
    """Returns the patch of each tile, [N · tiles, patch height · patch width · C]."""
    batch, rows, columns, channels = x.shape
    (tall, wide), (down, across) = tile, tiles
    high, broad = ((k - 1) // t + 1 for k, t in zip(kernel.shape, tile, strict=False))
    (top, _), (left, _) = padding
    # One row of tiles more than needed, so that there is always padding. Without it, XLA would fuse
    # the operation that makes x, such as the gather of a batch, into each of the slices below.
    bottom, right = (down + high) * tall - top - rows, (across + broad - 1) * wide - left - columns
    edges = (0, 0, 0), (top, bottom, 0), (left, right, 0), (0, 0, 0)
    x = lax.pad(x, jnp.zeros((), x.dtype), edges)
    x = x.reshape(batch, down + high, tall, across + broad - 1, wide * channels)
    seen = [
        jnp.concatenate([x[:, p : p + down, i, q : q + across] for q in range(broad)], axis=-1)
        for p in range(high)
        for i in range(tall)
    ]
    size = len(seen) * broad * wide * channels
    return jnp.stack(seen, axis=3).reshape(batch * down * across, size)


def _band(kernel: jax.Array, tile: tuple[int, int]) -> jax.Array:
    """Returns the banded matrix, [patch height · patch width · C, positions · O]."""
    tall, wide = tile
    moved = [
        jnp.pad(kernel, ((i, tall - 1 - i), (j, wide - 1 - j), (0, 0), (0, 0)))
        for i in range(tall)
        for j in range(wide)
    ]
    matrix = jnp.stack(moved, axis=3)  # [patch height, patch width, C, positions, O]
    return matrix.reshape(-1, len(moved) * kernel.shape[-1])


@jax.custom_vjp
def _best(y: jax.Array, bias: jax.Array) -> jax.Array:
    """Computes max(y + bias, 0) with the maximum over the second axis of y [tiles, 4, …].

    JAX's own gradient of ``maximum`` divides the gradient between equal maxima; PyTorch gives it to
    the first.
    """
    top = jnp.maximum(jnp.maximum(y[:, 0], y[:, 1]), jnp.maximum(y[:, 2], y[:, 3]))
    return jnp.maximum(top + bias[None], 0)


def _best_forward(y: jax.Array, bias: jax.Array) -> tuple[jax.Array, Any]:
    top = _best(y, bias)
    return top, (y, bias, top)


def _best_backward(residuals: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    y, bias, top = residuals
    g = jnp.where(top > 0, g, 0)  # the gradient of ReLU
    # Only the first of equal maxima receives the gradient. The last value receives what the first
    # three did not.
    parts, left = [], g
    for place in range(3):
        wins = y[:, place] + bias[None] == top
        parts.append(jnp.where(wins, left, 0))
        left = jnp.where(wins, 0, left)
    return jnp.stack([*parts, left], axis=1), g.sum(0)


_best.defvjp(_best_forward, _best_backward)
