"""Slices of one array along an axis, such as the time steps of a loop, as one split.

The gradient of a slice is an array of the whole size, and XLA adds those of all slices, which takes
a time that grows with the square of their number. The gradient of a split is one concatenation.
"""

from itertools import pairwise
from typing import NamedTuple

import jax
from jax import lax

from jaxnets.kernels.graph import Graph, Node, Value, is_whole, sizes_of

# With fewer slices, XLA's sum takes about the same time.
_FEW = 8


class _Slice(NamedTuple):
    """A slice of an array along one axis."""

    axis: int
    start: int
    stop: int


def matched(graph: Graph, node: Node) -> Node | None:
    """Matches a slice and the others of the same array if they do not overlap."""
    (whole,) = node.inputs
    found = _cut(node)
    if found is None or not isinstance(whole, Value) or not is_whole(whole):
        return None
    readers = [each for each in graph.readers(whole) if each is not None and graph.is_free(each)]
    places = {reader: cut for reader in readers if (cut := _cut(reader)) is not None}
    same = {reader: cut for reader, cut in places.items() if cut.axis == found.axis}
    parts = sorted(set(same.values()))
    if len(parts) < _FEW or any(one.stop > other.start for one, other in pairwise(parts)):
        return None
    return _split(whole, same, parts)


def _cut(node: Node) -> _Slice | None:
    """Returns where an operation cuts an array; None if it is no slice along a single axis."""
    if node.kind != "slice" or node.parameters["strides"] is not None:
        return None
    starts, stops = node.parameters["start_indices"], node.parameters["limit_indices"]
    bounds = zip(starts, stops, node.inputs[0].shape, strict=True)
    cut = [
        _Slice(axis, start, stop)
        for axis, (start, stop, size) in enumerate(bounds)
        if (start, stop) != (0, size)
    ]
    return cut[0] if len(cut) == 1 else None


def _split(whole: Value, slices: dict[Node, _Slice], parts: list[_Slice]) -> Node:
    axis = parts[0].axis
    edges = sorted({0, whole.shape[axis], *(edge for part in parts for edge in part[1:])})
    sizes = [stop - start for start, stop in pairwise(edges)]
    places = [edges.index(cut.start) for cut in slices.values()]

    def run(x: jax.Array) -> list[jax.Array]:
        made = lax.split(x, sizes, axis)
        return [made[place] for place in places]

    about = f"{len(parts)} slices of {sizes_of(whole)}"
    outputs = [each.outputs[0] for each in slices]
    return Node("kernel", [whole], outputs, run, about=about)
