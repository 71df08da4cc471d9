"""Attention that is written as two products with a softmax between them.

Between the products there may be a scale, masks, dropout, and operations that only move axes. The
axes of the scores are followed through all of them, so networks may have any order of axes and any
number of batch axes. ``flax.nnx.MultiHeadAttention`` and ``jax.nn.dot_product_attention`` consist
of such operations too.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.kernels import attention
from jaxnets.kernels.composites import Form, fitted
from jaxnets.kernels.constants import evaluated, number
from jaxnets.kernels.graph import Graph, Node, Number, Operand, Value
from jaxnets.kernels.marks import Mark

#: ``jax.nn.softmax``. The shift, the largest score of each query, does not change the weights.
_EXPONENTIALS: Form = ("exp", ("sub", "scores", ("stop_gradient", "shift")))
_SOFTMAX: Form = ("div", "exponentials", ("broadcast_in_dim", ("reduce_sum", "exponentials")))
# Scores that are replaced by a smaller number than this have a weight of exactly zero.
_MASKED = -1e8


class _Part(NamedTuple):
    """A part of a batch axis that a reshape divided.

    Attributes:
        axis: the name of the axis.
        place: the position among the parts.
        sizes: the sizes of all parts.
    """

    axis: str
    place: int
    sizes: tuple[int, ...]


Axis = str | _Part
#: The names of an array's axes. An axis of size 1 has none.
Axes = list[Axis | None]


class _Masked(NamedTuple):
    """A mask of the scores.

    Attributes:
        axes: the names of the mask's axes.
        value: an array that is added to the scores; or a boolean one, see ``at``.
        at: the value of a boolean mask at which scores are replaced by -∞; otherwise None.
    """

    axes: Axes
    value: Value
    at: bool | None = None


class _Kept(NamedTuple):
    """A constant mask of the scores.

    Attributes:
        where: where scores are kept, bool [queries, keys].
        finite: whether the others are replaced by a finite number instead of -∞.
    """

    where: np.ndarray
    finite: bool


class _Scores(NamedTuple):
    """The product of queries and keys, and the softmax's input that is computed from it.

    Attributes:
        queries: the queries, and the names of their axes.
        keys: the keys, and the names of their axes.
        axes: the names of the axes of the softmax's input.
        scale: the factor of the scores.
        masks: the masks that depend on inputs.
        kept: where constant masks keep scores, bool [queries, keys]; None without such masks.
    """

    queries: tuple[Value, Axes]
    keys: tuple[Value, Axes]
    axes: Axes
    scale: float
    masks: list[_Masked]
    kept: np.ndarray | None


def matched(graph: Graph, node: Node) -> Node | None:
    """Returns the call of the attention kernel for a network's own operations.

    Args:
        graph: the graph.
        node: an exponential function, which may be part of a softmax.
    """
    softmax = _softmax(graph, node)
    scores = softmax and _scores(graph, softmax[0])
    if not softmax or not scores:
        return None
    weights, drop, key = _dropped(graph, softmax[1])
    product, axes = graph.only_reader(weights), scores.axes
    while product is not None and (moved := _moved(product, axes)) is not None:
        (weights,), axes = product.outputs, moved
        product = graph.only_reader(weights)
    averages = product and _averages(product, weights, axes, scores.axes[-1])
    if not product or not averages:
        return None
    values, out = averages
    return _call(scores, values, (product.outputs[0], out), drop, key)


def _softmax(graph: Graph, node: Node) -> tuple[Value, Value] | None:
    """Returns the input and the output of a softmax over the last axis."""
    (exponentials,) = node.outputs
    readers = graph.readers(exponentials)
    division = next((one for one in readers if one is not None and one.kind == "div"), None)
    if division is None or len(readers) != 2:
        return None
    weights = division.outputs[0]
    found = fitted(graph, weights, _SOFTMAX)
    found = found and fitted(graph, found["exponentials"], _EXPONENTIALS, found)
    scores, shift = (found["scores"], found["shift"]) if found else (None, None)
    if not isinstance(scores, Value) or not isinstance(shift, Value) or shift.shape[-1] != 1:
        return None
    total = next(one for one in readers if one is not None and one is not division)
    over_last = tuple(total.parameters["axes"]) == (scores.ndim - 1,)
    return (scores, weights) if over_last and scores.dtype == weights.dtype else None


# ---- The scores ---------------------------------------------------------------------------------


def _scores(graph: Graph, value: Value) -> _Scores | None:
    chain = _chain(graph, value)
    if not chain:
        return None
    product, *steps = chain
    named = _named(product)
    if named is None:
        return None
    left, right, axes = named
    scale, masks, constants = 1.0, list[_Masked](), list[_Kept]()
    for step, at in steps:
        moved = _moved(step, axes)
        if moved is not None:
            axes = moved
            continue
        factor = _factor(step, at)
        if factor is not None and not masks and not constants:
            scale *= factor
            continue
        mask = _mask(graph, step, at, axes)
        if isinstance(mask, _Masked):
            masks.append(mask)
        elif isinstance(mask, _Kept):
            constants.append(mask)
        else:
            return None
    kept = np.logical_and.reduce([one.where for one in constants]) if constants else None
    # Without any key left, finite numbers would give equal weights, and -∞ gives NaN.
    if kept is not None and not kept.any(axis=1).all():
        return None
    if masks and any(one.finite for one in constants):
        return None
    own = [name for name in axes if not _is_batch(name)]
    if len(own) != 2 or axes[-1] != own[1] or any(isinstance(name, _Part) for name in axes):
        return None
    queries, keys = (left, right) if own[0] in left[1] else (right, left)
    if own[0] not in queries[1] or own[1] not in keys[1]:
        return None
    return _Scores(queries, keys, axes, scale, masks, kept)


def _chain(graph: Graph, value: Operand, most: int = 20) -> list[Any] | None:
    """Returns a product, and the operations that follow it until a value is computed.

    Each operation has the position of the input that depends on the product. Except for a maximum,
    no other operation may read the values between them, because the kernel does not store them.

    Args:
        graph: the graph.
        value: the value.
        most: the largest number of operations.
    """
    node = graph.maker(value)
    if node is None or not most or not graph.is_free(node) or not _read_once(graph, value):
        return None
    if node.kind == "dot_general":
        return [node]
    for at in _CHAINED.get(node.kind, ()):
        chain = _chain(graph, node.inputs[at], most - 1)
        if chain:
            return [*chain, (node, at)]
    return None


def _read_once(graph: Graph, value: Operand) -> bool:
    readers = graph.readers(value)
    return sum(one is None or one.kind != "reduce_max" for one in readers) == 1


#: The operations between the products, and which of their inputs may be the scores.
_CHAINED = {
    "transpose": (0,),
    "broadcast_in_dim": (0,),
    "reshape": (0,),
    "squeeze": (0,),
    "mul": (0, 1),
    "div": (0,),
    "add": (0, 1),
    "select_n": (1, 2),
}


def _named(product: Node) -> tuple[tuple[Value, Axes], tuple[Value, Axes], Axes] | None:
    """Names the axes of a product's two inputs, and of its result.

    The names begin with "b" for batch axes, "d" for those of the sum, and otherwise with "l" or
    "r" for the left or the right input.
    """
    left, right = product.inputs
    if not (isinstance(left, Value) and isinstance(right, Value)):
        return None
    if not left.dtype == right.dtype == product.outputs[0].dtype:
        return None
    (summed, batch) = product.parameters["dimension_numbers"]
    names = []
    for side, (x, contracted, shared) in enumerate(zip((left, right), summed, batch, strict=True)):
        axes: Axes = [f"{'lr'[side]}{axis}" for axis in range(x.ndim)]
        for prefix, those in (("d", contracted), ("b", shared)):
            for count, axis in enumerate(those):
                axes[axis] = f"{prefix}{count}"
        names.append(axes)
    result: Axes = [f"b{count}" for count in range(len(batch[0]))]
    result += [name for axes in names for name in axes if name and name[0] in "lr"]
    given = [
        (x, _without_ones(axes, x.shape)) for x, axes in zip((left, right), names, strict=True)
    ]
    if sum(name is not None and name[0] == "d" for name in given[0][1]) > 1:
        return None
    return given[0], given[1], _without_ones(result, product.outputs[0].shape)


def _without_ones(axes: Sequence[Axis | None], shape: Sequence[int]) -> Axes:
    return [None if size == 1 else name for name, size in zip(axes, shape, strict=True)]


def _moved(step: Node, axes: Axes) -> Axes | None:
    """Returns the names of the axes after an operation that only moves axes, or None."""
    names = [name for name in axes if name is not None]
    if step.kind == "transpose":
        return [axes[axis] for axis in step.parameters["permutation"]]
    if step.kind in ("reshape", "squeeze", "broadcast_in_dim"):
        (made,), sizes = step.outputs, [size for size in step.inputs[0].shape if size != 1]
        if [size for size in made.shape if size != 1] != sizes:
            regrouped = _regrouped(names, sizes, [size for size in made.shape if size != 1])
            if regrouped is None:
                return None
            names = regrouped
        rest = iter(names)
        return [None if size == 1 else next(rest) for size in made.shape]
    return None


def _regrouped(
    names: Sequence[Axis], before: Sequence[int], after: Sequence[int]
) -> list[Axis] | None:
    """Returns the names of axes after a reshape that divides batch axes or joins their parts.

    Args:
        names: the names of the axes.
        before: their sizes.
        after: the sizes after the reshape.
    """
    made: list[Axis] = []
    olds, news = list(zip(names, before, strict=True)), list(after)
    while olds and news:
        group, sizes = [olds.pop(0)], [news.pop(0)]
        while (old := math.prod(size for _, size in group)) != (new := math.prod(sizes)):
            if not (olds if old < new else news):
                return None
            if old < new:
                group.append(olds.pop(0))
            else:
                sizes.append(news.pop(0))
        renamed = _renamed([name for name, _ in group], tuple(sizes))
        if renamed is None:
            return None
        made += renamed
    return None if olds or news else made


def _renamed(group: list[Axis], sizes: tuple[int, ...]) -> list[Axis] | None:
    """Returns the names of the axes, of these sizes, that a reshape makes of a group of axes."""
    first, *others = group
    if not others and len(sizes) == 1:
        return group
    if not others and isinstance(first, str) and _is_batch(first):
        return _parts(first, sizes)
    if len(sizes) == 1 and isinstance(first, _Part) and group == _parts(first.axis, first.sizes):
        return [first.axis]
    return None


def _parts(axis: str, sizes: tuple[int, ...]) -> list[Axis]:
    return [_Part(axis, place, sizes) for place in range(len(sizes))]


def _factor(step: Node, at: int) -> float | None:
    """Returns the number by which an operation multiplies the scores, or None."""
    if step.kind not in ("mul", "div"):
        return None
    other = step.inputs[1 - at]
    if not isinstance(other, Number) or not np.isfinite(other.value) or not other.value:
        return None
    return float(1 / other.value if step.kind == "div" else other.value)


def _mask(graph: Graph, step: Node, at: int, axes: Axes) -> _Masked | _Kept | None:
    """Returns the mask that an operation applies; None for another operation."""
    shape = step.outputs[0].shape
    if step.inputs[at].shape != shape:  # the mask adds batch axes
        return None
    if step.kind == "add":
        value = _narrowed(graph, step.inputs[1 - at])
        if value is None or value[0].dtype != step.outputs[0].dtype:
            return None
        return _Masked(_of(axes, value[1]), value[0])
    if step.kind != "select_n":
        return None
    where, other = step.inputs[0], number(graph, step.inputs[3 - at])
    if other is None or not isinstance(where, Value) or where.dtype != bool:
        return None
    if where.shape != shape:
        return None
    replaced = at == 1  # the other one is chosen where the mask is true
    constant = evaluated(graph, where)
    if constant is not None and other <= _MASKED:
        kept = _of_queries_and_keys(constant != replaced, axes)
        if kept is not None:
            return _Kept(kept, other > -math.inf)
    narrow = _narrowed(graph, where)
    if narrow is None or other != -math.inf:
        return None
    return _Masked(_of(axes, narrow[1]), narrow[0], replaced)


def _of(axes: Axes, kept: Sequence[int | None]) -> Axes:
    """Returns the names of the axes of an array, given the axis of the scores for each."""
    return [None if axis is None else axes[axis] for axis in kept]


def _narrowed(graph: Graph, value: Operand) -> tuple[Value, list[int | None]] | None:
    """Returns the array that is broadcast to make a value, and the axis of the value for each axis.

    Axes of size 1 have none.
    """
    if not isinstance(value, Value):
        return None
    kept: list[int | None] = [None if n == 1 else axis for axis, n in enumerate(value.shape)]
    while True:
        maker = graph.maker(value)
        if maker is None or maker.kind != "broadcast_in_dim" or not maker.inputs:
            return value, kept
        source = maker.inputs[0]
        if not isinstance(source, Value) or source.ndim == 0:
            return value, kept
        places = maker.parameters["broadcast_dimensions"]
        kept = [
            None if size == 1 else kept[place]
            for place, size in zip(places, source.shape, strict=True)
        ]
        value = source


def _of_queries_and_keys(kept: np.ndarray, axes: Axes) -> np.ndarray | None:
    """Returns a mask [queries, keys], if it is the same for all batch axes."""
    own = [axis for axis, name in enumerate(axes) if not _is_batch(name)]
    index = tuple(slice(None) if axis in own else slice(0, 1) for axis in range(kept.ndim))
    one = kept[index]
    if len(own) != 2 or not (kept == one).all():
        return None
    return one.reshape([one.shape[axis] for axis in own])


# ---- The averages -------------------------------------------------------------------------------


def _dropped(graph: Graph, weights: Value) -> tuple[Value, Mark | None, Value | None]:
    """Returns the weights after dropout, its mark and its key; without dropout None for both."""
    reader = graph.only_reader(weights)
    mark = None if reader is None else reader.mark
    if reader is None or mark is None or mark.name != "drop" or mark.settings["alike"]:
        return weights, None, None
    _, key = mark.given(reader.inputs)
    return reader.outputs[0], mark, key


def _averages(
    product: Node, weights: Value, axes: Axes, key: Axis | None
) -> tuple[tuple[Value, Axes], Axes] | None:
    """Matches the product of the weights and the values.

    Args:
        product: the product.
        weights: the weights.
        axes: the names of the axes of the weights.
        key: the name of the axis of the keys.

    Returns:
        The values and the names of their axes, and those of the product's axes. The axis of the
        features is "e".
    """
    if product.kind != "dot_general":
        return None
    side = 0 if product.inputs[0] is weights else 1
    values = product.inputs[1 - side]
    summed, batch = product.parameters["dimension_numbers"]
    if not isinstance(values, Value) or values.dtype != product.outputs[0].dtype:
        return None
    if [axes[axis] for axis in summed[side]] != [key]:
        return None
    names: Axes = ["e"] * values.ndim
    for own, theirs in ((batch[side], batch[1 - side]), (summed[side], summed[1 - side])):
        for axis, place in zip(own, theirs, strict=True):
            names[place] = axes[axis]
    names = _without_ones(names, values.shape)
    used = (*batch[side], *summed[side])
    rest = [name for axis, name in enumerate(axes) if axis not in used]
    shared = [axes[axis] for axis in batch[side]]
    if names.count("e") > 1 or not all(map(_is_batch, shared)):
        return None
    if any(name is not None and _is_batch(name) for name in rest):
        return None
    others: Axes = [
        name if name == "e" else None
        for place, name in enumerate(names)
        if place not in (*batch[1 - side], *summed[1 - side])
    ]
    free = (rest, others) if side == 0 else (others, rest)
    return (values, names), [*shared, *free[0], *free[1]]


def _is_batch(name: Axis | None) -> bool:
    """Whether an axis is a batch axis or has size 1."""
    return name is None or isinstance(name, _Part) or name[0] == "b"


# ---- The call -----------------------------------------------------------------------------------


class _Layout(NamedTuple):
    """The kernel's order of axes: examples, queries or keys, heads, and features.

    Attributes:
        example: the first batch axis; None if all have size 1.
        heads: the other batch axes.
        query: the axis of the queries.
        key: the axis of the keys.
        sizes: the size of each axis.
    """

    example: Axis | None
    heads: list[Axis]
    query: Axis
    key: Axis
    sizes: dict[Axis, int]

    def rows(self, x: Any, names: Axes, row: Axis, feature: Axis) -> jax.Array:
        """Arranges queries, keys or values as [N, L, heads · d]."""
        x = _arranged(x, names, [self.example, row, *self.heads, feature])
        return x.reshape(*x.shape[:2], -1)

    def mask(self, x: jax.Array, names: Axes) -> jax.Array:
        """Arranges a mask as [N, heads, L, S], any of which may be 1."""
        x, names = _joined(x, names)
        x = _arranged(x, names, [self.example, *self.heads, self.query, self.key])
        alike = {*names} & {*self.heads}
        if alike and alike != {*self.heads}:
            heads = [self.sizes[name] for name in self.heads]
            x = jnp.broadcast_to(x, (len(x), *heads, *x.shape[-2:]))
        return x.reshape(len(x), -1, *x.shape[-2:])

    def outputs(self, y: jax.Array, names: Axes, shape: Sequence[int]) -> jax.Array:
        """Arranges the kernel's outputs [N, L, heads · d] as the product of the network."""
        heads = [self.sizes[name] for name in self.heads]
        y = y.reshape(*y.shape[:2], *heads, self.sizes["e"])
        order = [name for name in names if name is not None]
        y = _arranged(y, [self.example, self.query, *self.heads, "e"], order)
        # The number of examples is not that of the trace if devices share the batch.
        examples = names.index(self.example) if self.example is not None else None
        return y.reshape([-1 if axis == examples else size for axis, size in enumerate(shape)])


def _layout(scores: _Scores, values: tuple[Value, Axes]) -> _Layout:
    names = [name for name in scores.axes if name is not None]
    batch = [name for name in names if _is_batch(name)]
    query, key = (name for name in names if not _is_batch(name))
    sizes: dict[Axis, int] = {"d0": 1, "e": 1}
    for value, axes in (scores.queries, scores.keys, values):
        for name, size in zip(axes, value.shape, strict=True):
            sizes |= {} if name is None else {name: size}
    return _Layout(batch[0] if batch else None, batch[1:], query, key, sizes)


def _joined(x: jax.Array, names: Axes) -> tuple[jax.Array, Axes]:
    """Joins the parts of divided batch axes; the array is repeated along missing parts."""
    while some := [name for name in names if isinstance(name, _Part)]:
        axis, _, sizes = some[0]
        parts = _parts(axis, sizes)
        others = [name for name in names if name is not None and name not in parts]
        x = _arranged(x, names, [*others, *parts])
        kept = x.shape[: len(others)]
        x = jnp.broadcast_to(x, (*kept, *sizes)).reshape(*kept, -1)
        names = [*others, axis]
    return x, names


def _arranged(x: jax.Array, names: Axes, order: Sequence[Axis | None]) -> jax.Array:
    """Transposes an array to an order of named axes, and adds axes of size 1 for those it lacks."""
    present = [name for name in order if name is not None and name in names]
    places = [names.index(name) for name in present]
    ones = [place for place in range(x.ndim) if place not in places]
    sizes = iter([x.shape[place] for place in places])
    shape = [next(sizes) if name in present else 1 for name in order]
    return x.transpose(*places, *ones).reshape(shape)


def _call(
    scores: _Scores,
    values: tuple[Value, Axes],
    product: tuple[Value, Axes],
    drop: Mark | None,
    key: Value | None,
) -> Node | None:
    """Makes the call of the kernel, with arrays in its order of axes; None if it does not fit."""
    layout, (made, out) = _layout(scores, values), product
    heads = math.prod(layout.sizes[name] for name in layout.heads)
    names = [name for name in scores.axes if name is not None]
    # Dropout draws a number for each score in the network's order.
    in_order = names == [layout.example or names[0], *layout.heads, layout.query, layout.key]
    if layout.sizes["d0"] != layout.sizes["e"] or not (drop is None or in_order):
        return None
    causal, constant = _constant(scores)
    rate = 0.0 if drop is None else drop.settings["rate"]
    settings = attention.Settings(heads, causal, safe=False, rate=rate)
    factor = scores.scale * math.sqrt(layout.sizes["e"])
    given = [scores.queries, scores.keys, values, *((m.value, m.axes) for m in scores.masks)]

    def arranged(*arrays: Any) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        q, k, v = (
            layout.rows(x, axes, row, feature)
            for x, (_, axes), (row, feature) in zip(
                arrays[:3],
                given[:3],
                [(layout.query, "d0"), (layout.key, "d0"), (layout.key, "e")],
                strict=True,
            )
        )
        if not math.isclose(factor, 1, rel_tol=1e-6):  # the kernel divides by √d
            q = q * jnp.asarray(factor, q.dtype)
        masks = [] if constant is None else [jnp.asarray(constant, q.dtype)[None, None]]
        for x, mask in zip(arrays[3:], scores.masks, strict=True):
            added = x if mask.at is None else jnp.where(x == mask.at, -jnp.inf, 0).astype(q.dtype)
            masks.append(layout.mask(added, mask.axes))
        return (q, k, v), tuple(masks)

    shapes = [jax.ShapeDtypeStruct(value.shape, value.dtype) for value, _ in given]
    inputs, masks = jax.eval_shape(arranged, *shapes)
    if not attention.supports(inputs, masks, key, settings):
        return None
    function = attention.attention(settings, partial(_plain, settings, drop))

    def run(*arrays: Any) -> list[jax.Array]:
        inputs, masks = arranged(*arrays[: len(given)])
        return [layout.outputs(function(inputs, masks, *arrays[len(given) :]), out, made.shape)]

    about = f"attention of {inputs[0].shape[1]} queries to {inputs[1].shape[1]} keys"
    about += f", {heads} head{'' if heads == 1 else 's'}"
    ways = None
    divided = any(isinstance(name, _Part) for mask in scores.masks for name in mask.axes)
    if key is None and layout.example is not None and not divided:
        first = layout.example
        places = [axes.index(first) if first in axes else None for _, axes in given]
        ways = places, [out.index(first)]
    read = [*(value for value, _ in given), *([] if key is None else [key])]
    return Node("kernel", read, [made], run, about=about, examples=ways)


def _constant(scores: _Scores) -> tuple[bool, np.ndarray | None]:
    """Returns whether the constant mask is causal, and otherwise an array to add for it."""
    if scores.kept is None:
        return False, None
    if (scores.kept == np.tril(np.ones_like(scores.kept))).all():
        return True, None
    return False, np.where(scores.kept, 0.0, -np.inf)


def _plain(
    settings: attention.Settings,
    drop: Mark | None,
    inputs: Sequence[jax.Array],
    masks: Sequence[jax.Array],
    key: jax.Array | None = None,
) -> jax.Array:
    """Computes attention in XLA's operations; see ``attention.attention``."""
    q, k, v = (x.reshape(*x.shape[:2], settings.heads, -1) for x in inputs)
    scores = jnp.einsum("nlhd,nshd->nhls", q * q.shape[-1] ** -0.5, k)
    for mask in masks:
        scores = scores + mask
    if settings.causal:
        kept = jnp.tril(jnp.ones(scores.shape[2:], bool))
        scores = jnp.where(kept[None, None], scores, -jnp.inf)
    weights = jax.nn.softmax(scores)
    weights = weights if drop is None else drop.plain(weights, key)
    return jnp.einsum("nhls,nshd->nlhd", weights, v).reshape(inputs[0].shape)
