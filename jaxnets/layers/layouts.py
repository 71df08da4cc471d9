"""From PyTorch's weights to kernels and back, for arrays of NumPy and of JAX."""

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
    """[O, I] from [I, O], and the other way round."""
    return array.transpose()


def convolution_kernel(weight: Any) -> Any:
    """[..., I, O] from [O, I, ...]."""
    return weight.transpose((*range(2, weight.ndim), 1, 0))


def convolution_weight(kernel: Any) -> Any:
    """[O, I, ...] from [..., I, O]."""
    last = kernel.ndim - 1
    return kernel.transpose((last, last - 1, *range(last - 1)))


def transposed_convolution_kernel(weight: Any, groups: int) -> Any:
    """[..., I / groups, O] from [I, O / groups, ...].

    PyTorch's weight is that of the convolution transposed, with I in groups; ours is that of the
    convolution run instead, hence flipped.
    """
    inputs, outputs, *space = weight.shape
    blocks = weight.reshape(groups, inputs // groups, outputs, *space)
    moved = blocks.transpose((*range(3, blocks.ndim), 1, 0, 2))
    return _flipped(moved.reshape(*space, inputs // groups, groups * outputs), len(space))


def transposed_convolution_weight(kernel: Any, groups: int) -> Any:
    """[I, O / groups, ...] from [..., I / groups, O]."""
    *space, inputs, outputs = kernel.shape
    blocks = _flipped(kernel, len(space)).reshape(*space, inputs, groups, outputs // groups)
    axes = len(space)
    moved = blocks.transpose((axes + 1, axes, axes + 2, *range(axes)))
    return moved.reshape(groups * inputs, outputs // groups, *space)


def first_axis_last(array: Any) -> Any:
    """[..., C] from [C, ...]."""
    return array.transpose((*range(1, array.ndim), 0))


def last_axis_first(array: Any) -> Any:
    """[C, ...] from [..., C]."""
    return array.transpose((array.ndim - 1, *range(array.ndim - 1)))


def _flipped(array: Any, axes: int) -> Any:
    return array[(slice(None, None, -1),) * axes]


class Layout(NamedTuple):
    """One weight of a layer.

    Attributes:
        attribute: the name of ours.
        kernel: from PyTorch's layout to ours.
        weight: from ours to PyTorch's.
    """

    attribute: str
    kernel: Callable[[Any], Any]
    weight: Callable[[Any], Any]


def layout_of(layer: nnx.Module, name: str) -> Layout:
    """The layout of a weight by PyTorch's name for it; that of PyTorch for a layer of another."""
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
