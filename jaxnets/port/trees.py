"""Functions of Python's syntax trees."""

import ast
import sys
from collections.abc import Iterator
from typing import Any

from jaxnets.port.texts import LIBRARIES, MARK
from jaxnets.port.values import ATOM, Binding

#: The precedence of nodes and operators; other nodes are atoms.
_BINDINGS: dict[type, Binding] = {
    ast.Tuple: Binding.TUPLE,
    ast.Lambda: Binding.TERNARY,
    ast.IfExp: Binding.TERNARY,
    ast.NamedExpr: Binding.TUPLE,
    ast.Yield: Binding.TUPLE,
    ast.Compare: Binding.COMPARISON,
    ast.Or: Binding.OR,
    ast.And: Binding.AND,
    ast.Not: Binding.NOT,
    ast.BitOr: Binding.BIT_OR,
    ast.BitXor: Binding.BIT_XOR,
    ast.BitAnd: Binding.BIT_AND,
    ast.LShift: Binding.SHIFT,
    ast.RShift: Binding.SHIFT,
    ast.Add: Binding.SUM,
    ast.Sub: Binding.SUM,
    ast.Mult: Binding.PRODUCT,
    ast.Div: Binding.PRODUCT,
    ast.FloorDiv: Binding.PRODUCT,
    ast.Mod: Binding.PRODUCT,
    ast.MatMult: Binding.PRODUCT,
    ast.USub: Binding.UNARY,
    ast.UAdd: Binding.UNARY,
    ast.Invert: Binding.UNARY,
    ast.Pow: Binding.POWER,
}


def own_binding(node: Any) -> Binding:
    """Returns the precedence of a node."""
    kind = node.op if isinstance(node, ast.BinOp | ast.UnaryOp | ast.BoolOp) else node
    return _BINDINGS.get(type(kind), ATOM)


def is_super(node: Any) -> bool:
    """Whether a node is ``super(…)``."""
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
    )


def is_test(node: Any) -> bool:
    """Whether only the truth value of an expression is used."""
    above = node.parent
    if isinstance(above, ast.If | ast.IfExp | ast.While | ast.Assert):
        return node is above.test
    negated = isinstance(above, ast.UnaryOp) and isinstance(above.op, ast.Not)
    return negated or (isinstance(above, ast.BoolOp) and is_test(above))


def literal_slice(node: Any) -> Any:
    """Returns the slice of a node with literal bounds, or None for any other node."""
    if not isinstance(node, ast.Slice):
        return None
    try:
        parts = [p and ast.literal_eval(bare(p)) for p in (node.lower, node.upper, node.step)]
    except ValueError:
        return None
    return slice(*parts)


def bare(node: Any) -> Any:
    """Returns a copy of an expression without node numbers and positions."""
    return ast.fix_missing_locations(ast.parse(ast.unparse(node), mode="eval").body)


def children_of(node: Any) -> Iterator[Any]:
    """Yields the closest descendants of a node that have a position in the text."""
    for child in ast.iter_child_nodes(node):
        if hasattr(child, "lineno"):
            if isinstance(child, ast.keyword):
                yield child.value
            else:
                yield child
        else:
            yield from children_of(child)


def annotated(node: Any) -> list[Any]:
    """Returns the parameters that have annotations or the name of a library."""
    args = node.args
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    return [a for a in every if a is not None and (a.annotation is not None or a.arg in LIBRARIES)]


def is_typed(node: Any) -> bool:
    """Whether a function has annotations, so that type checkers check it."""
    return node.returns is not None or any(a.annotation is not None for a in annotated(node))


def defaults(node: Any) -> list[Any]:
    """Returns the default values of a function."""
    return [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]


def attribute_variables(node: Any) -> dict[str, str]:
    """Returns the variables of a method that are assigned once, from ``self.attribute``."""
    stored = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and _is_stored(n)]
    found = {}
    for one in ast.walk(node):
        if not isinstance(one, ast.Assign) or not isinstance(one.value, ast.Attribute):
            continue
        name = getattr(one.targets[0], "id", "")
        if getattr(one.value.value, "id", "") == "self" and stored.count(name) == 1:
            found[name] = f"self.{one.value.attr}"
    return found


def _is_stored(node: ast.Name) -> bool:
    return isinstance(node.ctx, ast.Store)


def bound_names(node: Any) -> set[str]:
    """Returns the names that a function binds, including its parameters."""
    args = node.args
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    names = {a.arg for a in every if a is not None}
    for one in ast.walk(node):
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
            names.add(one.id)
        elif isinstance(one, ast.FunctionDef | ast.ClassDef) and one is not node:
            names.add(one.name)
    return names


def headed(node: ast.If) -> ast.If:
    """Returns an ``if`` statement without its ``else``."""
    made = ast.If(node.test, node.body, [])
    made.number, made.parent = node.number, node.parent  # type: ignore[attr-defined]
    return made


def is_docstring(node: Any) -> bool:
    """Whether a statement is only a constant, such as a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def is_repeated(node: Any) -> bool:
    """Whether an expression is in a lambda or a comprehension of its statement."""
    inner = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    while not isinstance(node, ast.stmt):
        if isinstance(node, inner):
            return True
        node = node.parent
    return False


def negated(test: str) -> str:
    """Returns the text of the negation of a test."""
    node = ast.parse(test.replace(MARK, "marked_"), mode="eval").body
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        made: ast.expr = node.operand
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in _NEGATIONS and len(node.ops) == 1:
        made = ast.Compare(node.left, [_NEGATIONS[type(node.ops[0])]()], node.comparators)
    else:
        made = ast.UnaryOp(ast.Not(), node)
    return ast.unparse(made).replace("marked_", MARK)


_NEGATIONS: dict[type, type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


def imported(function: Any, name: str, package: str | None) -> tuple[bool, Any]:
    """Returns whether a function imports a name locally, and the imported object."""
    for node in ast.walk(function) if function is not None else ():
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for alias in node.names:
            if (alias.asname or alias.name.partition(".")[0]) != name:
                continue
            place = origin(node, package) or alias.name
            if isinstance(node, ast.Import) and not alias.asname:
                place = name
            module = sys.modules.get(place)
            if isinstance(node, ast.Import):
                return module is not None, module
            value = getattr(module, alias.name, sys.modules.get(f"{place}.{alias.name}"))
            return value is not None, value
    return False, None


def origin(node: Any, package: str | None) -> str:
    """Returns the full name of the module of a ``from`` import; empty for ``import a``."""
    if not isinstance(node, ast.ImportFrom):
        return ""
    parts = (package or "").split(".")
    base = parts[: len(parts) - node.level + 1] if node.level else []
    return ".".join([*base, *([node.module] if node.module else [])])
