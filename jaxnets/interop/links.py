"""Links between the arrays of a layer and the corresponding arrays in PyTorch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


def _same(value: np.ndarray) -> np.ndarray:
    return value


@dataclass(frozen=True)
class Link:
    """A conversion between some arrays of a layer and the corresponding arrays in PyTorch.

    The two sides may have different numbers of arrays.

    Attributes:
        ours: paths of the arrays within the layer, such as ``("query.kernel", "key.kernel")``.
        theirs: PyTorch's names within the layer, such as ``("in_proj_weight",)``.
        to_jax: converts PyTorch's arrays, in the order of ``theirs``, to the arrays of ``ours``;
            raises ``ValueError`` for values that have no equivalent.
        to_torch: converts the arrays of ``ours`` to PyTorch's. ``to_jax`` of the result is exact.
        optional: whether PyTorch's arrays may be missing in a source.
        note: a description of the conversion, if it is more than a change of layout.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    to_jax: Callable[..., Sequence[np.ndarray]]
    to_torch: Callable[..., Sequence[np.ndarray]]
    optional: bool = False
    note: str = ""


@dataclass(frozen=True)
class Leaf:
    """The name and layout in PyTorch of a single array of a layer.

    Attributes:
        name: PyTorch's name within the layer, such as ``weight``.
        to_jax: converts the array from PyTorch's layout.
        to_torch: converts the array to PyTorch's layout; the exact inverse of ``to_jax``.
        optional: whether the array may be missing in a source.
    """

    name: str
    to_jax: Callable[[np.ndarray], np.ndarray] = _same
    to_torch: Callable[[np.ndarray], np.ndarray] = _same
    optional: bool = False

    def link(self, attribute: str) -> Link:
        """Returns the link between a layer's attribute and this leaf."""
        return Link(
            (attribute,),
            (self.name,),
            lambda theirs: (self.to_jax(theirs),),
            lambda ours: (self.to_torch(ours),),
            self.optional,
        )
