"""Adaptive pooling: the mean or maximum of a given number of bins, channels last."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxnets.arrays import ArrayLike, check_bool, entries
from jaxnets.layers.maxima import maxima, values_at
from jaxnets.layers.windows import PerAxis, check_input, per_axis

#: The size of an output, for each axis or for all; None keeps the size of the input.
OutputSize = PerAxis | tuple[int | None, ...] | None


class _AdaptivePool(nnx.Module):
    axes: ClassVar[int]

    def __init__(self, output_size: OutputSize) -> None:
        several = entries(output_size)
        sizes: tuple[Any, ...] = (output_size,) * self.axes if several is None else several
        # None keeps the size of the input; it is replaced by 1 for the check.
        checked = _or_one(output_size) if several is None else tuple(map(_or_one, several))
        numbers = per_axis("output_size", checked, self.axes)
        pairs = zip(sizes, numbers, strict=True)
        self.output_size = tuple(None if size is None else number for size, number in pairs)

    def _edges(self, x: ArrayLike, argument: str) -> list[np.ndarray]:
        """Returns the first and the end position of each bin along each spatial axis, [2, bins]."""
        check_input(x, self.axes, argument=argument)
        edges = []
        for size, wanted in zip(x.shape[1:-1], self.output_size, strict=True):
            bins = size if wanted is None else wanted
            first, after = np.arange(bins), np.arange(1, bins + 1)
            edges.append(np.stack([first * size // bins, -(-after * size // bins)]))
        return edges


def _or_one(size: Any) -> Any:
    return 1 if size is None else size


class _AdaptiveAvgPool(_AdaptivePool):
    def __call__(self, x: ArrayLike) -> jax.Array:
        """Averages x, [N, ..., C], into bins of nearly equal size."""
        return self._pooled(x, "x")

    def _pooled(self, x: ArrayLike, argument: str) -> jax.Array:
        every = self._edges(x, argument)
        x = jnp.asarray(x)
        for axis, edges in enumerate(every, start=1):
            pairs = zip(*edges, strict=True)
            bins = [lax.slice_in_dim(x, first, after, axis=axis) for first, after in pairs]
            x = jnp.stack([one.mean(axis) for one in bins], axis)
        return x


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """``torch.nn.AdaptiveAvgPool1d``: the mean of ``output_size`` bins of a sequence [N, L, C].

    For the argument see ``AdaptiveAvgPool2d``.
    """

    axes = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """``torch.nn.AdaptiveAvgPool2d``: the mean of each bin of an image [N, H, W, C].

    Along an axis of n positions, bin i of m contains the positions from ⌊i n / m⌋ up to, but not
    including, ⌈(i + 1) n / m⌉. Bins may overlap.

    Args:
        output_size: height and width of the output, or one number for both; None keeps the size of
            the input.

    Raises:
        InputError: if a size is not positive.

    Examples:
        >>> AdaptiveAvgPool2d(1)(jnp.ones((1, 7, 7, 512))).shape
        (1, 1, 1, 512)
    """

    axes = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """``torch.nn.AdaptiveAvgPool3d``: the mean of each bin of a volume [N, D, H, W, C].

    For the argument see ``AdaptiveAvgPool2d``.
    """

    axes = 3


class _AdaptiveMaxPool(_AdaptivePool):
    def __init__(self, output_size: OutputSize, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = check_bool("return_indices", return_indices)

    def __call__(self, x: ArrayLike) -> Any:
        """Takes the maximum of bins of x, [N, ..., C], of nearly equal size.

        Returns:
            [N, ..., C]; with ``return_indices`` also the index of each maximum, integers
            [N, ..., C].
        """
        return self._pooled(x, "x")

    def _pooled(self, x: ArrayLike, argument: str) -> Any:
        every = self._edges(x, argument)
        x = jnp.asarray(x)
        indices = maxima(x, [_elements(*edges) for edges in every])
        y = values_at(x, indices)
        return (y, indices) if self.return_indices else y


def _elements(first: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Returns the positions in each bin, [1, bins, elements, 1].

    Bins with fewer elements repeat their last position.
    """
    most = np.arange((after - first).max())
    return np.minimum(first[:, None] + most, after[:, None] - 1)[None, :, :, None]


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """``torch.nn.AdaptiveMaxPool1d``: the maxima of ``output_size`` bins of a sequence [N, L, C].

    For the arguments see ``AdaptiveMaxPool2d``.
    """

    axes = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """``torch.nn.AdaptiveMaxPool2d``: the maximum of each bin of an image [N, H, W, C].

    Along an axis of n positions, bin i of m contains the positions from ⌊i n / m⌋ up to, but not
    including, ⌈(i + 1) n / m⌉. Bins may overlap.
    The gradient goes to the maximum; of several equal ones, to the first in row-major order. The
    maximum of a bin with a NaN is NaN.

    Args:
        output_size: height and width of the output, or one number for both; None keeps the size of
            the input.
        return_indices: whether a call also returns the index of each maximum, which is h · W + w
            for a maximum at [n, h, w, c], as in PyTorch.

    Raises:
        InputError: if a size is not positive.

    Examples:
        >>> AdaptiveMaxPool2d((3, None))(jnp.ones((1, 7, 5, 8))).shape
        (1, 3, 5, 8)
    """

    axes = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """``torch.nn.AdaptiveMaxPool3d``: the maximum of each bin of a volume [N, D, H, W, C].

    For the arguments see ``AdaptiveMaxPool2d``.
    """

    axes = 3


def adaptive_avg_pool1d(input: ArrayLike, output_size: OutputSize) -> jax.Array:
    """``torch.nn.functional.adaptive_avg_pool1d``: the mean of bins of a sequence [N, L, C].

    For the arguments see ``adaptive_avg_pool2d``.
    """
    return AdaptiveAvgPool1d(output_size)._pooled(input, "input")


def adaptive_avg_pool2d(input: ArrayLike, output_size: OutputSize) -> jax.Array:
    """Computes the mean of each bin of an image; see ``AdaptiveAvgPool2d``.

    Args:
        input: [N, H, W, C].
        output_size: height and width of the output, or one number for both; None keeps the size of
            the input.

    Returns:
        [N, *output_size, C].

    Raises:
        InputError: if a size is not positive.

    PyTorch: ``torch.nn.functional.adaptive_avg_pool2d``.

    Examples:
        >>> adaptive_avg_pool2d(jnp.arange(4.0).reshape(1, 2, 2, 1), (1, 2)).reshape(2).tolist()
        [1.0, 2.0]
    """
    return AdaptiveAvgPool2d(output_size)._pooled(input, "input")


def adaptive_avg_pool3d(input: ArrayLike, output_size: OutputSize) -> jax.Array:
    """``torch.nn.functional.adaptive_avg_pool3d``: the mean of bins of a volume [N, D, H, W, C].

    For the arguments see ``adaptive_avg_pool2d``.
    """
    return AdaptiveAvgPool3d(output_size)._pooled(input, "input")


def adaptive_max_pool1d(
    input: ArrayLike, output_size: OutputSize, return_indices: bool = False
) -> Any:
    """``torch.nn.functional.adaptive_max_pool1d``: the maxima of bins of a sequence [N, L, C].

    For the arguments see ``adaptive_max_pool2d``.
    """
    return AdaptiveMaxPool1d(output_size, return_indices)._pooled(input, "input")


def adaptive_max_pool2d(
    input: ArrayLike, output_size: OutputSize, return_indices: bool = False
) -> Any:
    """Computes the maximum of each bin of an image; see ``AdaptiveMaxPool2d``.

    Args:
        input: [N, H, W, C].
        output_size: height and width of the output, or one number for both; None keeps the size of
            the input.
        return_indices: whether to return also the index of each maximum, which is h · W + w for a
            maximum at [n, h, w, c].

    Returns:
        [N, *output_size, C]; with ``return_indices`` a pair of these and their indices, integers of
        the same shape.

    Raises:
        InputError: if a size is not positive.

    PyTorch: ``torch.nn.functional.adaptive_max_pool2d``.

    Examples:
        >>> adaptive_max_pool2d(jnp.arange(4.0).reshape(1, 2, 2, 1), (1, 2)).reshape(2).tolist()
        [2.0, 3.0]
    """
    return AdaptiveMaxPool2d(output_size, return_indices)._pooled(input, "input")


def adaptive_max_pool3d(
    input: ArrayLike, output_size: OutputSize, return_indices: bool = False
) -> Any:
    """``torch.nn.functional.adaptive_max_pool3d``: the maxima of bins of a volume [N, D, H, W, C].

    For the arguments see ``adaptive_max_pool2d``.
    """
    return AdaptiveMaxPool3d(output_size, return_indices)._pooled(input, "input")
