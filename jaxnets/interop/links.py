"""What ties the arrays of a layer to the arrays that hold the same numbers in PyTorch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


def _same(value: np.ndarray) -> np.ndarray:
    return value


@dataclass(frozen=True)
class Link:
    """Some arrays of a layer, and those that they are in PyTorch: any number for any number.

    Attributes:
        ours: paths of our arrays within the layer, such as ``("query.kernel", "key.kernel")``.
        theirs: PyTorch's names within the layer, such as ``("in_proj_weight",)``.
        to_jax: takes PyTorch's arrays in their order and returns ours in theirs; raises
            ``ValueError`` for values that ours cannot express.
        to_torch: takes ours and returns PyTorch's, so that ``to_jax`` of them is ours again.
        optional: whether a source without PyTorch's arrays will do.
        note: what happens on the way, where it is more than another layout.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    to_jax: Callable[..., Sequence[np.ndarray]]
    to_torch: Callable[..., Sequence[np.ndarray]]
    optional: bool = False
    note: str = ""


@dataclass(frozen=True)
class Leaf:
    """One array of a layer and its name and layout in PyTorch: the common case of a link.

    Attributes:
        name: PyTorch's name within the layer, such as ``weight``.
        to_jax: from PyTorch's layout to ours.
        to_torch: from ours to PyTorch's; the exact inverse.
        optional: whether a source without it will do.
    """

    name: str
    to_jax: Callable[[np.ndarray], np.ndarray] = _same
    to_torch: Callable[[np.ndarray], np.ndarray] = _same
    optional: bool = False

    def link(self, attribute: str) -> Link:
        """The link of a layer's attribute to this leaf."""
        return Link(
            (attribute,),
            (self.name,),
            lambda theirs: (self.to_jax(theirs),),
            lambda ours: (self.to_torch(ours),),
            self.optional,
        )
