"""The order of an expression's axes, and how to bring several expressions to one order."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from jaxnets.port.rules import Given, known, simple, written
from jaxnets.port.values import ATOM, Context, Plain, Refused, Tensor, Value, bound
from jaxnets.port.values import channels_last as channels_last_order
from jaxnets.port.values import natural as natural_order


def dims_of(x: Tensor, dims: Given) -> tuple[int, ...]:
    """PyTorch's axes that an argument names, none of them negative; all for None."""
    found = known(dims)
    if found is None or found == ():
        return tuple(range(x.ndim))
    found = found if isinstance(found, tuple | list) else (found,)
    return tuple(dim % max(x.ndim, 1) for dim in found)


def axis(x: Tensor, dim: Value | int) -> str:
    """The text of our axis for PyTorch's: as it was written where both are the same."""
    if isinstance(dim, Plain) and x.natural:
        return written(dim)
    number = x.axis(dim if isinstance(dim, int) else known(dim))
    return "-1" if number == x.ndim - 1 and number > 0 and not x.natural else str(number)


def axes(x: Tensor, dims: Value | Sequence[int]) -> str:
    """The text of our axes for PyTorch's: a number, or a tuple of several."""
    if not isinstance(dims, Sequence):
        number = known(dims)
        if not isinstance(number, tuple | list):
            return axis(x, dims)
        if x.natural:
            return f"({', '.join(map(str, number))}{',' if len(number) == 1 else ''})"
        dims = number
    if len(dims) == 1:
        return axis(x, dims[0])
    return f"({', '.join(str(number) for number in sorted(x.axis(dim) for dim in dims))})"


def without(x: Tensor, dims: Iterable[int]) -> tuple[int, ...]:
    """The order of a tensor from which axes of PyTorch's are removed."""
    gone = {dim % max(x.ndim, 1) for dim in dims}
    kept = [dim for dim in range(x.ndim) if dim not in gone]
    return tuple(kept.index(dim) for dim in x.order if dim not in gone)


def wide(x: Tensor) -> set[int]:
    """PyTorch's axes of more than one element."""
    return {dim for dim, number in enumerate(x.shape) if number != 1}


def align(context: Context, *operands: Value) -> tuple[list[Value], Tensor]:
    """Operands of an element-wise operation, so that they broadcast as PyTorch's do.

    Returns:
        The operands, and one that leads: its order is the result's, if its rank is.
    """
    tensors = [x for x in operands if isinstance(x, Tensor)]
    rank = max(x.ndim for x in tensors)

    def leading(x: Tensor) -> tuple[bool, int, bool]:
        image = x.ndim >= 4 and x.order == channels_last_order(x.ndim)
        return x.ndim == rank, len(wide(x)), image

    leader = max(tensors, key=leading)
    placed = [place(context, x, leader.order) if isinstance(x, Tensor) else x for x in operands]
    return placed, leader


def place(context: Context, x: Tensor, order: tuple[int, ...]) -> Tensor:
    """An operand that broadcasts with an array of the given order."""
    shift = len(order) - x.ndim
    own = [dim + shift for dim in x.order]
    needed = {dim + shift for dim in wide(x)}
    if all(a == b or a not in needed for a, b in zip(reversed(own), reversed(order), strict=False)):
        return x
    target = [dim for dim in order if dim in needed]
    if [dim for dim in own if dim in needed] != target:
        moved = tuple(sorted(x.order, key=lambda dim: order.index(dim + shift)))
        return place(context, context.convert(x, moved), order)
    if target == [order[-1]]:
        return x.with_text(f"{bound(x, ATOM)}.ravel()")
    while x.text.endswith("[..., None]") and own[-1] not in needed:
        x, own = x.with_text(x.text.removesuffix("[..., None]")), own[:-1]
    index = []
    for dim in order[order.index(target[0]) :]:
        if dim not in needed:
            index.append("None")
            continue
        while own[0] != dim:
            index.append("0")
            own.pop(0)
        index.append(":")
        own.pop(0)
    return x.with_text(f"{bound(x, ATOM)}[{', '.join(index + ['0'] * len(own))}]")


def same_order(context: Context, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of one rank in the order of most of them; of images in channels last if any is."""
    orders = [x.order for x in tensors]
    image = channels_last_order(len(orders[0]))
    best = image if image in orders and len(image) >= 4 else max(orders, key=orders.count)
    return [context.convert(x, best) for x in tensors]


def last(context: Context, x: Tensor, count: int = 1) -> Tensor:
    """A tensor whose last axes are PyTorch's last ones, in PyTorch's order."""
    end = natural_order(x.ndim)[x.ndim - count :]
    if x.order[x.ndim - count :] == end:
        return x
    return context.convert(x, (*(dim for dim in x.order if dim not in end), *end))


def permuted(x: Tensor, dims: Sequence[int]) -> Tensor:
    """PyTorch's ``permute``: the same array, of which other axes are said."""
    dims = [dim % x.ndim for dim in dims]
    return replace(
        x,
        shape=tuple(x.shape[dim] for dim in dims),
        order=tuple(dims.index(dim) for dim in x.order),
        symbols=tuple(x.symbols[dim] for dim in dims) if x.symbols else (),
        origin=None,
    )


def free_order(sequence: Sequence[int], rank: int) -> tuple[int, ...]:
    """An order of all axes in which those of a sequence follow each other as they do there.

    The other axes have one element each, so they may be anywhere.
    """
    image = channels_last_order(rank)
    candidates = [natural_order(rank), image] if rank >= 3 else [natural_order(rank)]
    if rank >= 4 and set(sequence) <= {0, 1}:
        candidates.reverse()
    for order in candidates:
        if [dim for dim in order if dim in sequence] == list(sequence):
            return order
    return completed(sequence, rank)


def completed(sequence: Sequence[int], rank: int) -> tuple[int, ...]:
    """An order of all axes: those that a sequence lacks come after the ones before them."""
    order = list(sequence)
    for dim in range(rank):
        if dim not in sequence:
            order.insert(order.index(dim - 1) + 1 if dim else 0, dim)
    return tuple(order)


def size_text(x: Tensor, dim: int) -> str | None:
    """The text of a size; None where only a variable for x would tell."""
    if x.symbols and x.symbols[dim] is not None:
        return x.symbols[dim]
    variable = x.text.removesuffix("[...]")  # which has a shape too
    if simple(variable):
        return f"{variable}.shape[{x.axis(dim)}]"
    return str(x.shape[dim]) if dim else None


def size_texts(x: Tensor, dims: Iterable[int], taken: bool = False) -> list[str]:
    """The texts of sizes for a reshape, in which one may be -1.

    Args:
        x: the tensor.
        dims: PyTorch's axes.
        taken: whether the reshape has a -1 already.
    """
    texts = []
    for dim in dims:
        text = size_text(x, dim)
        if text is None:
            if taken:
                raise Refused(
                    f"the sizes of {x.text} are needed", "Give it a name on a line of its own."
                )
            text, taken = "-1", True
        texts.append(text)
    return texts
