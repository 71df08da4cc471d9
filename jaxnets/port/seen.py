"""Functions of the observations at a node of the source: operands, kinds of calls, texts."""

import ast
import enum
import functools
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from jaxnets.port.names import is_tensor_type
from jaxnets.port.observe import Call, Facts
from jaxnets.port.sources import is_users, number_of, plain_function
from jaxnets.port.values import ATOM, Items, Plain, Tensor, Value, binding_of, bound, text_of


def class_ran(node: ast.ClassDef, facts: Facts) -> bool:
    """Whether a class has no methods or any of its methods ran."""
    methods = [one for one in node.body if isinstance(one, ast.FunctionDef)]
    return not methods or any(number_of(one) in facts.entered for one in methods)


def tensors_in(values: Iterator[Value]) -> Iterator[Tensor]:
    """Yields the tensors among values, including those in lists."""
    for value in values:
        if isinstance(value, Items):
            yield from tensors_in(iter(value.items))
        elif isinstance(value, Tensor):
            yield value


def ones(call: Call) -> int:
    """Counts the axes of size 1 of all tensor operands."""
    values = iter((*call.args, *call.kwargs.values()))
    return sum(t.shape.count(1) for t in tensors_in(values))


def orders(call: Call) -> Any:
    """Returns the orders of axes of all tensor operands."""
    values = iter((*call.args, *call.kwargs.values()))
    return tuple(t.order for t in tensors_in(values))


def kind_of(call: Call) -> str:
    """Returns the kind of the called object.

    The kinds are "module", "class", "rule" (a library function), "user" (a function of the user)
    and "other".
    """
    import torch

    target = call.function
    while isinstance(target, functools.partial):
        target = target.func
    owner = getattr(target, "__self__", None)
    if isinstance(target, torch.nn.Module):
        return "module"
    if isinstance(owner, torch.nn.Module) and getattr(target, "__name__", "") == "forward":
        return "module"
    if isinstance(target, type) and not is_tensor_type(target):
        return "class" if issubclass(target, torch.nn.Module) else "other"
    if call.name is not None:
        return "rule"
    plain = plain_function(target)
    return "user" if plain is not None and is_users(plain) else "other"


def plain_class(value: Any) -> Any:
    """Returns the function that a possibly nested ``functools.partial`` calls."""
    while isinstance(value, functools.partial):
        value = value.func
    return value


def has_tensor(value: Value) -> bool:
    """Whether a value is a tensor or contains one."""
    if isinstance(value, Items):
        return any(map(has_tensor, value.items))
    return isinstance(value, Tensor)


def changes(call: Call) -> bool:
    """Whether a call changes its first operand in place."""
    name = str(call.name)
    if name.endswith("_") and not name.endswith("__"):
        return True
    inplace = call.kwargs.get("inplace")
    return isinstance(inplace, Plain) and inplace.value is True


def is_idle_dropout(call: Call) -> bool:
    """Whether a call is a dropout function with probability 0."""
    p = call.kwargs.get("p", call.args[1] if len(call.args) > 1 else None)
    return str(call.name).startswith("F.dropout") and isinstance(p, Plain) and p.value == 0


def is_own_gradient(value: Any) -> bool:
    """Whether a function is ``apply`` of a user-defined torch.autograd.Function."""
    import torch

    owner = getattr(value, "__self__", None)
    return isinstance(owner, type) and issubclass(owner, torch.autograd.Function)


def are_modules(owners: list[Any]) -> bool:
    """Whether all objects are modules, or ``super()`` of a module."""
    import torch

    return all(isinstance(owner, torch.nn.Module | super) for owner in owners)


def holds(owner: Any, name: str) -> bool:
    """Whether a module has a parameter or a buffer with a name."""
    import torch

    if not isinstance(owner, torch.nn.Module):
        return False
    held = owner._parameters.get(name, owner._buffers.get(name))
    return held is not None


_COMPARED: dict[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}


def constant(node: Any, objects: Callable[[Any], list[Any]]) -> tuple[bool, Any]:
    """Evaluates an expression if its value is the same for all objects.

    Args:
        node: the expression.
        objects: returns the values of an expression such as ``self.a`` for all objects.

    Returns:
        Whether the value is the same for all objects, and the value.
    """
    if isinstance(node, ast.Constant):
        return True, node.value
    if isinstance(node, ast.Tuple | ast.List):
        parts = [constant(one, objects) for one in node.elts]
        return all(known for known, _ in parts), tuple(value for _, value in parts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        known, value = constant(node.operand, objects)
        return known, not value
    if isinstance(node, ast.BoolOp):
        parts = [constant(one, objects) for one in node.values]
        decisive = isinstance(node.op, ast.Or)
        if any(known and bool(value) == decisive for known, value in parts):
            return True, decisive
        return all(known for known, _ in parts), not decisive
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return _compared(node, objects)
    values = objects(node)
    plain = all(isinstance(one, int | float | str | bool | None | enum.Enum) for one in values)
    same = len({(type(one), one) for one in values}) == 1 if plain else False
    return same, values[0] if same else None


def _compared(node: ast.Compare, objects: Callable[[Any], list[Any]]) -> tuple[bool, Any]:
    (kind,), (other,) = node.ops, node.comparators
    if isinstance(kind, ast.Is | ast.IsNot) and getattr(other, "value", 0) is None:
        missing = {one is None for one in objects(node.left)}
        return len(missing) == 1, missing == {isinstance(kind, ast.Is)}
    (known, left), (also, right) = constant(node.left, objects), constant(other, objects)
    compare = _COMPARED.get(type(kind))
    if not known or not also or compare is None:
        return False, None
    try:
        return True, compare(left, right)
    except TypeError:
        return False, None


def with_text_of(fact: Value, written: Value) -> Value:
    """Returns an observed value with the source text of another value."""
    text = text_of(written)
    if isinstance(fact, Tensor):
        return replace(fact, text=text, binding=binding_of(written))
    if isinstance(fact, Items):
        if isinstance(written, Items) and len(written.items) == len(fact.items):
            items = tuple(map(with_text_of, fact.items, written.items))
            return Items(items, written.text, fact.kind)
        base = bound(written, ATOM)
        items = tuple(
            with_text_of(item, Plain(f"{base}[{i}]", None)) for i, item in enumerate(fact.items)
        )
        return Items(items, text, fact.kind)
    if isinstance(written, Items):
        return Plain(text, fact.value)
    constant = isinstance(written, Plain) and written.constant
    return Plain(text, fact.value, binding_of(written), constant=constant)


def joined(items: tuple[Value, ...], kind: type) -> Value:
    """Returns a sequence of items; consecutive sizes become a slice such as ``x.shape[1:3]``."""
    found = [re.fullmatch(r"(.+)\.shape\[(\d+)\]", text_of(item)) for item in items]
    matches = [m for m in found if m]
    if items and len(matches) == len(items) and len({m.group(1) for m in matches}) == 1:
        places = [int(m.group(2)) for m in matches]
        if places == list(range(places[0], places[0] + len(places))):
            base = matches[0].group(1)
            return Items(items, f"{base}.shape[{places[0]}:{places[-1] + 1}]", kind)
    return Items(items, None, kind)
