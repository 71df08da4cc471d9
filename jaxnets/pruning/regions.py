"""Parts of a weight that are removed by where they are: regions, rows, columns, diagonals."""

from typing import Any

import numpy as np

from jaxnets.arrays import InputError, check_bool, check_integer, check_positive, shown
from jaxnets.pruning.methods import CustomFromMask, Layer, prune
from jaxnets.pruning.weights import Weight


def region(module: Layer, name: str, index: Any) -> Layer:
    """Removes the part of a weight that an index of NumPy names.

    With ``np.s_``: ``[3, 4]`` is a single connection of a linear layer, from input 4 to output 3;
    ``[3]`` a row, all that output 3 sees; ``[:, 4]`` a column, all that input 4 does;
    ``[3, 10:20]`` a line of neighbours; ``[0:4, 10:20]`` a region. Of a convolution ``[3, 4]`` is
    the matrix from channel 4 to channel 3.

    Args:
        module: the layer, which is changed.
        name: the parameter, by PyTorch's name.
        index: of the weight in PyTorch's layout, [outputs, inputs, …] of most layers.

    Returns:
        The layer.

    Raises:
        InputError: if the weight has no such part.

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
        module: the layer, which is changed.
        name: the parameter, by PyTorch's name, of two axes or more: [outputs, inputs, …].
        offset: removes the entries whose input's number is that of the output plus this.
        width: how many diagonals, half of them on each side; an odd number is symmetric.
        anti: counts inputs from the last, so that the diagonal goes from the other corner.

    Returns:
        The layer.

    Raises:
        InputError: if the weight has one axis, or no entry is on the diagonal.

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
