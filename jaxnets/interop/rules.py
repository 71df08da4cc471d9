"""How each layer's parameters are called and laid out in PyTorch: one rule per kind of layer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from flax import nnx


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


#: From a kind of layer to the leaves of one such layer, by our attribute's name. A leaf whose
#: attribute is None on this layer (no bias, say) does not count. The most derived class wins.
RULES: dict[type[nnx.Module], Callable[[nnx.Module], dict[str, Leaf]]] = {
    nnx.Linear: _linear,
}


def leaves(layer: nnx.Module) -> dict[str, Leaf]:
    """The leaves of one layer by attribute name; empty for a module that holds none of its own."""
    for kind in type(layer).__mro__:
        if kind in RULES:
            found = RULES[kind](layer)
            return {k: leaf for k, leaf in found.items() if getattr(layer, k, None) is not None}
    return {}
