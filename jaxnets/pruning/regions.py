"""Removes parts of a weight by their position: regions, rows, columns, diagonals."""

from typing import Any

import numpy as np

from jaxnets.arrays import InputError, check_bool, check_integer, check_positive, shown
from jaxnets.pruning.methods import CustomFromMask, Layer, prune
from jaxnets.pruning.weights import Weight


def region(module: Layer, name: str, index: Any) -> Layer:
    """Removes the part of a weight that a NumPy index selects.

    Examples for a linear layer, with ``np.s_``: ``[3, 4]`` is the connection from input 4 to output
    3; ``[3]`` is a row, all connections to output 3; ``[:, 4]`` is a column, all connections from
    input 4; ``[3, 10:20]`` is a part of a row; ``[0:4, 10:20]`` is a region. For a convolution,
    ``[3, 4]`` is the kernel from channel 4 to channel 3.

    Args:
        module: the layer, which is changed in place.
        name: PyTorch's name of the parameter.
        index: an index of the weight in PyTorch's layout, [outputs, inputs, …] for most layers.

    Returns:
        The layer.

    Raises:
        InputError: if the index is invalid for the weight or selects nothing.

    Examples:
        >>> from flax import nnx
        >>> from jaxnets.layers import Linear
        >>> layer = region(Linear(3, 2, rngs=nnx.Rngs(0)), "weight", np.s_[1, :2])
        >>> int((layer.kernel[...] == 0).sum())
        2
    """
    mask = np.ones(Weight.of(module, name).mask.shape, bool)
    try:
        if index is None or isinstance(index, bool) or not mask[index].size:
            raise IndexError
        mask[index] = False
    except (IndexError, TypeError, ValueError, RuntimeError) as error:
        expected = f"an index of a part of the weight, whose shape in PyTorch is {mask.shape}"
        raise InputError("index", expected, shown(index)) from error
    return prune(module, name, CustomFromMask(mask))


def diagonal(
    module: Layer, name: str, offset: int = 0, width: int = 1, *, anti: bool = False
) -> Layer:
    """Removes a diagonal of a weight, or a band around one.

    Args:
        module: the layer, which is changed in place.
        name: PyTorch's name of a parameter with two axes or more, [outputs, inputs, …].
        offset: the index of the input minus that of the output on the diagonal.
        width: the number of diagonals of the band; an odd number is symmetric.
        anti: whether to count inputs from the last, for an antidiagonal.

    Returns:
        The layer.

    Raises:
        InputError: if the weight has one axis, or the diagonal is outside of the weight.

    Examples:
        >>> from flax import nnx
        >>> from jaxnets.layers import Linear
        >>> layer = diagonal(Linear(3, 3, bias=False, rngs=nnx.Rngs(0)), "weight")
        >>> bool((layer.kernel[...].diagonal() == 0).all())
        True
    """
    check_positive("width", width)
    check_integer("offset", offset)
    check_bool("anti", anti)
    shape = Weight.of(module, name).mask.shape
    if len(shape) < 2:
        raise InputError("name", "a weight of two axes or more", f"{name} of shape {shape}")
    outputs, inputs = np.ogrid[: shape[0], : shape[1]]
    if anti:
        inputs = shape[1] - 1 - inputs
    distance = inputs - outputs - offset + (width - 1) // 2
    removed = (distance >= 0) & (distance < width)
    if not removed.any():
        raise InputError("offset", f"a diagonal of a weight of shape {shape}", offset)
    keep = np.broadcast_to(~removed.reshape(*shape[:2], *[1] * (len(shape) - 2)), shape)
    return prune(module, name, CustomFromMask(keep))
