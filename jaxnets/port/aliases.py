"""Finds variables of a function that share memory with a variable that is changed in place."""

import ast
from typing import Any

#: Methods that return a view of the tensor.
_VIEWS = frozenset(
    (
        *(
            "view",
            "view_as",
            "transpose",
            "permute",
            "t",
            "unsqueeze",
            "squeeze",
            "narrow",
            "select",
        ),
        *("expand", "expand_as", "movedim", "swapaxes", "detach", "unflatten", "diagonal"),
    )
)


def read_later(function: Any, name: str, node: Any) -> str | None:
    """Returns another variable for the memory of a changed variable if it is read afterwards.

    Args:
        function: the node of the function.
        name: the name of the variable that is changed in place.
        node: the node that changes it.

    Returns:
        The name of the other variable, or None if there is none or it is assigned before it is
        read.
    """
    at = _line(node)
    for assignment in ast.walk(function):
        if not isinstance(assignment, ast.Assign) or len(assignment.targets) > 1:
            continue
        target, base = assignment.targets[0], _viewed(assignment.value)
        if not isinstance(target, ast.Name) or base is None or _line(assignment) >= at:
            continue
        pair = {target.id, base}
        if name not in pair or len(pair) == 1:
            continue
        (other,) = pair - {name}
        if _bound_between(function, pair, _line(assignment), at):
            continue
        if _is_read(function, other, at):
            return other
    return None


def _viewed(value: Any) -> str | None:
    """Returns the name of the variable of which an expression is a view, or None."""
    if isinstance(value, ast.Name):
        return value.id
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        return _viewed(value.func.value) if value.func.attr in _VIEWS else None
    if isinstance(value, ast.Subscript) and _is_basic(value.slice):
        return _viewed(value.value)
    return None


def _is_basic(index: Any) -> bool:
    """Whether an index consists of numbers, slices and None, so that indexing returns a view."""
    if isinstance(index, ast.Tuple):
        return all(map(_is_basic, index.elts))
    if isinstance(index, ast.UnaryOp):
        return _is_basic(index.operand)
    return isinstance(index, ast.Slice) or (
        isinstance(index, ast.Constant) and not isinstance(index.value, str)
    )


def _bound_between(function: Any, names: set[str], start: int, end: int) -> bool:
    return any(
        isinstance(one, ast.Name)
        and one.id in names
        and isinstance(one.ctx, ast.Store)
        and start < _line(one) < end
        for one in ast.walk(function)
    )


def _is_read(function: Any, name: str, after: int) -> bool:
    """Whether the first use of a variable after a line reads it."""
    found = [one for one in ast.walk(function) if isinstance(one, ast.Name) and one.id == name]
    later = [(_line(one), isinstance(one.ctx, ast.Store)) for one in found if _line(one) > after]
    return bool(later) and not min(later)[1]


def _line(node: Any) -> int:
    """Returns the first line of the statement that contains a node."""
    while not isinstance(node, ast.stmt):
        node = node.parent
    return int(node.lineno)
