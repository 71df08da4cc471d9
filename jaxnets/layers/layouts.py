"""Converts PyTorch's weights to kernels and back, for NumPy and JAX arrays."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from flax import nnx

from jaxnets.layers.attention import MultiheadAttention
from jaxnets.layers.bilinear import Bilinear
from jaxnets.layers.convolution import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from jaxnets.layers.recurrent import Recurrent, RecurrentCell

#: The transposed convolutions.
TRANSPOSED = ConvTranspose1d, ConvTranspose2d, ConvTranspose3d


def transposed(array: Any) -> Any:
    """Converts [I, O] to [O, I], and the other way round."""
    return array.transpose()


def convolution_kernel(weight: Any) -> Any:
    """Converts a weight [O, I, ...] to a kernel [..., I, O]."""
    return weight.transpose((*range(2, weight.ndim), 1, 0))


def convolution_weight(kernel: Any) -> Any:
    """Converts a kernel [..., I, O] to a weight [O, I, ...]."""
    last = kernel.ndim - 1
    return kernel.transpose((last, last - 1, *range(last - 1)))


def transposed_convolution_kernel(weight: Any, groups: int) -> Any:
    """Converts a weight [I, O / groups, ...] to a kernel [..., I / groups, O].

    PyTorch's weight is that of the convolution which is transposed, with I in groups. The kernel
    here is that of the convolution which is computed instead, so it is flipped along all spatial
    axes.
    """
    inputs, outputs, *space = weight.shape
    blocks = weight.reshape(groups, inputs // groups, outputs, *space)
    moved = blocks.transpose((*range(3, blocks.ndim), 1, 0, 2))
    return _flipped(moved.reshape(*space, inputs // groups, groups * outputs), len(space))


def transposed_convolution_weight(kernel: Any, groups: int) -> Any:
    """Converts a kernel [..., I / groups, O] to a weight [I, O / groups, ...]."""
    *space, inputs, outputs = kernel.shape
    blocks = _flipped(kernel, len(space)).reshape(*space, inputs, groups, outputs // groups)
    axes = len(space)
    moved = blocks.transpose((axes + 1, axes, axes + 2, *range(axes)))
    return moved.reshape(groups * inputs, outputs // groups, *space)


def first_axis_last(array: Any) -> Any:
    """Converts [C, ...] to [..., C]."""
    return array.transpose((*range(1, array.ndim), 0))


def last_axis_first(array: Any) -> Any:
    """Converts [..., C] to [C, ...]."""
    return array.transpose((array.ndim - 1, *range(array.ndim - 1)))


def _flipped(array: Any, axes: int) -> Any:
    return array[(slice(None, None, -1),) * axes]


class Layout(NamedTuple):
    """The name and layout of one weight of a layer.

    Attributes:
        attribute: the name of the attribute of the layer here.
        kernel: converts PyTorch's weight to the layout here.
        weight: converts the array here to PyTorch's layout.
    """

    attribute: str
    kernel: Callable[[Any], Any]
    weight: Callable[[Any], Any]


def layout_of(layer: nnx.Module, name: str) -> Layout:
    """Returns the layout of a weight by its name in PyTorch.

    For other layers, and for arrays that are not weights, name and layout are those of PyTorch.
    """
    kinds = (kind for kind in _LAYOUTS if isinstance(layer, kind) and "weight" in name)
    found = next(kinds, None)
    return Layout(name, _same, _same) if found is None else _LAYOUTS[found](layer, name)


def _same(array: Any) -> Any:
    return array


def _embedding(layer: nnx.Module, name: str) -> Layout:
    return Layout("embedding", _same, _same)


def _transposed(layer: nnx.Module, name: str) -> Layout:
    return Layout(name.replace("weight", "kernel"), transposed, transposed)


def _convolution(layer: nnx.Module, name: str) -> Layout:
    return Layout("kernel", convolution_kernel, convolution_weight)


def _transposed_convolution(layer: Any, name: str) -> Layout:
    return Layout(
        "kernel",
        partial(transposed_convolution_kernel, groups=layer.groups),
        partial(transposed_convolution_weight, groups=layer.groups),
    )


def _bilinear(layer: nnx.Module, name: str) -> Layout:
    return Layout("kernel", first_axis_last, last_axis_first)


_LAYOUTS: dict[type[nnx.Module], Callable[[Any, str], Layout]] = {
    Bilinear: _bilinear,
    **dict.fromkeys((Conv1d, Conv2d, Conv3d, nnx.Conv), _convolution),
    **dict.fromkeys(TRANSPOSED, _transposed_convolution),
    MultiheadAttention: _transposed,
    Recurrent: _transposed,
    RecurrentCell: _transposed,
    nnx.Embed: _embedding,
    nnx.Linear: _transposed,
}
