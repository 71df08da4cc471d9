"""Translates reshaping, slicing, gathering and scattering to ONNX."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnets.arrays import InputError
from jaxnets.export.onnx_elementwise import Rule
from jaxnets.export.onnx_graph import Builder, multiple
from jaxnets.kernels.graph import Node


def _broadcast(g: Builder, node: Node, x: str, *sizes: str) -> str:
    shape, places = node.parameters["shape"], node.parameters["broadcast_dimensions"]
    given = dict(zip(places, node.inputs[0].shape, strict=True))
    whole = [given.get(axis, 1) for axis in range(len(shape))]
    if list(given.values()) != whole:
        x = g.reshape(x, whole)
    return x if whole == list(shape) else g.add("Expand", x, g.shape(shape))


def _reshape(g: Builder, node: Node, x: str, *sizes: str) -> str:
    return g.reshape(x, node.outputs[0].shape)


def _transpose(g: Builder, node: Node, x: str) -> str:
    return g.transpose(x, node.parameters["permutation"])


def _concatenate(g: Builder, node: Node, *x: str) -> str:
    return g.add("Concat", *x, axis=node.parameters["dimension"])


def _stack(g: Builder, node: Node, *x: str) -> str:
    axis = node.parameters["axis"]
    each = [g.add("Unsqueeze", one, g.integers(axis)) for one in x]
    return g.add("Concat", *each, axis=axis)


def _unstack(g: Builder, node: Node, x: str) -> list[str]:
    axis, count = node.parameters["axis"], len(node.outputs)
    parts = g.add_several("Split", count, x, g.integers(*[1] * count), axis=axis)
    return [g.add("Squeeze", part, g.integers(axis)) for part in parts]


def _split(g: Builder, node: Node, x: str) -> list[str]:
    sizes = node.parameters["sizes"]
    axis = node.parameters["axis"]
    return g.add_several("Split", len(sizes), x, g.shape(sizes), axis=axis)


def _squeeze(g: Builder, node: Node, x: str) -> str:
    return g.add("Squeeze", x, g.integers(*node.parameters["dimensions"]))


def _expand_dims(g: Builder, node: Node, x: str) -> str:
    return g.add("Unsqueeze", x, g.integers(*node.parameters["dimensions"]))


def _reverse(g: Builder, node: Node, x: str) -> str:
    axes = node.parameters["dimensions"]
    count = len(axes)
    least = np.iinfo(np.int64).min  # the end of a slice with step -1, before the first element
    ends = g.integers(*[least] * count)
    return g.add(
        "Slice", x, g.integers(*[-1] * count), ends, g.integers(*axes), g.integers(*[-1] * count)
    )


def _slice(g: Builder, node: Node, x: str) -> str:
    given = node.parameters
    return cut(g, x, given["start_indices"], given["limit_indices"], given["strides"])


def cut(
    g: Builder, x: str, starts: Sequence[Any], ends: Sequence[Any], steps: Sequence[int] | None
) -> str:
    """Adds a slice along each axis, and returns its name.

    Args:
        g: the builder.
        x: the name of the array.
        starts: the start along each axis.
        ends: the end along each axis, exclusive.
        steps: the step along each axis; None for 1.
    """
    if not starts:
        return x
    axes = range(len(starts))
    steps = steps or [1] * len(starts)
    return g.add("Slice", x, g.shape(starts), g.shape(ends), g.integers(*axes), g.integers(*steps))


def _pad(g: Builder, node: Node, x: str, value: str) -> str:
    return padded(g, x, node.inputs[0].shape, value, node.parameters["padding_config"])


def padded(g: Builder, x: str, shape: Sequence[Any], value: str, padding: Sequence[Any]) -> str:
    """Adds padding as in ``lax.pad``, and returns the name of the result.

    Args:
        g: the builder.
        x: the name of the array.
        shape: the shape of the array; only used for interior padding.
        value: the name of the scalar to pad with.
        padding: (before, after, between) for each axis; negative numbers remove elements.
    """
    for axis, (_, _, between) in enumerate(padding):
        if between:
            x, shape = _spread(g, x, shape, value, axis, between)
    before, after, _ = zip(*padding, strict=True)
    if any(before) or any(after):
        x = g.add("Pad", x, g.integers(*before, *after), value, mode="constant")
    return x


def _spread(
    g: Builder, x: str, shape: Sequence[Any], value: str, axis: int, between: int
) -> tuple[str, list[Any]]:
    """Inserts ``between`` elements between adjacent elements of an axis.

    The elements are appended on a new axis, which is then merged; those after the last element are
    cut off.
    """
    whole, rank = list(shape), len(shape)
    x = g.add("Unsqueeze", x, g.integers(axis + 1))
    after = [0] * (rank + 1)
    after[axis + 1] = between
    x = g.add("Pad", x, g.integers(*[0] * (rank + 1), *after), value, mode="constant")
    whole[axis] *= between + 1
    x = g.reshape(x, whole)
    whole[axis] -= between
    return g.add("Slice", x, g.integers(0), g.integers(whole[axis]), g.integers(axis)), whole


def _iota(g: Builder, node: Node, *sizes: str) -> str:
    shape, axis = node.parameters["shape"], node.parameters["dimension"]
    ends = g.add("Squeeze", g.shape([shape[axis]]), g.integers(0))
    zero, one = g.constant(0, np.int64), g.constant(1, np.int64)
    row = g.cast(g.add("Range", zero, ends, one), node.parameters["dtype"])
    row = g.reshape(row, [size if at == axis else 1 for at, size in enumerate(shape)])
    return g.add("Expand", row, g.shape(shape))


def _size(g: Builder, node: Node) -> str:
    size = g.add("Mul", g.batch, g.integers(multiple(node.parameters["dim"])))
    return g.cast(g.add("Squeeze", size, g.integers(0)), node.outputs[0].dtype)


def _dynamic_slice(g: Builder, node: Node, x: str, *starts: str) -> str:
    each = [g.add("Unsqueeze", g.cast(start, np.int64), g.integers(0)) for start in starts]
    start = g.add("Concat", *each, axis=0)
    return _block(g, x, node.inputs[0].shape, start, node.parameters["slice_sizes"])


def _block(g: Builder, x: str, shape: Sequence[Any], start: str, sizes: Sequence[Any]) -> str:
    """Slices a block of an array; as in JAX, a start out of range is moved until the block fits."""
    last = g.add("Sub", g.shape(shape), g.shape(sizes))
    start = g.add("Min", g.add("Max", start, g.integers(*[0] * len(sizes))), last)
    end = g.add("Add", start, g.shape(sizes))
    return g.add("Slice", x, start, end, g.integers(*range(len(sizes))))


def _gather(g: Builder, node: Node, x: str, places: str) -> str:
    """Translates a gather of a single block, or of rows."""
    numbers, sizes = node.parameters["dimension_numbers"], node.parameters["slice_sizes"]
    shape, rank = node.inputs[0].shape, len(node.inputs[1].shape) - 1
    indexed = numbers.start_index_map
    if not rank:  # a single block
        count = len(indexed)
        each = g.add_several(
            "Split", count, g.cast(places, np.int64), g.integers(*[1] * count), axis=0
        )
        starts = dict(zip(indexed, each, strict=True))
        start = [starts.get(axis, g.integers(0)) for axis in range(len(shape))]
        made = _block(g, x, shape, g.add("Concat", *start, axis=0), sizes)
        return g.reshape(made, node.outputs[0].shape)
    rows = all(sizes[axis] == 1 for axis in (*indexed, *numbers.operand_batching_dims))
    if not rows or any(
        size != sizes[axis]
        for axis, size in enumerate(shape)
        if axis not in (*indexed, *numbers.operand_batching_dims)
    ):
        raise InputError("model", "a gather of whole rows", f"slices {list(sizes)} of {shape}")
    return _rows(g, node, x, places)


def _rows(g: Builder, node: Node, x: str, places: str) -> str:
    """Translates a gather of whole rows to GatherND, for which the indexed axes come first."""
    numbers, shape = node.parameters["dimension_numbers"], node.inputs[0].shape
    batching, indexed = numbers.operand_batching_dims, numbers.start_index_map
    rest = [axis for axis in range(len(shape)) if axis not in (*batching, *indexed)]
    places = g.cast(places, np.int64)
    kept_places = _kept_inside(g, places, [shape[axis] for axis in indexed])
    of_batch, rank = numbers.start_indices_batching_dims, len(node.inputs[1].shape) - 1
    others = [axis for axis in range(rank) if axis not in of_batch]
    x = g.transpose(x, [*batching, *indexed, *rest])
    read = g.transpose(kept_places, [*of_batch, *others, rank])
    made = g.add("GatherND", x, read, batch_dims=len(batching))  # [*of_batch, *others, *rest]
    gone = (*batching, *numbers.collapsed_slice_dims)
    kept = [axis for axis in range(len(shape)) if axis not in gone]
    offsets = dict(zip(numbers.offset_dims, kept, strict=True))
    indices = iter(range(rank))
    order = []  # for each axis of the output, except for indexed axes of size 1
    for axis in range(len(node.outputs[0].shape)):
        if axis not in offsets:
            order.append([*of_batch, *others].index(next(indices)))
        elif offsets[axis] in rest:
            order.append(rank + rest.index(offsets[axis]))
    made = g.transpose(made, order)
    if len(order) < len(node.outputs[0].shape):
        made = g.reshape(made, node.outputs[0].shape)
    fills = "fill" in str(node.parameters["mode"]).lower()
    known = not isinstance(g.value(node.inputs[1]), str)
    return made if known or not fills else _filled(g, node, made, places, kept_places)


def _kept_inside(g: Builder, places: str, sizes: Sequence[Any]) -> str:
    """Clips indices, int64 [..., axes], to the range of the array."""
    last = g.add("Sub", g.shape(sizes), g.integers(*[1] * len(sizes)))
    return g.add("Min", g.add("Max", places, g.integers(*[0] * len(sizes))), last)


def _filled(g: Builder, node: Node, made: str, given: str, kept: str) -> str:
    """Replaces rows whose index was out of range by the fill value of the gather, or NaN."""
    same = g.cast(g.add("Equal", given, kept), np.int32)
    inside = g.cast(g.add("ReduceMin", same, g.integers(-1), keepdims=0), bool)
    numbers, dtype = node.parameters["dimension_numbers"], node.outputs[0].dtype
    if numbers.offset_dims:
        inside = g.add("Unsqueeze", inside, g.integers(*numbers.offset_dims))
    fill = node.parameters["fill_value"]
    if fill is None:
        fill = np.nan if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).min
    return g.add("Where", inside, made, g.constant(fill, dtype))


def _scatter(reduction: str, g: Builder, node: Node, x: str, places: str, updates: str) -> str:
    """Translates a scatter of whole rows to ScatterND, for which the indexed axes come first."""
    numbers = node.parameters["dimension_numbers"]
    rank = len(node.inputs[0].shape)
    at = g.value(node.inputs[1])
    if len(node.inputs[1].shape) == 1 and not isinstance(at, str):
        return _block_put(reduction, g, node, x, at, updates)
    indexed = list(numbers.scatter_dims_to_operand_dims)
    if numbers.operand_batching_dims or list(numbers.inserted_window_dims) != sorted(indexed):
        raise InputError("model", "a scatter of whole rows", "a scatter of parts of rows")
    rest = [axis for axis in range(rank) if axis not in indexed]
    windows = numbers.update_window_dims
    first = [axis for axis in range(len(node.inputs[2].shape)) if axis not in windows]
    order = [*indexed, *rest]
    made = g.add(
        "ScatterND",
        g.transpose(x, order),
        g.cast(places, np.int64),
        g.transpose(updates, [*first, *windows]),
        reduction=reduction,
    )
    return g.transpose(made, [order.index(axis) for axis in range(rank)])


def _block_put(
    reduction: str, g: Builder, node: Node, x: str, place: np.ndarray, updates: str
) -> str:
    """Translates a scatter of one block at a known place: pads the block, and selects it."""
    numbers, shape = node.parameters["dimension_numbers"], node.inputs[0].shape
    if reduction not in ("none", "add"):
        raise InputError("model", "a scatter or scatter-add of blocks", f"scatter-{reduction}")
    starts = dict(zip(numbers.scatter_dims_to_operand_dims, place.tolist(), strict=True))
    windows = iter(node.inputs[2].shape[axis] for axis in numbers.update_window_dims)
    sizes = [1 if axis in numbers.inserted_window_dims else next(windows)
             for axis in range(len(shape))]  # fmt: skip
    zero = g.constant(0, node.outputs[0].dtype)
    config, parts = [], []
    for axis, (whole, size) in enumerate(zip(shape, sizes, strict=True)):
        start = starts.get(axis, 0)
        full = size is whole or bool(size == whole)
        config.append((start, 0 if full else whole - size - start, 0))
        along = np.zeros(1 if full else whole, bool)
        along[start : start + 1 if full else start + size] = True
        parts.append(along)
    block = padded(g, g.reshape(updates, sizes), sizes, zero, config)
    if reduction == "add":
        return g.add("Add", x, block)
    inside = functools.reduce(np.logical_and.outer, parts)
    return g.add("Where", g.constant(inside), block, x)


def _tile(g: Builder, node: Node, x: str) -> str:
    return g.add("Tile", x, g.shape(node.parameters["reps"]))


_SCATTERS = {
    "scatter": "none",
    "scatter-add": "add",
    "scatter-max": "max",
    "scatter-min": "min",
    "scatter-mul": "mul",
}
RULES: dict[str, Rule] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "dim_as_value": _size,
    "dynamic_slice": _dynamic_slice,
    "expand_dims": _expand_dims,
    "gather": _gather,
    "iota": _iota,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _reverse,
    **{name: functools.partial(_scatter, kind) for name, kind in _SCATTERS.items()},
    "slice": _slice,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
    "unstack": _unstack,
}
