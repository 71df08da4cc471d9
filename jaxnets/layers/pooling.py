"""Pooling: the maximum, the mean or the norm of each window, channels last."""

import math
from functools import partial, reduce
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    check_bool,
    check_integer,
    check_number,
    describe,
)
from jaxnets.kernels.geometry import Window, window_sizes
from jaxnets.kernels.marks import marked
from jaxnets.layers.maxima import maxima
from jaxnets.layers.windows import PerAxis, check_input, per_axis


class _Window(Window):
    """The windows along one axis: extracts their elements, and adds up gradients of elements."""

    def places(self, size: int) -> np.ndarray:
        """Returns the positions, before padding, of the elements of windows: [windows, kernel]."""
        return self.starts(size)[:, None] + self.dilation * np.arange(self.kernel)

    def inside(self, size: int) -> list[np.ndarray]:
        """Returns, for each element of a window, in which windows it is not padding, [windows]."""
        places = self.places(size)
        return list(((places >= 0) & (places < size)).T)

    def elements(self, size: int) -> np.ndarray:
        """Returns the positions in each window, [1, windows, elements, 1].

        Positions in the padding are replaced by the nearest position of the window outside of it.
        """
        places, inside = self.places(size), np.transpose(self.inside(size))
        first = np.where(inside, places, size - 1).min(1, keepdims=True)
        last = np.where(inside, places, 0).max(1, keepdims=True)
        return np.clip(places, first, last)[None, :, :, None]

    def taps(self, x: jax.Array, axis: int, fill: float) -> list[jax.Array]:
        """Returns the first elements of all windows, the second elements, and so on."""
        last = int(self.starts(x.shape[axis])[-1])
        overhang = last + self.dilation * (self.kernel - 1) + 1 - x.shape[axis]
        padded = _padded(x, axis, (self.padding, max(overhang, 0), 0), fill)
        end = last + self.padding + 1
        return [
            lax.slice_in_dim(padded, tap, tap + end, self.stride, axis)
            for tap in range(0, self.kernel * self.dilation, self.dilation)
        ]

    def spread(self, parts: list[jax.Array], size: int, axis: int) -> jax.Array:
        """Computes the transpose of ``taps``: adds up the elements at their positions."""
        if self.stride == self.kernel and self.dilation == 1:  # windows do not overlap
            tiles = jnp.stack(parts, axis + 1)
            length = tiles.shape[axis] * tiles.shape[axis + 1]
            whole = (*tiles.shape[:axis], length, *tiles.shape[axis + 2 :])
            end = size + self.padding - parts[0].shape[axis] * self.kernel
            return _padded(tiles.reshape(whole), axis, (-self.padding, end, 0))
        reach = (parts[0].shape[axis] - 1) * self.stride + 1
        starts = [tap * self.dilation - self.padding for tap in range(self.kernel)]
        spaced = [
            _padded(part, axis, (start, size - start - reach, self.stride - 1))
            for start, part in zip(starts, parts, strict=True)
        ]
        return reduce(jnp.add, spaced)


def _padded(x: jax.Array, axis: int, pads: tuple[int, int, int], fill: float = 0) -> jax.Array:
    """Pads one axis before, after and between its elements."""
    every = [pads if a == axis else (0, 0, 0) for a in range(x.ndim)]
    return lax.pad(x, jnp.asarray(fill, x.dtype), every)


def _along(values: np.ndarray, x: jax.Array, axis: int) -> np.ndarray:
    """Reshapes a vector to broadcast along one axis of x."""
    return values.reshape([-1 if a == axis else 1 for a in range(x.ndim)])


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _maximum(x: jax.Array, axis: int, window: _Window) -> jax.Array:
    """Computes the maximum of each window along one axis; the maximum with a NaN is NaN.

    The gradient of equal maxima goes to the first, as in PyTorch, unlike the automatic derivative.
    """
    if window.covers(x.shape[axis]):
        return x.max(axis, keepdims=True)
    return reduce(jnp.maximum, window.taps(x, axis, -np.inf))


def _maximum_forward(x: jax.Array, axis: int, window: _Window) -> tuple[jax.Array, jax.Array]:
    # The index of the maximum is not stored for the backward pass: XLA would then derive the
    # maximum from the index, and recompute it wherever the maximum is read.
    return _maximum(x, axis, window), x


def _maximum_backward(axis: int, window: _Window, x: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    if window.covers(x.shape[axis]):
        return (jnp.where(_is_chosen(x, axis), g, 0),)
    # Finds the maximum by a scan over the elements of windows, recording where each element is
    # better than all before it. The gradient then goes to the last such element.
    best, *others = window.taps(x, axis, -np.inf)
    seen, *insides = window.inside(x.shape[axis])
    better = []
    for other, inside in zip(others, insides, strict=True):
        wins = (other > best) | (other != other)
        if not seen.all():  # an input of -inf still has precedence over padding
            wins |= _along(~seen, x, axis)
        better.append(wins)
        best = jnp.where(wins, other, best)
        seen = seen | inside
    parts = []
    for wins in reversed(better):
        parts.append(jnp.where(wins, g, 0))
        g = jnp.where(wins, 0, g)
    return (window.spread([g, *reversed(parts)], x.shape[axis], axis),)


_maximum.defvjp(_maximum_forward, _maximum_backward)


def _is_chosen(x: jax.Array, axis: int) -> jax.Array:
    """Whether an element is the first of the largest along an axis or, with NaN, the last NaN."""
    size = x.shape[axis]
    place = lax.broadcasted_iota(jnp.int32, x.shape, axis)
    largest = jnp.where(x == x.max(axis, keepdims=True), size - 1 - place, -1)
    rank = jnp.where(x != x, size + place, largest)  # no element equals a maximum that is NaN
    return rank == rank.max(axis, keepdims=True)


@marked
def max_pool(x: jax.Array, *, windows: tuple[_Window, ...]) -> jax.Array:
    """Computes the maximum of each window of x [N, ..., C], with a ``Window`` for each axis."""
    # The last axis is reduced first, so that the first of equal maxima in row-major order wins.
    for axis, window in list(enumerate(windows, start=1))[::-1]:
        x = _maximum(x, axis, window)
    return x


@marked
def avg_pool(
    x: jax.Array, *, windows: tuple[_Window, ...], count_include_pad: bool, divisor: int | None
) -> jax.Array:
    """Computes the mean of each window of x [N, ..., C], with a ``Window`` for each axis."""
    counts = window_sizes(windows, x.shape[1:-1], count_include_pad)
    for axis, window in list(enumerate(windows, start=1))[::-1]:
        if window.covers(x.shape[axis]):
            x = x.sum(axis, keepdims=True)
        else:
            x = reduce(jnp.add, window.taps(x, axis, 0.0))
    return x / (divisor or jnp.asarray(counts, x.dtype))


class _Pool(nnx.Module):
    axes: ClassVar[int]

    def __init__(
        self,
        kernel_size: PerAxis,
        stride: PerAxis | None,
        padding: PerAxis = 0,
        dilation: PerAxis = 1,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size = per_axis("kernel_size", kernel_size, self.axes)
        self.stride = per_axis("stride", kernel_size if stride is None else stride, self.axes)
        self.padding = per_axis("padding", padding, self.axes, least=0)
        self.dilation = per_axis("dilation", dilation, self.axes)
        self.ceil_mode = check_bool("ceil_mode", ceil_mode)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise InputError("padding", f"at most half of kernel_size {kernel_size}", padding)

    def _windows(self, x: ArrayLike, argument: str = "x") -> tuple[_Window, ...]:
        """Returns the windows along each spatial axis of x."""
        check_input(x, self.axes, argument=argument)
        options = zip(self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        windows = tuple(_Window(*option, self.ceil_mode) for option in options)
        if any(w.count(n) < 1 for w, n in zip(windows, x.shape[1:-1], strict=True)):
            raise InputError(argument, f"at least one window of {self.kernel_size}", describe(x))
        return windows


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: PerAxis,
        stride: PerAxis | None = None,
        padding: PerAxis = 0,
        dilation: PerAxis = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode)
        self.return_indices = check_bool("return_indices", return_indices)

    def __call__(self, x: ArrayLike) -> Any:
        """Computes the maximum of each window of x, [N, ..., C].

        Returns:
            [N, ..., C]; with ``return_indices`` also the index of each maximum, integers
            [N, ..., C].
        """
        return self._pooled(x, "x")

    def _pooled(self, x: ArrayLike, argument: str) -> Any:
        windows = self._windows(x, argument)
        x = jnp.asarray(x)
        y = max_pool(x, windows=windows)
        if not self.return_indices:
            return y
        sizes = zip(windows, x.shape[1:-1], strict=True)
        return y, maxima(x, [window.elements(size) for window, size in sizes])


class MaxPool1d(_MaxPool):
    """``torch.nn.MaxPool1d``: the maximum of each window of a sequence [N, L, C].

    For the arguments see ``MaxPool2d``.
    """

    axes = 1


class MaxPool2d(_MaxPool):
    """``torch.nn.MaxPool2d``: the maximum of each window of an image [N, H, W, C].

    The gradient goes to the maximum; of several equal ones, to the first in row-major order. The
    maximum of a window with a NaN is NaN.

    Args:
        kernel_size: height and width of the window.
        stride: the distance between windows; ``kernel_size`` by default.
        padding: the number of positions, filled with -inf, added at each edge; at most half of
            ``kernel_size``.
        dilation: the distance between the elements of a window.
        return_indices: whether a call also returns the index of each maximum, which is h · W + w
            for a maximum at [n, h, w, c], as in PyTorch. ``MaxUnpool2d`` takes the indices.
        ceil_mode: whether to keep a last window that extends beyond the far edge.

    Raises:
        InputError: if an option is invalid, or the input is too small for one window.

    Examples:
        >>> MaxPool2d(2)(jnp.ones((1, 28, 28, 6))).shape
        (1, 14, 14, 6)
    """

    axes = 2


class MaxPool3d(_MaxPool):
    """``torch.nn.MaxPool3d``: the maximum of each window of a volume [N, D, H, W, C].

    For the arguments see ``MaxPool2d``.
    """

    axes = 3


class _AvgPool(_Pool):
    def __init__(
        self,
        kernel_size: PerAxis,
        stride: PerAxis | None = None,
        padding: PerAxis = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, 1, ceil_mode)
        if divisor_override is not None:
            divisor_override = check_integer("divisor_override", divisor_override)
        if divisor_override == 0:
            raise InputError("divisor_override", "a number other than zero", divisor_override)
        self.count_include_pad = check_bool("count_include_pad", count_include_pad)
        self.divisor_override = divisor_override

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Computes the mean of each window of x, [N, ..., C]."""
        return self._pooled(x, "x")

    def _pooled(self, x: ArrayLike, argument: str) -> jax.Array:
        windows = self._windows(x, argument)
        return avg_pool(
            jnp.asarray(x),
            windows=windows,
            count_include_pad=self.count_include_pad,
            divisor=self.divisor_override,
        )


class AvgPool1d(_AvgPool):
    """``torch.nn.AvgPool1d``: the mean of each window of a sequence [N, L, C].

    For the arguments see ``AvgPool2d``.
    """

    axes = 1


class AvgPool2d(_AvgPool):
    """``torch.nn.AvgPool2d``: the mean of each window of an image [N, H, W, C].

    Args:
        kernel_size: height and width of the window.
        stride: the distance between windows; ``kernel_size`` by default.
        padding: the number of zeros added at each edge, at most half of ``kernel_size``.
        ceil_mode: whether to keep a last window that extends beyond the far edge.
        count_include_pad: whether the mean includes the zeros of the padding.
        divisor_override: the divisor of the sum of each window, instead of its size.

    Raises:
        InputError: if an option is invalid, or the input is too small for one window.

    Examples:
        >>> AvgPool2d(2)(jnp.ones((1, 28, 28, 6))).shape
        (1, 14, 14, 6)
    """

    axes = 2


class AvgPool3d(_AvgPool):
    """``torch.nn.AvgPool3d``: the mean of each window of a volume [N, D, H, W, C].

    For the arguments see ``AvgPool2d``.
    """

    axes = 3


class _LPPool(_Pool):
    def __init__(
        self,
        norm_type: float,
        kernel_size: PerAxis,
        stride: PerAxis | None = None,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, ceil_mode=ceil_mode)
        self.norm_type = check_number("norm_type", norm_type, finite=False)
        if self.norm_type == 0:
            raise InputError("norm_type", "a number other than zero", norm_type)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Computes the norm of each window of x, [N, ..., C]."""
        return self._pooled(x, "x")

    def _pooled(self, x: ArrayLike, argument: str) -> jax.Array:
        windows, p = self._windows(x, argument), self.norm_type
        x = jnp.asarray(x)
        if math.isinf(p):
            sign = math.copysign(1, p)
            # sign(x) · x is |x| with gradient 0 at 0, as in PyTorch; jnp.abs has gradient 1 there.
            return sign * max_pool(sign * jnp.sign(x) * x, windows=windows)
        means = avg_pool(x**p, windows=windows, count_include_pad=True, divisor=None)
        # ReLU makes the gradient at a sum of zero 0 instead of infinite.
        positive = jnp.sign(means) * jax.nn.relu(jnp.abs(means))
        return (positive * math.prod(self.kernel_size)) ** (1 / p)


class LPPool1d(_LPPool):
    """``torch.nn.LPPool1d``: the p-norm of each window of a sequence [N, L, C].

    For the arguments see ``LPPool2d``.
    """

    axes = 1


class LPPool2d(_LPPool):
    """``torch.nn.LPPool2d``: the p-norm of each window of an image [N, H, W, C].

    (Σ x^p)^(1/p) over the window. As in PyTorch the sum is over x^p, not |x|^p, so with an odd p
    the norm is NaN if the sum is negative. Where the sum is zero, the gradient is zero. For a
    window that extends beyond the edge, the sum is the mean of x^p times the full window size.

    Args:
        norm_type: p; for infinity the maximum of |x|, for minus infinity the minimum.
        kernel_size: height and width of the window.
        stride: the distance between windows; ``kernel_size`` by default.
        ceil_mode: whether to keep a last window that extends beyond the far edge.

    Raises:
        InputError: if an option is invalid, or the input is too small for one window.

    Examples:
        >>> LPPool2d(2, 2)(jnp.ones((1, 2, 2, 1))).item()
        2.0
    """

    axes = 2


class LPPool3d(_LPPool):
    """``torch.nn.LPPool3d``: the p-norm of each window of a volume [N, D, H, W, C].

    For the arguments see ``LPPool2d``.
    """

    axes = 3


def max_pool1d(
    input: ArrayLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """``torch.nn.functional.max_pool1d``: pools a sequence. For arguments see ``max_pool2d``."""
    pool = MaxPool1d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)
    return pool._pooled(input, "input")


def max_pool2d(
    input: ArrayLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Computes the maximum of each window of an image; see ``MaxPool2d``.

    The gradient goes to the maximum; of several equal ones, to the first in row-major order.

    Args:
        input: [N, H, W, C].
        kernel_size: height and width of the window.
        stride: the distance between windows; ``kernel_size`` by default.
        padding: the number of positions, filled with -inf, added at each edge; at most half of
            ``kernel_size``.
        dilation: the distance between the elements of a window.
        ceil_mode: whether to keep a last window that extends beyond the far edge.
        return_indices: whether to return also the index of each maximum, which is h · W + w for a
            maximum at [n, h, w, c].

    Returns:
        [N, H', W', C]; with ``return_indices`` a pair of these and their indices, integers
        [N, H', W', C].

    Raises:
        InputError: if an option is invalid, or the input is too small for one window.

    PyTorch: ``torch.nn.functional.max_pool2d``.

    Examples:
        >>> y, indices = max_pool2d(jnp.arange(4.0).reshape(1, 2, 2, 1), 2, return_indices=True)
        >>> y.item(), indices.item()
        (3.0, 3)
    """
    pool = MaxPool2d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)
    return pool._pooled(input, "input")


def max_pool3d(
    input: ArrayLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """``torch.nn.functional.max_pool3d``: pools a volume. For the arguments see ``max_pool2d``."""
    pool = MaxPool3d(kernel_size, stride, padding, dilation, return_indices, ceil_mode)
    return pool._pooled(input, "input")


def avg_pool1d(
    input: ArrayLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> jax.Array:
    """``torch.nn.functional.avg_pool1d``: pools a sequence. For arguments see ``avg_pool2d``."""
    pool = AvgPool1d(kernel_size, stride, padding, ceil_mode, count_include_pad)
    return pool._pooled(input, "input")


def avg_pool2d(
    input: ArrayLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> jax.Array:
    """Computes the mean of each window of an image; see ``AvgPool2d``.

    Args:
        input: [N, H, W, C].
        kernel_size: height and width of the window.
        stride: the distance between windows; ``kernel_size`` by default.
        padding: the number of zeros added at each edge, at most half of ``kernel_size``.
        ceil_mode: whether to keep a last window that extends beyond the far edge.
        count_include_pad: whether the mean includes the zeros of the padding.
        divisor_override: the divisor of the sum of each window, instead of its size.

    Returns:
        [N, H', W', C].

    Raises:
        InputError: if an option is invalid, or the input is too small for one window.

    PyTorch: ``torch.nn.functional.avg_pool2d``.

    Examples:
        >>> avg_pool2d(jnp.arange(4.0).reshape(1, 2, 2, 1), 2).item()
        1.5
    """
    pool = AvgPool2d(kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return pool._pooled(input, "input")


def avg_pool3d(
    input: ArrayLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> jax.Array:
    """``torch.nn.functional.avg_pool3d``: pools a volume. For the arguments see ``avg_pool2d``."""
    pool = AvgPool3d(kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return pool._pooled(input, "input")


def lp_pool1d(
    input: ArrayLike,
    norm_type: float,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    ceil_mode: bool = False,
) -> jax.Array:
    """``torch.nn.functional.lp_pool1d``: pools a sequence. For the arguments see ``lp_pool2d``."""
    return LPPool1d(norm_type, kernel_size, stride, ceil_mode)._pooled(input, "input")


def lp_pool2d(
    input: ArrayLike,
    norm_type: float,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    ceil_mode: bool = False,
) -> jax.Array:
    """Computes the p-norm of each window of an image, (Σ x^p)^(1/p); see ``LPPool2d``.

    Args:
        input: [N, H, W, C].
        norm_type: p; for infinity the maximum of |x|, for minus infinity the minimum.
        kernel_size: height and width of the window.
        stride: the distance between windows; ``kernel_size`` by default.
        ceil_mode: whether to keep a last window that extends beyond the far edge.

    Returns:
        [N, H', W', C].

    Raises:
        InputError: if an option is invalid, or the input is too small for one window.

    PyTorch: ``torch.nn.functional.lp_pool2d``.

    Examples:
        >>> lp_pool2d(jnp.ones((1, 2, 2, 1)), 2, 2).item()
        2.0
    """
    return LPPool2d(norm_type, kernel_size, stride, ceil_mode)._pooled(input, "input")


def lp_pool3d(
    input: ArrayLike,
    norm_type: float,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    ceil_mode: bool = False,
) -> jax.Array:
    """``torch.nn.functional.lp_pool3d``: pools a volume. For the arguments see ``lp_pool2d``."""
    return LPPool3d(norm_type, kernel_size, stride, ceil_mode)._pooled(input, "input")
