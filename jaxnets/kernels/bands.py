"""A convolution as one product with a banded matrix, for CPUs.

The outputs are cut into tiles of a few positions. What a tile looks at, as many rows and columns as
the kernel has and a few more, times the kernel written out for each of the tile's positions, with
zeros where a position does not look, gives all its channels. Products with zeros are wasted; but a
matrix product runs near the processor's limit, where XLA's convolution of few channels is far from
it, forward and backward.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.kernels.geometry import Padding, Shaped

# From so many channels on XLA's convolution is as fast.
_FEW = 16
# The columns of the matrix, positions of a tile times channels, with which the product is fast.
_COLUMNS = 44


def pays(x: Shaped, kernel: Shaped) -> bool:
    """Whether on a CPU this is faster for x [N, ..., C] and kernel [..., C, O]."""
    return x.dtype in (jnp.float32, jnp.float64) and min(kernel.shape[-2:]) < _FEW


def convolve(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """Cross-correlates images with a kernel, at stride 1. Differentiable in both modes.

    An infinite input or a NaN, times the zeros, makes outputs NaN that do not look at it; see
    ``where_finite``.

    Args:
        x: [N, H, W, C].
        kernel: [height, width, C, O].
        padding: zeros before and after the rows, and the columns; a negative number cuts.

    Returns:
        [N, H', W', O].
    """
    wide = _width(kernel, 1)
    rows, columns = size(x, kernel, padding)
    across = -(-columns // wide)
    y = _seen(x, kernel, padding, (1, wide), (rows, across)) @ _band(kernel, (1, wide))
    return y.reshape(len(x), rows, across * wide, kernel.shape[-1])[:, :, :columns]


def pools(kernel: Shaped) -> bool:
    """Whether ``convolve_and_pool`` takes a kernel: what a tile looks at has to be whole tiles."""
    return all(size % 2 and size > 1 for size in kernel.shape[:2])


def convolve_and_pool(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, padding: Padding
) -> jax.Array:
    """The maximum of each window of 2x2 of ``relu(convolve(x, kernel, padding) + bias)``.

    A tile is a few windows side by side. Its columns are ordered by the place in the window, so
    that the maximum is one of four arrays.

    Args:
        x: [N, H, W, C].
        kernel: [height, width, C, O]; see ``pools``.
        bias: [O].
        padding: see ``convolve``.

    Returns:
        [N, H' // 2, W' // 2, O]; of several maxima the first has the gradient.
    """
    wide, channels = _width(kernel, 2), kernel.shape[-1]
    rows, columns = (n // 2 for n in size(x, kernel, padding))
    windows = wide // 2
    across = -(-columns // windows)
    band = _band(kernel, (2, wide)).reshape(-1, 2, windows, 2, channels).swapaxes(2, 3)
    seen = _seen(x, kernel, padding, (2, wide), (rows, across))
    y = seen @ band.reshape(seen.shape[1], -1)
    y = _best(y.reshape(len(y), 4, windows * channels), jnp.tile(bias, windows))
    return y.reshape(len(x), rows, across * windows, channels)[:, :, :columns]


def where_finite(
    product: Callable[..., jax.Array], exact: Callable[..., jax.Array]
) -> Callable[..., jax.Array]:
    """A product with a band where it gives finite numbers, otherwise the same function without.

    The zeros of a band spread NaN and infinity, so that a result in which all is finite is right.
    Outputs and gradients are looked at one by one. In reverse mode only, to any order.

    Args:
        product: computes with a band.
        exact: the same function of the same arrays, where NaN and infinity stay in their places.

    Returns:
        The function of these arrays.
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
        # Apart, as a first layer's gradient by x, which nobody reads, is then not computed.
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
    # The fastest of XLA's sums on CPUs. That of very large numbers is infinite too, which costs
    # time alone.
    return jnp.isfinite(jnp.vdot(array, array))


@_all_finite.def_vmap
def _all_of_batch_finite(size: int, batched: Any, array: jax.Array) -> tuple[jax.Array, bool]:
    # One answer for the batch: of an answer for each, JAX would compute both ways for all.
    return _all_finite(array), False


def size(x: jax.Array, kernel: jax.Array, padding: Padding) -> list[int]:
    """Rows and columns of what ``convolve`` gives."""
    axes = zip(x.shape[1:3], padding, kernel.shape, strict=False)
    return [n + sum(edges) - reach + 1 for n, edges, reach in axes]


def _width(kernel: jax.Array, tall: int) -> int:
    """The width of tiles of so many rows: what one looks at is a whole number of tiles wide."""
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
    """What each tile looks at, [N · tiles, height seen · width seen · C]."""
    batch, rows, columns, channels = x.shape
    (tall, wide), (down, across) = tile, tiles
    high, broad = ((k - 1) // t + 1 for k, t in zip(kernel.shape, tile, strict=False))
    (top, _), (left, _) = padding
    # A row of tiles more than is looked at: where there is nothing to pad, XLA would compute what
    # makes x, the gather of a batch say, anew for each tile that sees it.
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
    """[height seen · width seen · C, positions · O]: the kernel, moved for each position."""
    tall, wide = tile
    moved = [
        jnp.pad(kernel, ((i, tall - 1 - i), (j, wide - 1 - j), (0, 0), (0, 0)))
        for i in range(tall)
        for j in range(wide)
    ]
    matrix = jnp.stack(moved, axis=3)  # [height seen, width seen, C, positions, O]
    return matrix.reshape(-1, len(moved) * kernel.shape[-1])


@jax.custom_vjp
def _best(y: jax.Array, bias: jax.Array) -> jax.Array:
    """max(y + bias) over the second axis of y [tiles, 4, …], and zero."""
    top = jnp.maximum(jnp.maximum(y[:, 0], y[:, 1]), jnp.maximum(y[:, 2], y[:, 3]))
    return jnp.maximum(top + bias[None], 0)


def _best_forward(y: jax.Array, bias: jax.Array) -> tuple[jax.Array, Any]:
    top = _best(y, bias)
    return top, (y, bias, top)


def _best_backward(residuals: Any, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    y, bias, top = residuals
    g = jnp.where(top > 0, g, 0)
    parts, left = [], g
    for place in range(3):
        wins = y[:, place] + bias[None] == top
        parts.append(jnp.where(wins, left, 0))
        left = jnp.where(wins, 0, left)
    return jnp.stack([*parts, left], axis=1), g.sum(0)


_best.defvjp(_best_forward, _best_backward)
