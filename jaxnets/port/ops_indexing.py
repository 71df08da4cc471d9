"""Rules for reading and writing parts of a tensor."""

import re
from dataclasses import dataclass
from typing import Any

from jaxnets.port import layouts
from jaxnets.port.ops_elementwise import elementwise
from jaxnets.port.rules import (
    Given,
    call,
    known,
    result,
    rule,
    several,
    tensor,
    written,
)
from jaxnets.port.values import (
    ATOM,
    Context,
    Items,
    Plain,
    Refused,
    Tensor,
    Value,
    bound,
    natural,
    text_of,
)

_DATA_DEPENDENT = "the number of elements that a mask selects depends on the data"
_CHOOSE = "Choose with torch.where, or multiply by the mask."


@dataclass(frozen=True)
class _Piece:
    """One entry of an index.

    ``kind`` is "new" (a new axis), "number", "slice", "array" or "mask".
    """

    kind: str
    text: str
    axes: int = 1  # number of axes of the tensor that the entry indexes
    value: Any = None


def _piece(context: Context, value: Value) -> _Piece:
    if isinstance(value, Tensor):
        x = context.natural(value)
        if "bool" in str(value.dtype) or "uint8" in str(value.dtype):
            return _Piece("mask", written(x), x.ndim, value)
        return _Piece("array", written(x), 1, x)
    if isinstance(value, Items):
        if any(isinstance(known(item), bool) for item in value.items):
            raise Refused(_DATA_DEPENDENT, _CHOOSE)
        text = call(context, "jnp.array", text_of(value))
        return _Piece("array", text, 1, Tensor(text, (len(value.items),), (0,), None))
    if value.value is None:
        return _Piece("new", "None", 0)
    if isinstance(value.value, slice):
        return _Piece("slice", ":" if value.value == slice(None) else value.text, 1, value.value)
    if isinstance(value.value, bool):
        raise Refused("an index that is True or False", "Use unsqueeze.")
    return _Piece("number", value.text, 1, value.value)


def _pieces(context: Context, x: Tensor, index: Value) -> list[_Piece]:
    """Returns the entries of an index for all axes of x, in PyTorch's order, and for new axes."""
    entries = [index]
    if isinstance(index, Items) and index.kind is tuple:
        entries = list(index.items)
    elif isinstance(index, Plain) and isinstance(index.value, tuple | list):
        entries = several((index,))
    before: list[_Piece] = []
    after: list[_Piece] | None = None
    for entry in entries:
        if isinstance(entry, Plain) and entry.value is Ellipsis:
            after = []
        else:
            (before if after is None else after).append(_piece(context, entry))
    after = after or []
    taken = sum(piece.axes for piece in (*before, *after))
    return [*before, *[_Piece("slice", ":", 1, slice(None))] * (x.ndim - taken), *after]


def _brackets(texts: list[str]) -> str:
    while len(texts) > 1 and texts[-1] == ":":
        texts.pop()
    return f"[{', '.join(texts)}]" if texts else ""


def _ellipsis(texts: list[str]) -> str:
    """Returns an index in brackets, with ``...`` for several leading colons."""
    colons = next((i for i, text in enumerate(texts) if text != ":"), len(texts))
    if colons >= 2 and texts[-1] != ":":
        return f"[..., {', '.join(texts[colons:])}]"
    return _brackets(texts)


def _basic(x: Tensor, pieces: list[_Piece]) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """Returns the brackets of an index without arrays, and the order and shape of the result."""
    names: list[int | None] = []  # for each axis of x the axis of the result, or None if removed
    new, shape, sources, rank = [], [], [], 0
    for piece in pieces:
        if piece.kind == "new":
            new.append(rank)
            shape.append(1)
        else:
            names.append(rank if piece.kind == "slice" else None)
            sources.append(piece)
            if piece.kind == "number":
                continue
            shape.append(len(range(*piece.value.indices(x.shape[len(names) - 1]))))
        rank += 1
    kept = [names[dim] for dim in x.order if names[dim] is not None]
    order = layouts.free_order([dim for dim in kept if dim is not None], rank)
    own = list(x.order)
    texts = []
    for dim in order:
        if dim in new:
            texts.append("None")
            continue
        while names[own[0]] != dim:
            texts.append(sources[own.pop(0)].text)
        texts.append(sources[own.pop(0)].text)
    texts += [sources[dim].text for dim in own]
    return _ellipsis(texts), order, tuple(shape)


def _indexed(
    context: Context, x: Tensor, pieces: list[_Piece]
) -> tuple[Tensor, str, tuple[int, ...]]:
    """Returns the indexed tensor, the brackets, and the order of the result."""
    kinds = [piece.kind for piece in pieces]
    arrays = kinds.count("array")
    if not arrays:
        brackets, order, _ = _basic(x, pieces)
        return x, brackets, order
    if "number" in kinds:
        plain = [
            p if p.kind == "number" else _Piece("slice", ":", 1, slice(None))
            for p in pieces
            if p.kind != "new"
        ]
        brackets, order, shape = _basic(x, plain)
        x = Tensor(f"{bound(x, ATOM)}{brackets}", shape, order, x.dtype)
        return _indexed(context, x, [p for p in pieces if p.kind != "number"])
    if arrays > 1 or "new" in kinds:
        x = context.natural(x)
        return x, _brackets([piece.text for piece in pieces]), ()
    place = kinds.index("array")
    more = pieces[place].value.ndim - 1
    own: list[int] = []
    for dim in x.order:
        if dim == place:
            own += range(place, place + more + 1)
        else:
            own.append(dim + more * (dim > place))
    return x, _ellipsis([pieces[dim].text for dim in x.order]), tuple(own)


@rule("getitem")
def getitem(context: Context, input: Value, index: Value) -> Value:
    """Ports ``x[index]``."""
    if isinstance(input, Items):
        return _item(input, index)
    if isinstance(input, Plain):
        return Plain(f"{bound(input, ATOM)}[{text_of(index)}]", context.result)
    pieces = _pieces(context, input, index)
    if any(piece.kind == "mask" for piece in pieces):
        return _selected(context, input, pieces)
    x, brackets, order = _indexed(context, input, pieces)
    return result(context, f"{bound(x, ATOM)}{brackets}", order or None)


def _selected(context: Context, input: Tensor, pieces: list[_Piece]) -> Tensor:
    """Ports indexing by a mask."""
    if any(piece.kind in ("new", "number") for piece in pieces):
        raise Refused("a mask among other indices", "Index in two steps.")
    context.note("a mask as an index selects by the data, so it does not work under jax.jit")
    brackets = _brackets([piece.text for piece in pieces])
    return result(context, f"{bound(context.natural(input), ATOM)}{brackets}")


@rule("masked_select")
def masked_select(context: Context, input: Value, mask: Value) -> Tensor:
    """Ports the vector of elements that a mask selects."""
    (x, chosen), _ = layouts.align(context, input, mask)
    if tensor(input).shape != tensor(mask).shape:
        raise Refused("a mask of another shape", _CHOOSE)
    x, chosen = context.natural(tensor(x)), context.natural(tensor(chosen))
    context.note("a mask as an index selects by the data, so it does not work under jax.jit")
    return result(context, f"{bound(x, ATOM)}[{written(chosen)}]")


def _item(values: Items, index: Value) -> Value:
    place = known(index)
    if not isinstance(place, slice):
        return values.items[place]
    items = values.items[place]
    text = None if values.text is None else f"{values.text}[{written(index)}]"
    return Items(items, text or _run(items), values.kind)


def _run(items: tuple[Value, ...]) -> str | None:
    """Returns ``x.shape[1:3]`` for the items x.shape[1] and x.shape[2], or None."""
    found = [re.fullmatch(r"(.*\.shape)\[(\d+)\]", text_of(item)) for item in items]
    if not found or None in found:
        return None
    bases = {match[1] for match in found if match}
    numbers = [int(match[2]) for match in found if match]
    if len(bases) > 1 or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return None
    return f"{bases.pop()}[{numbers[0]}:{numbers[-1] + 1}]"


@rule("setitem", "index_put")
def setitem(context: Context, input: Value, index: Value, value: Value) -> Tensor:
    """Ports ``x[index] = value`` as an expression for the new x."""
    target = tensor(input)
    pieces = _pieces(context, target, index)
    if any(piece.kind == "mask" for piece in pieces):
        return _masked(context, target, pieces, value)
    kinds = [piece.kind for piece in pieces]
    several_at_once = kinds.count("array") > 1 or {"number", "array"} <= set(kinds)
    number = not isinstance(value, Tensor) or value.ndim == 0
    if several_at_once and "new" not in kinds and (number or target.natural):
        if not number and not _alike_in_numpy(kinds):
            raise Refused("numbers and tensors in an assigned index", "Write in two steps.")
        x, order = target, tuple[int, ...]()
        brackets = _ellipsis([pieces[dim].text for dim in x.order])
    else:
        x, brackets, order = _indexed(context, target, pieces)
    if x.order != target.order:
        raise Refused("an assignment to an image by several index tensors", "Use torch.where.")
    if isinstance(value, Tensor) and (order or x.natural) and value.ndim:
        value = _placed(context, value, order)
    text = f"{bound(x, ATOM)}.at{brackets or '[...]'}.set({written(value)})"
    return Tensor(text, x.shape, x.order, x.dtype)


def _alike_in_numpy(kinds: list[str]) -> bool:
    """Whether NumPy orders the axes of an item like PyTorch, which applies numbers first."""
    theirs = _first_axis(
        "".join("a" if kind == "array" else "-" for kind in kinds if kind != "number")
    )
    return theirs == _first_axis("".join("-" if kind == "slice" else "a" for kind in kinds))


def _first_axis(kinds: str) -> int:
    """Returns where the axes of index arrays go: to the first array, or to the front if apart."""
    return kinds.index("a") if "-" not in kinds.strip("-") else 0


def _placed(context: Context, value: Tensor, order: tuple[int, ...]) -> Tensor:
    if not order:
        return context.natural(value)
    extra = value.ndim - len(order)
    if extra > 0:  # PyTorch drops leading axes of size 1
        value = context.natural(value)
        shape = value.shape[extra:]
        text = f"{bound(value, ATOM)}[{', '.join(['0'] * extra)}]"
        value = Tensor(text, shape, natural(len(shape)), value.dtype)
    return layouts.place(context, value, order)


def _masked(context: Context, x: Tensor, pieces: list[_Piece], value: Value) -> Tensor:
    """Ports ``x[mask] = value`` as an elementwise choice."""
    masks = [piece for piece in pieces if piece.kind == "mask"]
    others = [p for p in pieces if p.kind != "mask" and p.text != ":"]
    if len(masks) != 1 or others or pieces[0].kind != "mask":
        raise Refused("a mask among other indices", "Write it by torch.where.")
    mask = masks[0].value
    missing = x.ndim - mask.ndim
    if isinstance(value, Tensor) and value.ndim > missing:
        raise Refused(_DATA_DEPENDENT, "Write it by torch.where.")
    if missing:
        colons = ", ".join([":"] * mask.ndim + ["None"] * missing)
        index = "..., None" if missing == 1 else colons
        text = f"{bound(context.natural(mask), ATOM)}[{index}]"
        shape = (*mask.shape, *[1] * missing)
        mask = Tensor(text, shape, natural(x.ndim), mask.dtype)
    mask = layouts.place(context, mask, x.order)
    if isinstance(value, Tensor) and value.ndim:
        value = layouts.place(context, value, x.order)
    return Tensor(call(context, "jnp.where", mask, value, x), x.shape, x.order, x.dtype)


def _slice(context: Context, x: Tensor, dim: int, piece: Value, kind: str, value: Any) -> Tensor:
    pieces = [_Piece("slice", ":", 1, slice(None))] * x.ndim
    pieces[dim] = _Piece(kind, written(piece), 1, value)
    _, brackets, order = _indexed(context, x, pieces)
    return result(context, f"{bound(x, ATOM)}{brackets}", order)


@rule("narrow")
def narrow(context: Context, input: Value, dim: Value, start: Value, length: Value) -> Tensor:
    """Ports a slice of an axis by start and length."""
    x = tensor(input)
    begin, count = known(start), known(length)
    constant = all(isinstance(v, Plain) and v.text.lstrip("-").isdigit() for v in (start, length))
    end = str(begin + count) if constant else f"{written(start)} + {written(length)}"
    first = "" if written(start) == "0" else written(start)
    end = written(length) if not first else end
    text = Plain(f"{first}:{end}", None)
    return _slice(context, x, known(dim) % x.ndim, text, "slice", slice(begin, begin + count))


@rule("select")
def select(context: Context, input: Value, dim: Value, index: Value) -> Tensor:
    """Ports one index of an axis, which is removed."""
    x = tensor(input)
    return _slice(context, x, known(dim) % x.ndim, index, "number", known(index))


@rule("index_select")
def index_select(context: Context, input: Value, dim: Value, index: Value) -> Tensor:
    """Ports the selection of indices of an axis."""
    x, places = tensor(input), tensor(index)
    return _slice(context, x, known(dim) % x.ndim, places, "array", places)


def _like(context: Context, x: Tensor, index: Tensor, dim: int) -> Tensor:
    """Slices x to the shape of an index along all axes but ``dim``."""
    pieces = [_Piece("slice", ":", 1, slice(None))] * x.ndim
    for other, (have, want) in enumerate(zip(x.shape, index.shape, strict=True)):
        if other != dim and have != want:
            pieces[other] = _Piece("slice", f":{want}", 1, slice(want))
    brackets, order, shape = _basic(x, pieces)
    if shape == x.shape:
        return x
    return Tensor(f"{bound(x, ATOM)}{brackets}", shape, order, x.dtype)


@rule("gather", "take_along_dim")
def gather(
    context: Context,
    input: Value,
    dim: Value,
    index: Given = None,
    *,
    indices: Given = None,
    sparse_grad: Given = None,
) -> Tensor:
    """Ports the selection of elements along an axis by an index tensor."""
    x = tensor(input)
    if isinstance(dim, Tensor):  # take_along_dim(input, indices, dim)
        dim, index = index if index is not None else Plain("None", None), dim
    if index is None:
        index = indices
    assert index is not None
    if known(dim) is None:
        raise Refused("take_along_dim of all elements", "Flatten the tensor and pass an axis.")
    places = context.convert(tensor(index), x.order)
    x = _like(context, x, places, known(dim) % x.ndim)
    text = call(context, "jnp.take_along_axis", x, places, axis=layouts.axis(x, dim))
    return elementwise(context, text, x)


@rule("scatter")
def scatter(
    context: Context,
    input: Value,
    dim: Value,
    index: Value,
    src: Given = None,
    *,
    value: Given = None,
    reduce: Given = None,
) -> Tensor:
    """Ports writing elements along an axis by an index tensor."""
    x, places = tensor(input), tensor(index)
    new = src if src is not None else value
    assert new is not None
    if reduce is not None and known(reduce) is not None:
        raise Refused("scatter with reduce", "Use scatter_add.")
    places = context.convert(places, x.order)
    number = known(dim) % x.ndim
    others = [i for i in range(x.ndim) if i != number and places.shape[i] != x.shape[i]]
    if others:
        raise Refused("scatter by an index smaller than the tensor", "Use an index as large.")
    if isinstance(new, Tensor) and new.ndim:
        new = _like(context, context.convert(new, x.order), places, -1)
    axis = layouts.axis(x, dim)
    text = call(context, "jnp.put_along_axis", x, places, new, axis=axis, inplace="False")
    return Tensor(text, x.shape, x.order, x.dtype)


@rule("scatter_add")
def scatter_add(context: Context, input: Value, dim: Value, index: Value, src: Value) -> Tensor:
    """Ports adding elements along an axis by an index tensor."""
    x, places, new = tensor(input), tensor(index), tensor(src)
    if x.ndim == 1:
        text = f"{bound(x, ATOM)}.at[{written(places)}].add({written(new)})"
        return Tensor(text, x.shape, x.order, x.dtype)
    x, places = context.natural(x), context.natural(places)
    new = _like(context, context.natural(new), places, -1)
    text = call(context, "tensors.scatter_add", x, dim, places, new)
    return Tensor(text, x.shape, x.order, x.dtype)


@rule("index_add")
def index_add(
    context: Context,
    input: Value,
    dim: Value,
    index: Value,
    source: Value,
    *,
    alpha: Given = None,
) -> Tensor:
    """Ports adding slices at indices of an axis."""
    return _written(context, tensor(input), known(dim), tensor(index), source, "add")


@rule("index_copy")
def index_copy(context: Context, input: Value, dim: Value, index: Value, source: Value) -> Tensor:
    """Ports writing slices at indices of an axis."""
    return _written(context, tensor(input), known(dim), tensor(index), source, "set")


@rule("index_fill")
def index_fill(context: Context, input: Value, dim: Value, index: Value, value: Value) -> Tensor:
    """Ports writing a number at indices of an axis."""
    return _written(context, tensor(input), known(dim), tensor(index), value, "set")


def _written(context: Context, x: Tensor, dim: int, index: Tensor, new: Value, how: str) -> Tensor:
    if isinstance(new, Tensor) and new.ndim == x.ndim:
        new = context.convert(new, x.order)
    pieces = [_Piece("slice", ":", 1, slice(None))] * x.ndim
    pieces[dim % x.ndim] = _Piece("array", written(index), 1, index)
    brackets = _brackets([pieces[place].text for place in x.order])
    text = f"{bound(x, ATOM)}.at{brackets}.{how}({written(new)})"
    return Tensor(text, x.shape, x.order, x.dtype)


@rule("take")
def take(context: Context, input: Value, index: Value) -> Tensor:
    """Ports the selection of elements by their index in PyTorch's flat order."""
    x = context.natural(tensor(input))
    return result(context, f"{bound(x, ATOM)}.ravel()[{written(index)}]", tensor(index).order)


@rule("searchsorted")
def searchsorted(
    context: Context, sorted_sequence: Value, input: Value, *, right: Given = None
) -> Tensor:
    """Ports the indices at which values fit into a sorted sequence."""
    side = '"right"' if known(right, False) else None
    text = call(context, "jnp.searchsorted", sorted_sequence, input, side=side)
    return result(context, text)
