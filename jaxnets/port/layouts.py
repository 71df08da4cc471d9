"""Functions for the order of an expression's axes, and for aligning several expressions."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from jaxnets.port.rules import Given, known, simple, written
from jaxnets.port.values import ATOM, Context, Plain, Refused, Tensor, Value, bound
from jaxnets.port.values import channels_last as channels_last_order
from jaxnets.port.values import natural as natural_order


def dims_of(x: Tensor, dims: Given) -> tuple[int, ...]:
    """Returns PyTorch's axes of an argument as nonnegative numbers; all axes for None."""
    found = known(dims)
    if found is None or found == ():
        return tuple(range(x.ndim))
    found = found if isinstance(found, tuple | list) else (found,)
    return tuple(dim % max(x.ndim, 1) for dim in found)


def axis(x: Tensor, dim: Value | int) -> str:
    """Returns the text of the port's axis for an axis of PyTorch; unchanged if they are equal."""
    if isinstance(dim, Plain) and x.natural:
        return written(dim)
    number = x.axis(dim if isinstance(dim, int) else known(dim))
    return "-1" if number == x.ndim - 1 and number > 0 and not x.natural else str(number)


def axes(x: Tensor, dims: Value | Sequence[int]) -> str:
    """Returns the text of the port's axes for axes of PyTorch: a number or a tuple."""
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
    """Returns the order of a tensor after the removal of axes of PyTorch."""
    gone = {dim % max(x.ndim, 1) for dim in dims}
    kept = [dim for dim in range(x.ndim) if dim not in gone]
    return tuple(kept.index(dim) for dim in x.order if dim not in gone)


def wide(x: Tensor) -> set[int]:
    """Returns PyTorch's axes whose size is not 1."""
    return {dim for dim, number in enumerate(x.shape) if number != 1}


def align(context: Context, *operands: Value) -> tuple[list[Value], Tensor]:
    """Aligns the operands of an elementwise operation, so that they broadcast as in PyTorch.

    Returns:
        The aligned operands, and the operand whose order is the order of the result.
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
    """Transposes and indexes an operand so that it broadcasts with an array of a given order.

    Axes of size 1 are dropped or added with ``None`` where that avoids a transposition.
    """
    shift = len(order) - x.ndim
    own = [dim + shift for dim in x.order]
    needed = {dim + shift for dim in wide(x)}
    # Arrays broadcast from the last axis on, so only axes of other sizes than 1 have to match.
    if all(a == b or a not in needed for a, b in zip(reversed(own), reversed(order), strict=False)):
        return x
    target = [dim for dim in order if dim in needed]
    if [dim for dim in own if dim in needed] != target:
        moved = tuple(sorted(x.order, key=lambda dim: order.index(dim + shift)))
        return place(context, context.convert(x, moved), order)
    if target == [order[-1]]:  # a vector broadcasts along the last axis
        return x.with_text(f"{bound(x, ATOM)}.ravel()")
    # An axis that an earlier rule appended is removed again instead of being indexed.
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
    """Converts tensors of one rank to a common order.

    The order is channels last if any image is channels last, else the most frequent order.
    """
    orders = [x.order for x in tensors]
    image = channels_last_order(len(orders[0]))
    best = image if image in orders and len(image) >= 4 else max(orders, key=orders.count)
    return [context.convert(x, best) for x in tensors]


def last(context: Context, x: Tensor, count: int = 1) -> Tensor:
    """Converts a tensor so that its last ``count`` axes are PyTorch's last axes."""
    end = natural_order(x.ndim)[x.ndim - count :]
    if x.order[x.ndim - count :] == end:
        return x
    return context.convert(x, (*(dim for dim in x.order if dim not in end), *end))


def permuted(x: Tensor, dims: Sequence[int]) -> Tensor:
    """Permutes PyTorch's axes: the array is unchanged, only the recorded order changes."""
    dims = [dim % x.ndim for dim in dims]
    return replace(
        x,
        shape=tuple(x.shape[dim] for dim in dims),
        order=tuple(dims.index(dim) for dim in x.order),
        symbols=tuple(x.symbols[dim] for dim in dims) if x.symbols else (),
        origin=None,
    )


def free_order(sequence: Sequence[int], rank: int) -> tuple[int, ...]:
    """Returns an order of all axes that contains a sequence of axes as a subsequence.

    The other axes have size 1, so their positions are free. PyTorch's order and channels last are
    preferred.
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
    """Returns an order of all axes; each axis missing in a sequence follows its predecessor."""
    order = list(sequence)
    for dim in range(rank):
        if dim not in sequence:
            order.insert(order.index(dim - 1) + 1 if dim else 0, dim)
    return tuple(order)


def size_text(x: Tensor, dim: int) -> str | None:
    """Returns the text of a size, or None if it cannot be written without a variable for x."""
    if x.symbols and x.symbols[dim] is not None:
        return x.symbols[dim]
    variable = x.text.removesuffix("[...]")  # an nnx.Variable has a shape too
    if simple(variable):
        return f"{variable}.shape[{x.axis(dim)}]"
    return str(x.shape[dim]) if dim else None


def size_texts(x: Tensor, dims: Iterable[int], taken: bool = False) -> list[str]:
    """Returns the texts of sizes for a reshape, at most one of which is -1.

    Args:
        x: the tensor.
        dims: PyTorch's axes.
        taken: whether the reshape already has a -1.

    Raises:
        Refused: if a second size would have to be -1.
    """
    texts = []
    for dim in dims:
        text = size_text(x, dim)
        if text is None:
            if taken:
                raise Refused(f"the sizes of {x.text} are needed", "Assign it to a variable first.")
            text, taken = "-1", True
        texts.append(text)
    return texts
