"""Samples images and volumes at given positions: ``grid_sample`` and ``affine_grid``."""

import itertools
from collections.abc import Sequence
from functools import reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    check_bool,
    check_choice,
    check_floats,
    check_positive,
    entries,
)
from jaxnets.layers.interpolation import cubic_weights
from jaxnets.layers.windows import check_input

#: Along one axis, for each output: the index of an input that contributes, and its weight.
Tap = tuple[jax.Array, jax.Array]


def grid_sample(
    input: ArrayLike,
    grid: ArrayLike,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> jax.Array:
    """Interpolates the input at the positions of a grid: ``torch.nn.functional.grid_sample``.

    Args:
        input: images [N, H, W, C] or volumes [N, D, H, W, C].
        grid: the positions, [N, H', W', 2] with x and y as in PyTorch, or [N, D', H', W', 3] with
            x, y and z. The ends of each axis are at -1 and 1.
        mode: "bilinear", which is trilinear for volumes, "nearest" or, for images, "bicubic".
        padding_mode: the values outside of the input: "zeros"; "border" for the value at the
            nearest edge; "reflection" for the input mirrored at its edges.
        align_corners: whether the ends of an axis are the centres of the outermost pixels instead
            of their outer edges. None for False.

    Returns:
        [N, H', W', C] or [N, D', H', W', C].

    Raises:
        InputError: if an array has another shape or dtype, or an option is invalid.

    Examples:
        >>> image = jnp.arange(4.0).reshape(1, 2, 2, 1)
        >>> grid_sample(image, jnp.zeros((1, 1, 1, 2))).ravel().tolist()
        [1.5]
    """
    axes = 3 if getattr(input, "ndim", 0) == 5 else 2
    check_input(input, axes, argument="input")
    places = ("H'", "W'") if axes == 2 else ("D'", "H'", "W'")
    check_floats("grid", grid, (input.shape[0], *places, axes))
    modes = ("bilinear", "nearest", "bicubic") if axes == 2 else ("bilinear", "nearest")
    check_choice("mode", mode, modes)
    check_choice("padding_mode", padding_mode, ("zeros", "border", "reflection"))
    aligned = align_corners is not None and check_bool("align_corners", align_corners)
    x, grid = jnp.asarray(input), jnp.asarray(grid)
    every = []
    for axis, size in enumerate(x.shape[1:-1]):
        span = size - 1 if aligned else size
        scale = _rounded_once if axes == 2 else _rounded_twice  # PyTorch's loops differ
        position = scale(grid[..., axes - 1 - axis] + 1, span / 2, 0 if aligned else 0.5)
        every.append(_taps(position, size, mode, padding_mode, aligned))
    return reduce(jnp.add, (_contribution(x, taps) for taps in itertools.product(*every)))


def _rounded_twice(x: jax.Array, factor: float, offset: float) -> jax.Array:
    return x * factor - offset


def _rounded_once(x: jax.Array, factor: float, offset: float) -> jax.Array:
    """Computes x · factor - offset with one rounding, as a fused multiply-add.

    The leading half of x times a short factor is exact, and so is the rest times the factor.
    """
    info = jnp.finfo(x.dtype)
    leading = lax.stop_gradient(lax.reduce_precision(x, info.nexp, info.nmant // 2))
    rest = jnp.where(jnp.isfinite(x), x - leading, 0)
    return leading * factor - offset + rest * factor


def _taps(position: jax.Array, size: int, mode: str, padding_mode: str, aligned: bool) -> list[Tap]:
    """Returns the contributing inputs along one axis; indices are integers of a float dtype."""
    if mode == "bicubic":
        first = jnp.floor(position)
        indices = [
            _padded_position(first + step, size, padding_mode, aligned) for step in range(-1, 3)
        ]
        return list(zip(indices, cubic_weights(position - first), strict=True))
    position = _padded_position(position, size, padding_mode, aligned)
    if mode == "nearest":
        return [(jnp.round(position), jnp.ones_like(position))]
    first = jnp.floor(position)
    return [(first, 1 - (position - first)), (first + 1, position - first)]


def _padded_position(position: jax.Array, size: int, padding_mode: str, aligned: bool) -> jax.Array:
    """Maps positions outside of the input to positions inside, according to the padding mode."""
    if padding_mode == "zeros":
        return position
    if padding_mode == "reflection":
        # The mirrored input is periodic; a period is the axis forwards and backwards.
        start, period = (0, 2 * (size - 1)) if aligned else (-0.5, 2 * size)
        if period == 0:
            return jnp.zeros_like(position)
        away = jnp.abs(position - start)
        away = away - jnp.trunc(away / period) * period
        position = jnp.where(away > period - away, period - away, away) + start
    # With these conditions the slope at the edges is 0 and NaN becomes 0, as in PyTorch.
    position = jnp.where(position > 0, position, 0)
    return jnp.where(position < size - 1, position, size - 1)


def _contribution(x: jax.Array, taps: Sequence[Tap]) -> jax.Array:
    """Returns the contribution of one input to each output; zeros outside of the array."""
    indices = [
        jnp.where((index >= 0) & (index < size), index, size).astype(jnp.int32)
        for (index, _), size in zip(taps, x.shape[1:-1], strict=True)
    ]
    batch = jnp.arange(x.shape[0]).reshape(-1, *[1] * len(taps))
    values = x.at[(batch, *indices)].get(mode="fill", fill_value=0)
    weight = reduce(jnp.multiply, (weight for _, weight in taps))
    return values * weight[..., None].astype(x.dtype)


def affine_grid(
    theta: ArrayLike, size: Sequence[int], align_corners: bool | None = None
) -> jax.Array:
    """Makes the grid of an affine map for ``grid_sample``: ``torch.nn.functional.affine_grid``.

    The output at position p, from -1 to 1 along each axis, is sampled from the input at A p + b.

    Args:
        theta: the matrix [A | b] of each example, [N, 2, 3], or [N, 3, 4] for volumes. Coordinates
            are in the order x, y, z.
        size: the shape of the output, channels last: (N, H, W, C) or (N, D, H, W, C).
        align_corners: see ``grid_sample``.

    Returns:
        [N, H, W, 2] or [N, D, H, W, 3].

    Raises:
        InputError: if the shapes do not match, or theta is not floating.

    Examples:
        >>> theta = jnp.array([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]])  # shift by x = 0.5
        >>> affine_grid(theta, (1, 1, 2, 3))[0, 0].tolist()
        [[0.0, 0.0], [1.0, 0.0]]
    """
    given = entries(size)
    if given is None or len(given) not in (4, 5):
        raise InputError("size", "a shape (N, H, W, C) or (N, D, H, W, C)", size)
    batch, *sizes, _ = (check_positive("size", one) for one in given)
    axes = len(sizes)
    check_floats("theta", theta, (batch, axes, axes + 1))
    aligned = align_corners is not None and check_bool("align_corners", align_corners)
    theta = jnp.asarray(theta)
    lines = [_line(n, aligned, theta.dtype) for n in sizes]
    coordinates = np.meshgrid(*lines, indexing="ij")[::-1]
    positions = np.stack([*coordinates, np.ones(sizes)], -1).astype(theta.dtype)
    return jnp.einsum("...k,njk->n...j", positions, theta)


def _line(n: int, aligned: bool, dtype: np.dtype) -> np.ndarray:
    """Returns n positions from -1 to 1, with PyTorch's rounding.

    An identity map samples exactly between two pixels, where the last bit of a position decides
    which pixels it lies between and hence the gradient. PyTorch computes both halves from their
    ends, rounding products and sums once.
    """
    if n == 1:
        return np.zeros(1)
    exact = np.dtype(np.longdouble) if dtype == np.float64 else np.dtype(np.float64)
    kind = dtype if dtype in (np.float32, np.float64) else np.dtype(np.float32)
    step, index = exact.type(kind.type(2) / kind.type(n - 1)), np.arange(n)
    line = np.where(index < n // 2, step * index - 1, 1 - step * (n - 1 - index)).astype(kind)
    return line if aligned else line * kind.type(n - 1) / kind.type(n)
