"""How each layer's parameters are called and laid out in PyTorch: one rule per kind of layer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from flax import nnx

from jaxnets import layers

Arrays = Mapping[str, np.ndarray]


def _same(value: np.ndarray) -> np.ndarray:
    return value


@dataclass(frozen=True)
class Leaf:
    """One array of a layer and its name and layout in PyTorch.

    Attributes:
        name: PyTorch's name within the layer, such as ``weight``.
        to_jax: from PyTorch's layout to ours.
        to_torch: from ours to PyTorch's; the exact inverse.
    """

    name: str
    to_jax: Callable[[np.ndarray], np.ndarray] = _same
    to_torch: Callable[[np.ndarray], np.ndarray] = _same


def _transposed(name: str) -> Leaf:
    return Leaf(name, np.transpose, np.transpose)


def _linear(layer: nnx.Module) -> dict[str, Leaf]:
    return {"kernel": _transposed("weight"), "bias": Leaf("bias")}


def _channels_last(weight: np.ndarray) -> np.ndarray:
    return np.moveaxis(weight, (0, 1), (-1, -2))  # [O, I, ...] to [..., I, O]


def _channels_first(kernel: np.ndarray) -> np.ndarray:
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def _convolution(layer: nnx.Module) -> dict[str, Leaf]:
    return {"kernel": Leaf("weight", _channels_last, _channels_first), "bias": Leaf("bias")}


def _transposed_convolution(layer: nnx.Module) -> dict[str, Leaf]:
    # PyTorch's weight is that of the convolution transposed, [I, O / groups, ...] with I in
    # groups; ours, [..., I / groups, O], is that of the convolution run instead, hence flipped.
    groups = getattr(layer, "groups", 1)

    def to_jax(weight: np.ndarray) -> np.ndarray:
        inputs, outputs, *space = weight.shape
        blocks = weight.reshape(groups, inputs // groups, outputs, *space)
        kernel = np.moveaxis(blocks, (1, 0, 2), (-3, -2, -1)).reshape(
            *space, inputs // groups, groups * outputs
        )
        return np.flip(kernel, tuple(range(len(space))))

    def to_torch(kernel: np.ndarray) -> np.ndarray:
        *space, inputs, outputs = kernel.shape
        # Copied, since torch takes no array with negative strides.
        flipped = np.flip(kernel, tuple(range(len(space)))).copy()
        blocks = flipped.reshape(*space, inputs, groups, outputs // groups)
        return np.moveaxis(blocks, (-3, -2, -1), (1, 0, 2)).reshape(
            groups * inputs, outputs // groups, *space
        )

    if getattr(layer, "transpose_kernel", False):  # Flax then holds PyTorch's weight unflipped
        return _convolution(layer)
    return {"kernel": Leaf("weight", to_jax, to_torch), "bias": Leaf("bias")}


#: From a kind of layer to the leaves of one such layer, by our attribute's name. A leaf whose
#: attribute is None on this layer (no bias, say) does not count. The most derived class wins.
RULES: dict[type[nnx.Module], Callable[[nnx.Module], dict[str, Leaf]]] = {
    nnx.Linear: _linear,
    layers.Conv1d: _convolution,
    layers.Conv2d: _convolution,
    layers.ConvTranspose2d: _transposed_convolution,
    nnx.Conv: _convolution,
    nnx.ConvTranspose: _transposed_convolution,
}


def leaves(layer: nnx.Module) -> dict[str, Leaf]:
    """The leaves of one layer by attribute name; empty for a module that holds none of its own."""
    for kind in type(layer).__mro__:
        if kind in RULES:
            found = RULES[kind](layer)
            return {k: leaf for k, leaf in found.items() if getattr(layer, k, None) is not None}
    return {}
