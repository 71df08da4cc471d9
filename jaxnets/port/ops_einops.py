"""Rules for einops, whose patterns are rewritten for the order of the port's axes."""

import re

from jaxnets.port.layouts import permuted
from jaxnets.port.rules import RULES, call, known, result, tensor, word
from jaxnets.port.values import Context, Items, Plain, Refused, Rule, Value, natural

#: Operations whose result can have any order of axes, as the pattern determines it.
FREE = ("einops.rearrange", "einops.reduce", "einops.repeat", "einops.einsum")


def arranged(
    pattern: str, order: tuple[int, ...], wanted: tuple[int, ...] | None, rank: int
) -> tuple[str, tuple[int, ...]]:
    """Rewrites a pattern for the order of the port's axes.

    Args:
        pattern: the user's pattern, for PyTorch's order of axes.
        order: the order of the operand.
        wanted: the preferred order of the result; None for PyTorch's order.
        rank: the number of axes of the result.

    Returns:
        The new pattern, and the order of the result.
    """
    target = natural(rank) if wanted is None or len(wanted) != rank else wanted
    if order == natural(len(order)) and target == natural(rank):
        return pattern, target
    left, right = (_axes(side) for side in _expanded(pattern, len(order)))
    ours = [" ".join(left[dim] for dim in order), " ".join(right[dim] for dim in target)]
    return " -> ".join(ours), target


def _axes(side: str) -> list[str]:
    """Returns the axes of one side of a pattern: "b (h w) c" has three."""
    return re.findall(r"\([^)]*\)|[^\s()]+", side.replace("\N{HORIZONTAL ELLIPSIS}", "..."))


def _expanded(pattern: str, rank: int) -> list[str]:
    """Returns both sides of a pattern with names for the axes of "..."."""
    sides = pattern.replace("\N{HORIZONTAL ELLIPSIS}", "...").split("->")
    count = rank - len(_axes(sides[0])) + 1
    free = [name for name in "xyzuvwijklmn" if not re.search(rf"\b{name}\b", pattern)]
    return [side.replace("...", f" {' '.join(free[:count])} ") for side in sides]


def _moves(pattern: str) -> list[int] | None:
    """Returns the permutation of a pattern that only permutes axes, or None."""
    left, right = (_axes(side) for side in pattern.split("->"))
    names = all(name.isidentifier() for name in (*left, *right))
    if not names or sorted(left) != sorted(right):
        return None
    return [left.index(name) for name in right]


def _rearranging(name: str) -> Rule:
    """Returns the rule of ``einops.rearrange``, ``repeat`` or ``reduce``."""

    def apply(args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
        given = dict(zip(("tensor", "pattern", "reduction"), args, strict=False)) | kwargs
        x, pattern = given.pop("tensor"), given.pop("pattern")
        function = f"einops.{name}"
        if isinstance(x, Items):
            parts = Items(tuple(context.natural(tensor(one)) for one in x.items), None, list)
            return result(context, call(context, function, parts, pattern, **given))
        x, pattern_text = tensor(x), known(pattern)
        moves = _moves(pattern_text) if name == "rearrange" else None
        if moves is not None:
            return permuted(x, moves)
        ours, order = arranged(pattern_text, x.order, context.order, context.result.ndim)
        text = _pattern(pattern, ours)
        if name == "reduce":
            return result(
                context, call(context, function, x, text, given.pop("reduction"), **given), order
            )
        return result(context, call(context, function, x, text, **given), order)

    return apply


def _pattern(given: Value, ours: str) -> Value | str:
    """Returns the text of a pattern: the user's variable if its value is the same."""
    return given if known(given) == ours and not _is_constant(given) else word(ours)


def _is_constant(value: Value) -> bool:
    return isinstance(value, Plain) and value.constant


def _einsum(args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
    """Ports ``einops.einsum``, whose pattern is the last argument."""
    *operands, pattern = [*args, *kwargs.values()]
    tensors, pattern_text = [tensor(x) for x in operands], known(pattern)
    if "..." in pattern_text or "\N{HORIZONTAL ELLIPSIS}" in pattern_text:
        tensors = [context.natural(x) for x in tensors]
    left, _, right = pattern_text.partition("->")
    rank = context.result.ndim
    order = context.order if "..." not in pattern_text and context.order else natural(rank)
    if order != natural(rank) or not all(x.natural for x in tensors):
        terms = zip(map(_axes, left.split(",")), tensors, strict=True)
        named = ", ".join(" ".join(term[dim] for dim in x.order) for term, x in terms)
        pattern_text = f"{named} -> {' '.join(_axes(right)[dim] for dim in order)}"
    return result(
        context, call(context, "einops.einsum", *tensors, _pattern(pattern, pattern_text)), order
    )


def _pack(args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
    tensors, pattern = [*args, *kwargs.values()]
    if not isinstance(tensors, Items):
        raise Refused("the list of tensors is not known", "Pass the tensors as a list.")
    parts = Items(tuple(context.natural(tensor(one)) for one in tensors.items), None, list)
    text = call(context, "einops.pack", parts, pattern)
    packed = result(context, f"{text}[0]", value=context.result[0])
    return Items((packed, Plain(f"{text}[1]", context.result[1])), text)


def _unpack(args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
    x, *rest = [*args, *kwargs.values()]
    text = call(context, "einops.unpack", context.natural(tensor(x)), *rest)
    parts = enumerate(context.result)
    return Items(tuple(result(context, f"{text}[{i}]", value=one) for i, one in parts), text, list)


def _parse_shape(args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
    x, pattern = [*args, *kwargs.values()]
    x, pattern_text = tensor(x), known(pattern)
    if not x.natural:
        axes = _axes(_expanded(pattern_text, x.ndim)[0])
        pattern_text = " ".join(axes[dim] for dim in x.order)
    text = call(context, "einops.parse_shape", x, _pattern(pattern, pattern_text))
    return Plain(text, context.result)


RULES |= {f"einops.{name}": _rearranging(name) for name in ("rearrange", "repeat", "reduce")}
RULES |= {
    "einops.einsum": _einsum,
    "einops.pack": _pack,
    "einops.unpack": _unpack,
    "einops.parse_shape": _parse_shape,
}
