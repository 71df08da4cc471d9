"""Fractional max pooling: a given number of windows at random positions, channels last."""

from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    check_bool,
    check_floats,
    check_number,
    describe,
    entries,
)
from jaxnets.layers.maxima import maxima, values_at
from jaxnets.layers.parameters import check_rngs
from jaxnets.layers.windows import PerAxis, check_input, per_axis

#: The ratio of output size to input size, for each axis or for all.
Ratio = float | Sequence[float]


class _FractionalMaxPool(nnx.Module):
    axes: ClassVar[int]

    def __init__(
        self,
        kernel_size: PerAxis,
        output_size: PerAxis | None = None,
        output_ratio: Ratio | None = None,
        return_indices: bool = False,
        _random_samples: ArrayLike | None = None,
        *,
        rngs: nnx.Rngs | None = None,
    ) -> None:
        self.kernel_size = per_axis("kernel_size", kernel_size, self.axes)
        self.return_indices = check_bool("return_indices", return_indices)
        self.output_size = self.output_ratio = None
        if output_size is not None:
            self.output_size = per_axis("output_size", output_size, self.axes)
        if output_ratio is not None:
            self.output_ratio = _ratios(output_ratio, self.axes)
        if (output_size is None) == (output_ratio is None):
            raise InputError("output_size", "one of output_size and output_ratio", output_size)
        if _random_samples is None:
            self._random_samples = None
            self.rngs: Any = nnx.RngStream(check_rngs(rngs).dropout(), tag="dropout")
            return
        if rngs is not None:
            check_rngs(rngs)
        check_floats("_random_samples", _random_samples, ("N", "C", self.axes))
        self._random_samples = nnx.Variable(jnp.asarray(_random_samples))
        self.rngs = None

    def __call__(self, x: ArrayLike) -> Any:
        """Computes the maxima of windows of x, [N, ..., C], at random positions.

        Returns:
            [N, ..., C]; with ``return_indices`` also the index of each maximum, integers
            [N, ..., C].
        """
        return self._pooled(x, "x")

    def _pooled(self, x: ArrayLike, argument: str) -> Any:
        check_input(x, self.axes, argument=argument)
        sizes = self._sizes(x, argument)
        x = jnp.asarray(x)
        samples = self._samples(x)
        windows = [
            _windows(samples[:, :, number], x.shape[1 + axis], sizes[axis], self.kernel_size[axis])
            for axis, number in enumerate(_ORDER[self.axes])
        ]
        indices = maxima(x, windows)
        y = values_at(x, indices)
        return (y, indices) if self.return_indices else y

    def _sizes(self, x: ArrayLike, argument: str) -> tuple[int, ...]:
        """Returns the spatial sizes of the output."""
        sizes = self.output_size
        if sizes is None:
            ratios = zip(x.shape[1:-1], self.output_ratio or (), strict=True)
            sizes = tuple(int(n * ratio) for n, ratio in ratios)
        axes = zip(x.shape[1:-1], sizes, self.kernel_size, strict=True)
        if any(size < 1 or size + kernel - 1 > n for n, size, kernel in axes):
            expected = f"an input large enough for {sizes} windows of {self.kernel_size}"
            raise InputError(argument, expected, describe(x))
        return sizes

    def _samples(self, x: jax.Array) -> jax.Array:
        """Returns random numbers in [0, 1) for each channel of each example, [N, C, axes]."""
        shape = x.shape[0], x.shape[-1], self.axes
        if self._random_samples is None:
            return jax.random.uniform(self.rngs(), shape, x.dtype)
        samples = self._random_samples[...]
        check_floats("_random_samples", samples, shape)
        return samples.astype(x.dtype)


#: For each spatial axis, the index of the random number that positions its windows in PyTorch.
_ORDER = {2: (1, 0), 3: (0, 1, 2)}


def _ratios(output_ratio: Ratio, axes: int) -> tuple[float, ...]:
    given = entries(output_ratio)
    values = (output_ratio,) * axes if given is None else given
    if len(values) != axes:
        raise InputError("output_ratio", f"a number, or {axes} of them", output_ratio)
    return tuple(check_number("output_ratio", value, above=0, below=1) for value in values)


def _windows(samples: jax.Array, size: int, count: int, kernel: int) -> jax.Array:
    """Returns the positions in each window along one axis, [N, windows, elements, C].

    Args:
        samples: a number in [0, 1) for each channel of each example, [N, C].
        size: the number of positions.
        count: the number of windows.
        kernel: the number of elements of a window.
    """
    # Computed in the dtype of the samples, as in PyTorch, so that rounding is the same.
    step = np.asarray(size - kernel, samples.dtype) / np.asarray(max(count - 1, 1), samples.dtype)
    samples = samples[:, None, :]
    number = jnp.arange(count - 1, dtype=samples.dtype)[None, :, None]
    first = _whole((number + samples) * step) - _whole(samples * step)
    # The last window ends at the edge.
    first = jnp.pad(first, ((0, 0), (0, 1), (0, 0)), constant_values=size - kernel)
    return first[:, :, None] + jnp.arange(kernel, dtype=jnp.int32)[None, None, :, None]


def _whole(x: jax.Array) -> jax.Array:
    return x.astype(jnp.int32)


class FractionalMaxPool2d(_FractionalMaxPool):
    """``torch.nn.FractionalMaxPool2d``: maxima of windows at random positions of an image.

    Each channel of each example has its own H' · W' windows. Each call draws their positions, also
    in evaluation mode, from the layer's own random stream, which has the tag ``dropout``. The
    gradient goes to the maximum; of several equal ones, to the first in row-major order.

    Args:
        kernel_size: height and width of the window.
        output_size: height and width of the output, H' and W'.
        output_ratio: the ratio of output size to input size, in (0, 1), instead of ``output_size``.
        return_indices: whether a call also returns the index of each maximum, which is h · W + w
            for a maximum at [n, h, w, c], as in PyTorch.
        _random_samples: numbers in [0, 1) that position the windows, instead of random ones,
            [N, C, 2], the number for the columns first.
        rngs: the random streams from which the layer's own stream is seeded.

    Raises:
        InputError: if an option is invalid, or the input is too small for the windows.

    Examples:
        >>> pool = FractionalMaxPool2d(2, output_ratio=0.7, rngs=nnx.Rngs(0))
        >>> pool(jnp.ones((1, 10, 10, 4))).shape
        (1, 7, 7, 4)
    """

    axes = 2


class FractionalMaxPool3d(_FractionalMaxPool):
    """``torch.nn.FractionalMaxPool3d``: maxima of windows at random positions of a volume.

    The input is [N, D, H, W, C]. ``_random_samples`` are [N, C, 3], for depth, rows and columns.
    For the other arguments see ``FractionalMaxPool2d``.
    """

    axes = 3


def fractional_max_pool2d(
    input: ArrayLike,
    kernel_size: PerAxis,
    output_size: PerAxis | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: ArrayLike | None = None,
    *,
    rngs: nnx.Rngs | None = None,
) -> Any:
    """Computes maxima of windows at random positions of an image; see ``FractionalMaxPool2d``.

    Args:
        input: [N, H, W, C].
        kernel_size: height and width of the window.
        output_size: height and width of the output, H' and W'.
        output_ratio: the ratio of output size to input size, in (0, 1), instead of ``output_size``.
        return_indices: whether to return also the index of each maximum, which is h · W + w for a
            maximum at [n, h, w, c].
        _random_samples: numbers in [0, 1) that position the windows, instead of random ones,
            [N, C, 2], the number for the columns first.
        rngs: the random streams; not used with ``_random_samples``.

    Returns:
        [N, H', W', C]; with ``return_indices`` a pair of these and their indices, integers
        [N, H', W', C].

    Raises:
        InputError: if an option is invalid, or the input is too small for the windows.

    PyTorch: ``torch.nn.functional.fractional_max_pool2d``.

    Examples:
        >>> fractional_max_pool2d(jnp.ones((1, 9, 9, 4)), 2, (5, 4), rngs=nnx.Rngs(0)).shape
        (1, 5, 4, 4)
    """
    options = output_size, output_ratio, return_indices, _random_samples
    return FractionalMaxPool2d(kernel_size, *options, rngs=rngs)._pooled(input, "input")


def fractional_max_pool3d(
    input: ArrayLike,
    kernel_size: PerAxis,
    output_size: PerAxis | None = None,
    output_ratio: Ratio | None = None,
    return_indices: bool = False,
    _random_samples: ArrayLike | None = None,
    *,
    rngs: nnx.Rngs | None = None,
) -> Any:
    """``torch.nn.functional.fractional_max_pool3d``: pools a volume [N, D, H, W, C].

    For the arguments see ``fractional_max_pool2d``; ``_random_samples`` are [N, C, 3].
    """
    options = output_size, output_ratio, return_indices, _random_samples
    return FractionalMaxPool3d(kernel_size, *options, rngs=rngs)._pooled(input, "input")
