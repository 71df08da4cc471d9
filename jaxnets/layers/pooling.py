"""Pooling: the maximum or the mean of each window, channels last."""

from functools import partial, reduce
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxnets.arrays import ArrayLike, InputError, check_bool, check_integer, describe, entries
from jaxnets.kernels.geometry import Window
from jaxnets.kernels.marks import marked
from jaxnets.layers.parameters import check_others
from jaxnets.layers.windows import PerAxis, check_input, per_axis


class _Window(Window):
    """The windows along one axis, and what they take and give back."""

    def inside(self, size: int) -> list[np.ndarray]:
        """Which windows' first element is not padding, which windows' second, and so on."""
        starts, last = self.starts(size), self.dilation * (self.kernel - 1)
        places = [starts + tap for tap in range(0, last + 1, self.dilation)]
        return [(place >= 0) & (place < size) for place in places]

    def taps(self, x: jax.Array, axis: int, fill: float) -> list[jax.Array]:
        """The first elements of all windows, the second elements, and so on."""
        last = int(self.starts(x.shape[axis])[-1])
        overhang = last + self.dilation * (self.kernel - 1) + 1 - x.shape[axis]
        padded = _padded(x, axis, (self.padding, max(overhang, 0), 0), fill)
        end = last + self.padding + 1
        return [
            lax.slice_in_dim(padded, tap, tap + end, self.stride, axis)
            for tap in range(0, self.kernel * self.dilation, self.dilation)
        ]

    def spread(self, parts: list[jax.Array], size: int, axis: int) -> jax.Array:
        """What ``taps`` takes apart, put together; what several windows share is added up."""
        if self.stride == self.kernel and self.dilation == 1:  # they share nothing
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
    """Pads an axis before, after and in between."""
    every = [pads if a == axis else (0, 0, 0) for a in range(x.ndim)]
    return lax.pad(x, jnp.asarray(fill, x.dtype), every)


def _along(values: np.ndarray, x: jax.Array, axis: int) -> np.ndarray:
    """Shapes a vector so that it lies along one axis of x."""
    return values.reshape([-1 if a == axis else 1 for a in range(x.ndim)])


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _maximum(x: jax.Array, axis: int, window: _Window) -> jax.Array:
    """The maximum of each window along one axis; ties go to the first, NaN goes through."""
    return reduce(jnp.maximum, window.taps(x, axis, -np.inf))


def _maximum_forward(x: jax.Array, axis: int, window: _Window) -> tuple[jax.Array, jax.Array]:
    # The choice of each window is not kept: XLA would make the maximum of it, again and again
    # wherever it is read, instead of once.
    return _maximum(x, axis, window), x


def _maximum_backward(axis: int, window: _Window, x: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    best, *others = window.taps(x, axis, -np.inf)
    seen, *insides = window.inside(x.shape[axis])
    better = []
    for other, inside in zip(others, insides, strict=True):
        wins = (other > best) | (other != other)
        if not seen.all():  # an input of -inf still goes before padding
            wins |= _along(~seen, x, axis)
        better.append(wins)
        best = jnp.where(wins, other, best)
        seen = seen | inside
    parts = []
    for wins in reversed(better):  # the last that was better than all before it
        parts.append(jnp.where(wins, g, 0))
        g = jnp.where(wins, 0, g)
    return (window.spread([g, *reversed(parts)], x.shape[axis], axis),)


_maximum.defvjp(_maximum_forward, _maximum_backward)


@marked
def max_pool(x: jax.Array, *, windows: tuple[_Window, ...]) -> jax.Array:
    """The maximum of each window of x [N, ..., C], with a ``Window`` for each spatial axis."""
    # Along the rows first: of several maxima the first in row-major order then wins.
    for axis, window in list(enumerate(windows, start=1))[::-1]:
        x = _maximum(x, axis, window)
    return x


@marked
def avg_pool(
    x: jax.Array, *, windows: tuple[_Window, ...], count_include_pad: bool, divisor: int | None
) -> jax.Array:
    """The mean of each window of x [N, ..., C], with a ``Window`` for each spatial axis."""
    for axis, window in list(enumerate(windows, start=1))[::-1]:
        total = reduce(jnp.add, window.taps(x, axis, 0.0))
        counts = _along(window.counted(x.shape[axis], count_include_pad), x, axis)
        x = total if divisor else total / jnp.asarray(counts, x.dtype)
    return x / divisor if divisor else x


class _Pool(nnx.Module):
    axes: ClassVar[int]

    def __init__(
        self,
        kernel_size: PerAxis,
        stride: PerAxis | None,
        padding: PerAxis,
        dilation: PerAxis,
        ceil_mode: bool,
    ) -> None:
        self.kernel_size = per_axis("kernel_size", kernel_size, self.axes)
        self.stride = per_axis("stride", kernel_size if stride is None else stride, self.axes)
        self.padding = per_axis("padding", padding, self.axes, least=0)
        self.dilation = per_axis("dilation", dilation, self.axes)
        self.ceil_mode = check_bool("ceil_mode", ceil_mode)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise InputError("padding", f"at most half of kernel_size {kernel_size}", padding)

    def _windows(self, x: ArrayLike) -> tuple[_Window, ...]:
        """The windows along each spatial axis of x."""
        check_input(x, self.axes)
        options = zip(self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        windows = tuple(_Window(*option, self.ceil_mode) for option in options)
        if any(w.count(n) < 1 for w, n in zip(windows, x.shape[1:-1], strict=True)):
            raise InputError("x", f"room for a window of {self.kernel_size}", describe(x))
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
        check_others(self, {"return_indices": return_indices}, "return_indices")
        super().__init__(kernel_size, stride, padding, dilation, ceil_mode)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Takes the maximum of each window of x, [N, ..., C]."""
        windows = self._windows(x)
        return max_pool(jnp.asarray(x), windows=windows)


class MaxPool1d(_MaxPool):
    """``torch.nn.MaxPool1d``: the maximum of each window of a sequence [N, L, C].

    For the arguments see ``MaxPool2d``.
    """

    axes = 1


class MaxPool2d(_MaxPool):
    """``torch.nn.MaxPool2d``: the maximum of each window of an image [N, H, W, C].

    The gradient goes to the maximum; of several, to the first in row-major order. A window with a
    NaN gives NaN. PyTorch's ``return_indices``, the fifth argument there, does not exist here, so
    ``ceil_mode`` must be named.

    Args:
        kernel_size: height and width of the window.
        stride: steps between windows; ``kernel_size`` by default.
        padding: how far the windows reach over each edge, at most half of ``kernel_size``; what
            lies there counts as -inf.
        dilation: steps between the elements of one window.
        ceil_mode: whether a last window that hangs over the far edge is kept.

    Raises:
        InputError: if an option does not fit, or the input is too small for one window.

    Examples:
        >>> MaxPool2d(2)(jnp.ones((1, 28, 28, 6))).shape
        (1, 14, 14, 6)
    """

    axes = 2


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
        """Takes the mean of each window of x, [N, ..., C]."""
        windows = self._windows(x)
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
        stride: steps between windows; ``kernel_size`` by default.
        padding: zeros on each edge, at most half of ``kernel_size``.
        ceil_mode: whether a last window that hangs over the far edge is kept.
        count_include_pad: whether the zeros of the padding count in the mean.
        divisor_override: what the sum of each window is divided by instead of its size.

    Raises:
        InputError: if an option does not fit, or the input is too small for one window.

    Examples:
        >>> AvgPool2d(2)(jnp.ones((1, 28, 28, 6))).shape
        (1, 14, 14, 6)
    """

    axes = 2


def _or_one(size: Any) -> Any:
    return 1 if size is None else size


class _AdaptiveAvgPool(nnx.Module):
    axes: ClassVar[int]

    def __init__(self, output_size: int | tuple[int | None, ...] | None) -> None:
        several = entries(output_size)
        sizes: tuple[Any, ...] = (output_size,) * self.axes if several is None else several
        # None keeps the input's size; it passes the check as a 1.
        checked = _or_one(output_size) if several is None else tuple(map(_or_one, several))
        numbers = per_axis("output_size", checked, self.axes)
        pairs = zip(sizes, numbers, strict=True)
        self.output_size = tuple(None if size is None else number for size, number in pairs)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Averages x, [N, ..., C], into bins of nearly equal size."""
        check_input(x, self.axes)
        x = jnp.asarray(x)
        for axis, bins in enumerate(self.output_size, start=1):
            size = x.shape[axis]
            bins = size if bins is None else bins
            edges = [(i * size // bins, -(-(i + 1) * size // bins)) for i in range(bins)]
            means = [lax.slice_in_dim(x, *edge, axis=axis).mean(axis) for edge in edges]
            x = jnp.stack(means, axis)
        return x


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """``torch.nn.AdaptiveAvgPool1d``: a sequence [N, L, C] averaged to ``output_size`` steps.

    For the argument see ``AdaptiveAvgPool2d``.
    """

    axes = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """``torch.nn.AdaptiveAvgPool2d``: an image [N, H, W, C] averaged to a given size.

    Of n positions, bin i of m holds those from ⌊i n / m⌋ up to ⌈(i + 1) n / m⌉; bins may overlap.

    Args:
        output_size: height and width of the output, or one for both; None keeps the input's.

    Raises:
        InputError: if a size is not positive.

    Examples:
        >>> AdaptiveAvgPool2d(1)(jnp.ones((1, 7, 7, 512))).shape
        (1, 1, 1, 512)
    """

    axes = 2
