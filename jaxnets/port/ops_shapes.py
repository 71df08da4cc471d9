"""Rules for reshaping, permuting, joining and splitting."""

import math
from collections.abc import Sequence

from jaxnets.port import layouts
from jaxnets.port.dtypes import name_of
from jaxnets.port.ops_elementwise import elementwise
from jaxnets.port.rules import (
    Given,
    call,
    known,
    method,
    refuse,
    result,
    rule,
    several,
    simple,
    tensor,
    written,
)
from jaxnets.port.values import (
    ATOM,
    Binding,
    Context,
    Items,
    Plain,
    Refused,
    Tensor,
    Value,
    bound,
    channels_last,
    natural,
)

# ---- Views ----


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Matches old to new axes: the smallest groups of neighbours with equal numbers of elements.

    Axes of size 1 belong to no group.
    """
    left = [dim for dim, number in enumerate(old) if number != 1]
    right = [dim for dim, number in enumerate(new) if number != 1]
    groups = []
    while left or right:
        ours, theirs = [left.pop(0)], [right.pop(0)]
        while (a := math.prod(old[i] for i in ours)) != (b := math.prod(new[i] for i in theirs)):
            if a < b:
                ours.append(left.pop(0))
            else:
                theirs.append(right.pop(0))
        groups.append((ours, theirs))
    return groups


def reshaped(
    context: Context, x: Tensor, sizes: Sequence[Value | str], shape: tuple[int, ...]
) -> Tensor:
    """Reshapes x to sizes given as texts, after a transposition if one is needed."""
    order, transposed = _view_order(x, shape)
    if x.shape == shape:
        return x
    if _is_flatten(x, shape):
        text = call(context, "layers.flatten", x)
        return Tensor(text, shape, natural(len(shape)), x.dtype)
    if transposed:
        x = context.convert(x, transposed)
        order, _ = _view_order(x, shape)
    texts = [written(sizes[dim]) for dim in order]
    if len(texts) == 0:
        texts = ["()"]
    if x.binding == ATOM:
        return Tensor(method(context, x, "reshape", *texts), shape, order, x.dtype)
    return Tensor(call(context, "jnp.reshape", x, _tuple(texts)), shape, order, x.dtype)


def _tuple(texts: Sequence[str]) -> str:
    return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"


def _is_flatten(x: Tensor, shape: tuple[int, ...]) -> bool:
    image = x.ndim > 2 and x.order == channels_last(x.ndim)
    return image and shape == (x.shape[0], math.prod(x.shape[1:]))


def _view_order(
    x: Tensor, shape: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Returns the order of a view, and the order that x needs first, or None if none is needed."""
    if 0 in x.shape:
        return natural(len(shape)), None if x.natural else natural(x.ndim)
    groups = _groups(x.shape, shape)
    group_of = {dim: number for number, (ours, _) in enumerate(groups) for dim in ours}
    sequence = [dim for dim in x.order if dim in group_of]
    first: dict[int, int] = {}
    for place, dim in enumerate(sequence):
        first.setdefault(group_of[dim], place)
    wanted = sorted(sequence, key=lambda dim: (first[group_of[dim]], dim))
    out = [dim for number in sorted(first, key=first.__getitem__) for dim in groups[number][1]]
    order = layouts.free_order(out, len(shape))
    if wanted == sequence:
        return order, None
    if order not in (natural(len(shape)), channels_last(len(shape))):
        return natural(len(shape)), natural(x.ndim)  # a transposition is needed in any case
    return order, layouts.completed(wanted, x.ndim)


@rule("view", "reshape", "_unsafe_view")
def view(context: Context, input: Value, *shape: Value) -> Tensor:
    """Ports reshaping, in PyTorch's order of elements."""
    x, sizes = tensor(input), several(shape)
    if len(sizes) == 1 and name_of(known(sizes[0])) in ("float32", "int32", "int64", "uint8"):
        raise Refused("the bits of a tensor as another dtype", "Convert it with .to(dtype).")
    return reshaped(context, x, sizes, tuple(context.result.shape))


@rule("view_as", "reshape_as")
def view_as(context: Context, input: Value, other: Value) -> Tensor:
    """Ports reshaping to the shape of another tensor."""
    like = tensor(other)
    sizes = [layouts.size_text(like, dim) or "-1" for dim in range(like.ndim)]
    return reshaped(context, tensor(input), sizes, like.shape)


@rule("flatten")
def flatten(
    context: Context, input: Value, start_dim: Given = None, end_dim: Given = None
) -> Tensor:
    """Ports merging several neighbouring axes."""
    x = tensor(input)
    shape = tuple(context.result.shape)
    if x.ndim == 0:
        return reshaped(context, x, ["1"], shape)
    start, end = known(start_dim, 0) % x.ndim, known(end_dim, -1) % x.ndim
    if start == end:
        return x
    if start == 0 and end == x.ndim - 1 and x.natural:
        return Tensor(method(context, x, "ravel"), shape, (0,), x.dtype)
    before, after = range(start), range(end + 1, x.ndim)
    if not before or all(layouts.size_text(x, dim) for dim in before):
        sizes = [*layouts.size_texts(x, before), "-1", *layouts.size_texts(x, after, True)]
    else:
        if (collapsed := _collapsed(context, x, start, end, shape)) is not None:
            return collapsed
        merged = str(math.prod(x.shape[start : end + 1]))
        sizes = [*layouts.size_texts(x, before), merged, *layouts.size_texts(x, after, True)]
    return reshaped(context, x, sizes, shape)


def _collapsed(
    context: Context, x: Tensor, start: int, end: int, shape: tuple[int, ...]
) -> Tensor | None:
    """Merges axes without texts of sizes; returns None if they are not neighbours in the port."""
    if _is_flatten(x, shape) or x.shape == shape:
        return None
    _, transposed = _view_order(x, shape)
    if transposed:
        x = context.convert(x, transposed)
    places = [x.order.index(dim) for dim in range(start, end + 1)]
    if places != list(range(places[0], places[0] + len(places))):
        return None
    text = call(context, "lax.collapse", x, str(places[0]), str(places[-1] + 1))
    return Tensor(text, shape, _view_order(x, shape)[0], x.dtype)


@rule("ravel")
def ravel(context: Context, input: Value) -> Tensor:
    """Ports flattening to a vector."""
    return flatten(context, input)


@rule("unflatten")
def unflatten(context: Context, input: Value, dim: Value, *sizes: Value, **named: Value) -> Tensor:
    """Ports splitting an axis into several axes."""
    x = tensor(input)
    place = known(dim) % x.ndim
    inner = several(sizes or (named["sizes"],))
    taken = -1 in [known(size) for size in inner]
    before, after = range(place), range(place + 1, x.ndim)
    outer = layouts.size_texts(x, (*before, *after), taken)
    texts = [*outer[:place], *map(written, inner), *outer[place:]]
    return reshaped(context, x, texts, tuple(context.result.shape))


@rule("squeeze")
def squeeze(context: Context, input: Value, *dim: Value) -> Tensor:
    """Ports the removal of axes of size 1."""
    x = tensor(input)
    given = [known(value) % x.ndim for value in several(dim)] if dim else range(x.ndim)
    gone = [place for place in given if x.shape[place] == 1]
    if not gone:
        return x
    text = method(context, x, "squeeze", layouts.axes(x, gone) if dim or x.ndim > 1 else None)
    kept = [place for place in range(x.ndim) if place not in gone]
    return Tensor(text, tuple(x.shape[place] for place in kept), layouts.without(x, gone), x.dtype)


@rule("unsqueeze")
def unsqueeze(context: Context, input: Value, dim: Value) -> Tensor:
    """Ports the insertion of an axis of size 1."""
    x = tensor(input)
    rank = x.ndim + 1
    new = known(dim) % rank
    moved = [place + (place >= new) for place in x.order]
    order = _with_new(moved, new, rank)
    shape = (*x.shape[:new], 1, *x.shape[new:])
    return Tensor(_with_axis(context, x, order.index(new)), shape, order, x.dtype)


def _with_new(moved: list[int], new: int, rank: int) -> tuple[int, ...]:
    """Returns the order after the insertion of an axis."""
    for order in (natural(rank), channels_last(rank) if rank >= 4 else natural(rank)):
        if [dim for dim in order if dim != new] == moved:
            return order
    place = moved.index(new - 1) + 1 if new else 0
    return (*moved[:place], new, *moved[place:])


def _with_axis(context: Context, x: Tensor, place: int) -> str:
    if place == x.ndim and place > 0:
        return f"{bound(x, ATOM)}[..., None]"
    if place <= 2:
        return f"{bound(x, ATOM)}[{':, ' * place}None]"
    return call(context, "jnp.expand_dims", x, place)


# ---- Permutations ----


@rule("permute")
def permute(context: Context, input: Value, *dims: Value) -> Tensor:
    """Ports permutations of axes, which only change the recorded order."""
    return layouts.permuted(tensor(input), [known(dim) for dim in several(dims)])


@rule("transpose", "swapaxes", "swapdims")
def transpose(context: Context, input: Value, dim0: Value, dim1: Value) -> Tensor:
    """Ports swapping two axes."""
    x = tensor(input)
    dims = list(range(x.ndim))
    a, b = known(dim0) % x.ndim, known(dim1) % x.ndim
    dims[a], dims[b] = b, a
    return layouts.permuted(x, dims)


@rule("t", "T", "H")
def t(context: Context, input: Value) -> Tensor:
    """Ports the transposition of a matrix."""
    x = tensor(input)
    return layouts.permuted(x, range(x.ndim)[::-1])


@rule("mT", "adjoint")
def matrices_transposed(context: Context, input: Value) -> Tensor:
    """Ports swapping the last two axes."""
    return transpose(context, input, Plain("-2", -2), Plain("-1", -1))


@rule("movedim", "moveaxis")
def movedim(context: Context, input: Value, source: Value, destination: Value) -> Tensor:
    """Ports moving axes to other positions."""
    x = tensor(input)
    pairs = dict(zip(layouts.dims_of(x, destination), layouts.dims_of(x, source), strict=True))
    rest = iter(dim for dim in range(x.ndim) if dim not in pairs.values())
    dims = [pairs[place] if place in pairs else next(rest) for place in range(x.ndim)]
    return layouts.permuted(x, dims)


# ---- Repetition ----


def _broadcast(context: Context, x: Tensor, sizes: Sequence[Value | str]) -> Tensor:
    """Broadcasts an array to sizes given as texts."""
    shape = tuple(context.result.shape)
    new = len(shape) - x.ndim
    if shape == x.shape:
        return x
    order = (*range(new), *(dim + new for dim in x.order))
    texts = [written(sizes[dim]) for dim in order]
    return result(context, call(context, "jnp.broadcast_to", x, _tuple(texts)), order)


@rule("expand", "broadcast_to")
def expand(context: Context, input: Value, *size: Value) -> Tensor:
    """Ports broadcasting; -1 keeps a size."""
    x, sizes = tensor(input), several(size or ())
    new = len(sizes) - x.ndim
    kept = [known(value) == -1 for value in sizes]
    grown = [
        dim
        for dim in range(x.ndim)
        if not kept[dim + new] and context.result.shape[dim + new] != x.shape[dim]
    ]
    needs_name = any(keep and layouts.size_text(x, i - new) is None for i, keep in enumerate(kept))
    if needs_name and new == 0 and len(grown) == 1:
        count, axis = sizes[grown[0]], layouts.axis(x, grown[0])
        return result(context, call(context, "jnp.repeat", x, count, axis), x.order)
    texts = [
        layouts.size_texts(x, [i - new], True)[0] if keep else value
        for i, (keep, value) in enumerate(zip(kept, sizes, strict=True))
    ]
    return _broadcast(context, x, texts)


@rule("expand_as")
def expand_as(context: Context, input: Value, other: Value) -> Tensor:
    """Ports broadcasting to the shape of another tensor."""
    x, like = tensor(input), tensor(other)
    if x.shape == like.shape:
        return x
    x = layouts.place(context, x, like.order)
    shape = f"{bound(like, ATOM)}.shape"
    return result(context, call(context, "jnp.broadcast_to", x, shape), like.order)


@rule("repeat", "tile")
def repeat(context: Context, input: Value, *repeats: Value, dims: Given = None) -> Tensor:
    """Ports repeating a tensor along each axis."""
    x, counts = tensor(input), several(repeats or (dims,) if dims else repeats)
    counts = [Plain("1", 1)] * (x.ndim - len(counts)) + counts
    new = len(counts) - x.ndim
    order = (*range(new), *(dim + new for dim in x.order))
    texts = [written(counts[dim]) for dim in order]
    return result(context, call(context, "jnp.tile", x, _tuple(texts)), order)


@rule("repeat_interleave")
def repeat_interleave(
    context: Context,
    input: Value,
    repeats: Value,
    dim: Given = None,
    *,
    output_size: Given = None,
) -> Tensor:
    """Ports repeating each element."""
    x = tensor(input)
    if isinstance(repeats, Tensor):
        raise Refused("a tensor of repeats", "Repeat by a number.")
    if dim is None or known(dim) is None:
        return result(context, call(context, "jnp.repeat", context.natural(x), repeats))
    return result(context, call(context, "jnp.repeat", x, repeats, layouts.axis(x, dim)), x.order)


# ---- Joining and cutting ----


def _joined(context: Context, tensors: Value) -> tuple[list[Tensor], str]:
    """Converts tensors to a common order; returns the tensors and the text of their list."""
    assert isinstance(tensors, Items)
    given = [tensor(item) for item in tensors.items]
    ranked = [x for x in given if x.shape != (0,)]
    found = layouts.same_order(context, ranked)
    if tensors.text is not None and all(a is b for a, b in zip(given, found, strict=False)):
        return found, tensors.text
    return found, f"[{', '.join(written(x) for x in found)}]"


@rule("cat", "concat", "concatenate")
def cat(context: Context, tensors: Value, dim: Given = None) -> Tensor:
    """Ports the concatenation of tensors along an axis."""
    found, text = _joined(context, tensors)
    place = found[0].axis(known(dim, 0))
    image = place == found[0].ndim - 1 and place > 0
    axis = "-1" if image else None if place == 0 else str(place)
    return result(context, call(context, "jnp.concatenate", text, axis=axis), found[0].order)


@rule("stack")
def stack(context: Context, tensors: Value, dim: Given = None) -> Tensor:
    """Ports stacking tensors along a new axis."""
    found, text = _joined(context, tensors)
    rank = found[0].ndim + 1
    new = known(dim, 0) % rank
    order = _with_new([place + (place >= new) for place in found[0].order], new, rank)
    place = order.index(new)
    axis = None if place == 0 else "-1" if place == rank - 1 else str(place)
    return result(context, call(context, "jnp.stack", text, axis=axis), order)


def _stacker(name: str, least: int, dim: int, at: int) -> None:
    @rule(name)
    def apply(context: Context, tensors: Value) -> Value:
        assert isinstance(tensors, Items)
        ranks = [tensor(item).ndim for item in tensors.items]
        if min(ranks) < least:
            naturals = [context.natural(tensor(item)) for item in tensors.items]
            text = f"[{', '.join(written(x) for x in naturals)}]"
            return result(context, call(context, f"jnp.{name}", text))
        return cat(context, tensors, Plain(str(dim), dim))


_stacker("hstack", 2, 1, 1)
_stacker("vstack", 2, 0, 0)
_stacker("dstack", 3, 2, 2)


def _pieces(context: Context, text: str, order: tuple[int, ...]) -> Items:
    parts = enumerate(context.result)
    items = tuple(result(context, f"{text}[{i}]", order, value=part) for i, part in parts)
    return Items(items, text)


@rule("chunk")
def chunk(context: Context, input: Value, chunks: Value, dim: Given = None) -> Items:
    """Ports splitting an axis into a number of pieces."""
    x, place = tensor(input), known(dim, 0) % tensor(input).ndim
    if place == 0 and known(chunks) == 2:  # halves of a batch of any size
        axis = None if layouts.axis(x, place) == "0" else layouts.axis(x, place)
        return _pieces(context, call(context, "jnp.array_split", x, "2", axis=axis), x.order)
    return _cut(context, x, place, written(chunks))


def _cut(context: Context, x: Tensor, dim: int, count: str | None) -> Items:
    """Returns the pieces of a split with the sizes of PyTorch's pieces."""
    sizes = [part.shape[dim] for part in context.result]
    axis = layouts.axis(x, dim)
    axis_ = None if axis == "0" else axis
    if len(set(sizes)) == 1:
        where = str(len(sizes)) if count is None else count
    else:
        where = str([sum(sizes[: i + 1]) for i in range(len(sizes) - 1)])
    return _pieces(context, call(context, "jnp.split", x, where, axis=axis_), x.order)


@rule("tensor_split")
def tensor_split(
    context: Context,
    input: Value,
    indices_or_sections: Given = None,
    dim: Given = None,
    indices: Given = None,
    sections: Given = None,
) -> Items:
    """Ports splitting an axis into a number of pieces, or at given indices."""
    x, given = tensor(input), indices_or_sections or indices or sections
    place = known(dim, 0) % x.ndim
    if not isinstance(given, Items):
        return _cut(context, x, place, None)
    axis = None if layouts.axis(x, place) == "0" else layouts.axis(x, place)
    where = f"[{', '.join(map(written, given.items))}]"
    return _pieces(context, call(context, "jnp.split", x, where, axis=axis), x.order)


@rule("split", "split_with_sizes")
def split(
    context: Context,
    input: Value,
    split_size: Given = None,
    dim: Given = None,
    split_size_or_sections: Given = None,
    split_sizes: Given = None,
) -> Items:
    """Ports splitting an axis into pieces of one size, or of given sizes."""
    x = tensor(input)
    place = known(dim, 0) % x.ndim
    given = next(v for v in (split_size, split_size_or_sections, split_sizes) if v is not None)
    if not isinstance(given, Items):
        return _cut(context, x, place, None)
    ends, so_far = [], ""
    numbers = all(isinstance(item, Plain) and item.constant for item in given.items)
    if numbers:
        return _cut(context, x, place, None)
    axis = None if layouts.axis(x, place) == "0" else layouts.axis(x, place)
    if given.text and simple(given.text):
        context.use("np")
        text = call(context, "jnp.split", x, f"np.cumsum({given.text})[:-1]", axis=axis)
        return _pieces(context, text, x.order)
    for item in given.items[:-1]:
        so_far = f"{so_far} + {bound(item, Binding.SUM)}" if so_far else written(item)
        ends.append(so_far)
    text = call(context, "jnp.split", x, f"[{', '.join(ends)}]", axis=axis)
    return _pieces(context, text, x.order)


@rule("unbind", "Tensor.__iter__")
def unbind(context: Context, input: Value, dim: Given = None) -> Items:
    """Ports the slices along an axis."""
    x = tensor(input)
    place = known(dim, 0) % x.ndim
    axis = None if x.axis(place) == 0 else layouts.axis(x, place)
    order = layouts.without(x, [place])
    return _pieces(context, call(context, "jnp.unstack", x, axis=axis), order)


# ---- Elements elsewhere ----


@rule("roll")
def roll(context: Context, input: Value, shifts: Value, dims: Given = None) -> Tensor:
    """Ports circular shifts along axes."""
    x = tensor(input)
    if dims is None or known(dims) in (None, ()):
        return result(context, call(context, "jnp.roll", context.natural(x), shifts))
    axes = known(dims)
    text = layouts.axes(x, dims) if x.natural or not isinstance(axes, tuple) else None
    text = text or str(tuple(x.axis(dim) for dim in axes))
    return elementwise(context, call(context, "jnp.roll", x, shifts, text), x)


@rule("flip")
def flip(context: Context, input: Value, *dims: Value) -> Tensor:
    """Ports the reversal of axes."""
    x = tensor(input)
    places = [known(dim) % x.ndim for dim in several(dims)]
    return elementwise(context, call(context, "jnp.flip", x, layouts.axes(x, places)), x)


@rule("fliplr")
def fliplr(context: Context, input: Value) -> Tensor:
    """Ports the reversal of the second axis."""
    return flip(context, input, Plain("1", 1))


@rule("flipud")
def flipud(context: Context, input: Value) -> Tensor:
    """Ports the reversal of the first axis."""
    return flip(context, input, Plain("0", 0))


@rule("rot90")
def rot90(context: Context, input: Value, k: Given = None, dims: Given = None) -> Tensor:
    """Ports rotations by 90° in the plane of two axes."""
    x = tensor(input)
    axes = tuple(x.axis(dim) for dim in known(dims, (0, 1)))
    count = None if k is None and axes == (0, 1) else written(k or "1")
    text = call(context, "jnp.rot90", x, count, None if axes == (0, 1) else str(axes))
    shape = tuple(context.result.shape)
    return Tensor(text, shape, x.order, x.dtype)


def _triangle(name: str) -> None:
    @rule(name)
    def apply(context: Context, input: Value, diagonal: Given = None) -> Value:
        x = layouts.last(context, tensor(input), 2)
        return elementwise(context, call(context, f"jnp.{name}", x, diagonal), x)


_triangle("tril")
_triangle("triu")


@rule("meshgrid")
def meshgrid(context: Context, *tensors: Value, indexing: Given = None) -> Items:
    """Ports the coordinates of a grid."""
    given = several(tensors)
    order = natural(len(given))
    how = None if known(indexing, "ij") == "xy" else '"ij"'
    return _pieces(context, call(context, "jnp.meshgrid", *given, indexing=how), order)


@rule("cartesian_prod")
def cartesian_prod(context: Context, *tensors: Value) -> Tensor:
    """Ports all combinations of elements."""
    grid = call(context, "jnp.meshgrid", *tensors, indexing='"ij"')
    stacked = call(context, "jnp.stack", grid, axis=-1)
    return result(context, f"{stacked}.reshape(-1, {len(tensors)})")


@rule("Tensor.unfold")
def unfold(context: Context, input: Value, dimension: Value, size: Value, step: Value) -> Tensor:
    """Ports windows along an axis as a new last axis."""
    x = tensor(input)
    dim = known(dimension) % x.ndim
    if known(size) == known(step) and x.shape[dim] % known(size) == 0:
        shape = (*x.shape[:dim], x.shape[dim] // known(size), known(size), *x.shape[dim + 1 :])
        others = [d for d in range(x.ndim) if d != dim]
        named = all(layouts.size_text(x, d) for d in others)
        outer = layouts.size_texts(x, others, named)
        texts = [*outer[:dim], "-1" if named else str(shape[dim]), written(size), *outer[dim:]]
        view = reshaped(context, x, texts, shape)
        rest = [place for place in range(x.ndim + 1) if place != dim + 1]
        return layouts.permuted(view, [*rest, dim + 1])
    count = tuple(context.result.shape)[dim]
    start = call(context, "jnp.arange", count)
    offsets = call(context, "jnp.arange", written(size))
    places = f"{start}[:, None] * {bound(step, Binding.PRODUCT + 1)} + {offsets}"
    place = x.axis(dim)
    order = list(x.order)
    order.insert(place + 1, x.ndim)
    return result(context, call(context, "jnp.take", x, places, axis=place), tuple(order))


@rule("as_strided", "set_")
def as_strided(context: Context, input: Value, *args: Value) -> Tensor:
    """Refuses views by strides."""
    raise Refused("strides of memory", "Write it by slices or unfold.")


refuse("resizing in place", "Make a new tensor.", "resize_", "resize_as_")
