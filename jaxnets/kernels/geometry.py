"""The geometry of convolutions and pools: strides, padding, windows and output sizes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np


class Shaped(Protocol):
    """The protocol of arrays, and of shapes and dtypes without an array."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dtype(self) -> Any: ...  # noqa: D102
    @property
    def ndim(self) -> int: ...  # noqa: D102
    def __len__(self) -> int: ...


#: Number of zeros before and after each spatial axis; a negative number removes positions.
Padding = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Geometry:
    """The geometry of a convolution, with one entry per spatial axis.

    Attributes:
        stride: distance between the windows of two neighbouring outputs, on the dilated and padded
            input.
        padding: zeros before and after the dilated input; a negative number removes positions.
        dilation: distance between two neighbouring taps of the kernel.
        input_dilation: distance between two neighbouring inputs, with zeros in between. A
            transposed convolution of stride s has input dilation s.
        groups: number of independent groups of channels.
    """

    stride: tuple[int, ...]
    padding: Padding
    dilation: tuple[int, ...]
    input_dilation: tuple[int, ...]
    groups: int = 1

    def output_sizes(self, x: Shaped, kernel: Shaped) -> tuple[int, ...]:
        """Returns the output sizes along the spatial axes, zero if the kernel does not fit.

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
        """Whether stride, dilations and groups are all 1."""
        steps = (*self.stride, *self.dilation, *self.input_dilation, self.groups)
        return all(step == 1 for step in steps)


@dataclass(frozen=True)
class Window:
    """The windows of a pool along one axis.

    Attributes:
        kernel: number of elements of a window.
        stride: distance between two windows.
        padding: number of positions by which the first and the last window extend over the edge.
        dilation: distance between two elements of a window.
        ceil_mode: whether a last window that extends over the far edge is kept.
    """

    kernel: int
    stride: int
    padding: int = 0
    dilation: int = 1
    ceil_mode: bool = False

    def count(self, size: int) -> int:
        """Returns the number of windows; with ``ceil_mode`` the last one must start inside."""
        spare = size + 2 * self.padding - self.dilation * (self.kernel - 1) - 1
        if not self.ceil_mode:
            return spare // self.stride + 1
        count = -(-spare // self.stride) + 1
        return count - ((count - 1) * self.stride >= size + self.padding)

    def covers(self, size: int) -> bool:
        """Whether there is one window, which consists of all elements of the axis."""
        return self.kernel == size and self.padding == 0 and self.dilation == 1

    def starts(self, size: int) -> np.ndarray:
        """Returns the start of each window, on the axis before padding."""
        return np.arange(self.count(size)) * self.stride - self.padding

    def counted(self, size: int, count_include_pad: bool) -> np.ndarray:
        """Returns the number of elements over which the mean of each window is taken."""
        first = self.starts(size)
        # As in PyTorch, positions that ceil_mode adds beyond the padding never count.
        last = np.minimum(first + self.kernel, size + self.padding)
        if not count_include_pad:
            first, last = np.maximum(first, 0), np.minimum(last, size)
        return last - first


def window_sizes(
    windows: Sequence[Window], sizes: Sequence[int], count_include_pad: bool
) -> np.ndarray:
    """Returns the number of elements over which each window's mean is taken, [1, ..., 1].

    Args:
        windows: the windows along each spatial axis.
        sizes: the sizes of the spatial axes.
        count_include_pad: whether padding counts.
    """
    pairs = zip(windows, sizes, strict=True)
    by_axis = [window.counted(size, count_include_pad) for window, size in pairs]
    return math.prod(np.ix_(*by_axis), start=np.ones((), int))[None, ..., None]


def image_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape as images [N, H, W, C]; a sequence [N, L, C] is an image of one row."""
    return shape if len(shape) == 4 else (shape[0], 1, *shape[1:])


def as_images(x: jax.Array) -> jax.Array:
    """Reshapes sequences to images of one row; images are not changed."""
    return x.reshape(image_shape(x.shape))


def as_image_kernel(kernel: jax.Array) -> jax.Array:
    """Reshapes a kernel of sequences [width, C, O] to one of images [1, width, C, O]."""
    return kernel if kernel.ndim == 4 else kernel[None]
