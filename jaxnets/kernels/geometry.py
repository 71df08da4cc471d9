"""The shapes of arrays, and where a convolution or a pool looks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np


class Shaped(Protocol):
    """An array, or what is known of one before it is there."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dtype(self) -> Any: ...  # noqa: D102
    @property
    def ndim(self) -> int: ...  # noqa: D102
    def __len__(self) -> int: ...


#: Before and after each spatial axis: zeros added, or where negative, positions cut off.
Padding = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Geometry:
    """Where a convolution looks; one entry per spatial axis.

    Attributes:
        stride: steps between two neighbouring outputs, on the dilated and padded input.
        padding: zeros before and after the dilated input; a negative number cuts.
        dilation: steps between two neighbouring taps of the kernel.
        input_dilation: steps between two neighbouring inputs, with zeros in between. A transposed
            convolution of stride s has input dilation s.
        groups: into how many independent blocks the channels are cut.
    """

    stride: tuple[int, ...]
    padding: Padding
    dilation: tuple[int, ...]
    input_dilation: tuple[int, ...]
    groups: int = 1

    def output_sizes(self, x: Shaped, kernel: Shaped) -> tuple[int, ...]:
        """The sizes of the outputs along the spatial axes, zero where the kernel does not fit.

        Args:
            x: [N, ..., C].
            kernel: [..., C / groups, O].
        """
        sizes = []
        for axis, (low, high) in enumerate(self.padding):
            inside = (x.shape[axis + 1] - 1) * self.input_dilation[axis] + 1 + low + high
            spare = inside - (kernel.shape[axis] - 1) * self.dilation[axis] - 1
            sizes.append(max(0, spare + self.stride[axis]) // self.stride[axis])
        return tuple(sizes)

    @property
    def dense(self) -> bool:
        """Whether all neighbours and all channels are looked at, from every position."""
        steps = (*self.stride, *self.dilation, *self.input_dilation, self.groups)
        return all(step == 1 for step in steps)


@dataclass(frozen=True)
class Window:
    """The windows of a pool along one axis.

    Attributes:
        kernel: the elements of a window.
        stride: steps between two windows.
        padding: how far the first window reaches over the edge, and the last one.
        dilation: steps between two elements of a window.
        ceil_mode: whether a last window that hangs over the far edge is kept.
    """

    kernel: int
    stride: int
    padding: int = 0
    dilation: int = 1
    ceil_mode: bool = False

    def count(self, size: int) -> int:
        """The number of windows; with ceil_mode the last may hang over, but starts inside."""
        spare = size + 2 * self.padding - self.dilation * (self.kernel - 1) - 1
        if not self.ceil_mode:
            return spare // self.stride + 1
        count = -(-spare // self.stride) + 1
        return count - ((count - 1) * self.stride >= size + self.padding)

    def starts(self, size: int) -> np.ndarray:
        """Where each window starts, on the axis before padding."""
        return np.arange(self.count(size)) * self.stride - self.padding

    def counted(self, size: int, count_include_pad: bool) -> np.ndarray:
        """How many elements each window counts in its mean."""
        first = self.starts(size)
        # Even where padding counts, what ceil_mode adds beyond it does not.
        last = np.minimum(first + self.kernel, size + self.padding)
        if not count_include_pad:
            first, last = np.maximum(first, 0), np.minimum(last, size)
        return last - first


def window_sizes(
    windows: Sequence[Window], sizes: Sequence[int], count_include_pad: bool
) -> np.ndarray:
    """How many elements each window of a pool counts in its mean, [1, ..., 1].

    Args:
        windows: of each spatial axis.
        sizes: of the spatial axes.
        count_include_pad: whether padding counts.
    """
    pairs = zip(windows, sizes, strict=True)
    by_axis = [window.counted(size, count_include_pad) for window, size in pairs]
    return math.prod(np.ix_(*by_axis), start=np.ones((), int))[None, ..., None]


def image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of images [N, H, W, C]; a sequence [N, L, C] is an image of one row."""
    return shape if len(shape) == 4 else (shape[0], 1, *shape[1:])


def as_images(x: jax.Array) -> jax.Array:
    """Images as they are, and sequences as images of one row."""
    return x.reshape(image_shape(x.shape))


def as_image_kernel(kernel: jax.Array) -> jax.Array:
    """A kernel [height, width, C, O]; that of a sequence [width, C, O] has one row."""
    return kernel if kernel.ndim == 4 else kernel[None]
