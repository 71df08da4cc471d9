"""Compiles a network's functions again so that each expression reports its value.

An ``Observer`` provides the report functions.
"""

import ast
import types
from typing import Any

from jaxnets.port.names import OPERATORS
from jaxnets.port.sources import FunctionNode, enclosing, number_of

#: Functions that depend on the frame of the caller, so their calls cannot be replaced.
_UNTOUCHED = {"super", "locals", "globals", "vars", "eval", "exec", "dir"}


def compiled(node: FunctionNode, code: types.CodeType) -> types.CodeType | None:
    """Compiles a function with reports; returns None if that is not possible.

    A code object can replace another only if both have the same free variables. The function is
    therefore compiled inside a wrapper function that defines these variables, and inside a class
    of the same name for ``super()`` and private names.
    """
    wrapper = ast.parse("def wrapper(): pass")
    outer = wrapper.body[0]
    assert isinstance(outer, ast.FunctionDef)
    free = [
        n for n in code.co_freevars if n != "__class__" or enclosing(node, ast.ClassDef) is None
    ]
    outer.body = [ast.parse(f"{name} = None").body[0] for name in free] or [ast.Pass()]
    cls = enclosing(node, ast.ClassDef)
    changed = instrumented(node, cls.name if cls else "")
    if isinstance(changed, ast.Lambda):
        inner: ast.stmt = ast.Expr(changed)
    else:
        changed.decorator_list = []
        inner = changed
    if cls is not None:
        inner = ast.ClassDef(cls.name, [], [], [inner], [])
    own = inner.name if isinstance(inner, ast.ClassDef | ast.FunctionDef) else None
    if own is not None and own not in free:
        outer.body.insert(0, ast.Global([own]))  # the function's own name stays a global
    outer.body.append(inner)
    ast.fix_missing_locations(wrapper)
    found = _inner(compile(wrapper, code.co_filename, "exec"), code.co_name, node)
    if found is None or found.co_freevars != code.co_freevars:
        return None
    return found.replace(co_qualname=code.co_qualname)


def instrumented(node: ast.AST, cls: str = "") -> Any:
    """Copies a syntax tree, with calls of the report functions for expressions.

    Args:
        node: the tree.
        cls: the name of the class around it, whose private names are mangled.
    """
    return _Instrumenter(cls).visit(node)


def _inner(code: types.CodeType, name: str, node: Any) -> types.CodeType | None:
    """Finds the code object of a function nested in a code object."""
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            if constant.co_name == name and constant.co_firstlineno == node.lineno:
                return constant
            if (found := _inner(constant, name, node)) is not None:
                return found
    return None


#: Expressions without a special case whose value is reported.
_REPORTED = (
    *(ast.Tuple, ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.GeneratorExp),
    *(ast.IfExp, ast.BoolOp, ast.Compare, ast.Lambda),
)


class _Instrumenter:
    """Copies a syntax tree in which expressions become calls of the report functions."""

    def __init__(self, cls: str) -> None:
        self._class = cls.lstrip("_")

    def visit(self, node: Any) -> Any:
        if isinstance(node, list):
            return [self.visit(one) for one in node]
        if not isinstance(node, ast.AST):
            return node
        special = getattr(self, f"_{type(node).__name__.lower()}", None)
        made = special(node) if special else self._plain(node)
        if isinstance(made, ast.expr | ast.stmt) and isinstance(node, ast.expr | ast.stmt):
            ast.copy_location(made, node)
        return made

    def _copy(self, node: ast.AST, **changes: Any) -> Any:
        """Copies a node with changed children, without a report of the node."""
        fields = {
            name: changes[name] if name in changes else self.visit(value)
            for name, value in ast.iter_fields(node)
        }
        made = type(node)(**fields)
        if isinstance(node, ast.expr | ast.stmt | ast.excepthandler | ast.arg | ast.keyword):
            ast.copy_location(made, node)
        if isinstance(node, ast.alias | ast.pattern):
            ast.copy_location(made, node)
        return made

    def _plain(self, node: Any) -> Any:
        made = self._copy(node)
        read = isinstance(getattr(node, "ctx", ast.Load()), ast.Load)
        return self._report("value", node, made) if isinstance(node, _REPORTED) and read else made

    def _report(self, what: str, node: Any, *args: Any, keywords: Any = ()) -> ast.Call:
        name = ast.Name(f"__port_{what}__", ast.Load())
        made = ast.Call(name, [ast.Constant(number_of(node)), *args], list(keywords))
        if isinstance(node, ast.expr | ast.stmt):
            for part in (name, made, made.args[0]):
                ast.copy_location(part, node)
        return made

    def _name(self, node: ast.Name) -> Any:
        if not isinstance(node.ctx, ast.Load) or node.id in _UNTOUCHED:
            return self._copy(node)
        return self._report("value", node, self._copy(node))

    def _attribute(self, node: ast.Attribute) -> Any:
        if not isinstance(node.ctx, ast.Load):
            return self._copy(node)
        name = node.attr
        if name.startswith("__") and not name.endswith("__") and self._class:
            name = f"_{self._class}{name}"
        return self._report("attribute", node, self.visit(node.value), ast.Constant(name))

    def _call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Name) and node.func.id in _UNTOUCHED:
            return self._copy(node, func=ast.copy_location(self._copy(node.func), node.func))
        args, keywords = self.visit(node.args), self.visit(node.keywords)
        return self._report("call", node, self.visit(node.func), *args, keywords=keywords)

    def _binop(self, node: ast.BinOp) -> Any:
        name = ast.Constant(OPERATORS[type(node.op).__name__])
        return self._report("operator", node, name, self.visit(node.left), self.visit(node.right))

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        if isinstance(node.op, ast.Not) or isinstance(node.operand, ast.Constant):
            return self._copy(node)
        name = ast.Constant(OPERATORS[type(node.op).__name__])
        return self._report("operator", node, name, self.visit(node.operand))

    def _compare(self, node: ast.Compare) -> Any:
        name = OPERATORS.get(type(node.ops[0]).__name__)
        if len(node.ops) > 1 or name is None:
            return self._plain(node)
        left, right = self.visit(node.left), self.visit(node.comparators[0])
        return self._report("operator", node, ast.Constant(name), left, right)

    def _subscript(self, node: ast.Subscript) -> Any:
        if not isinstance(node.ctx, ast.Load):
            return self._copy(node)
        return self._report("item", node, self.visit(node.value), self._index(node.slice))

    def _index(self, node: ast.expr) -> Any:
        """Returns an index as an expression: slices become calls of ``slice``."""
        if isinstance(node, ast.Slice):
            parts = [
                ast.Constant(None) if part is None else self.visit(part)
                for part in (node.lower, node.upper, node.step)
            ]
            made = ast.Call(ast.Name("slice", ast.Load()), parts, [])
            return ast.copy_location(made, node)
        if isinstance(node, ast.Tuple):
            return ast.copy_location(
                ast.Tuple([self._index(one) for one in node.elts], ast.Load()), node
            )
        return self.visit(node)

    def _assign(self, node: ast.Assign) -> Any:
        target = node.targets[0]
        if len(node.targets) == 1 and isinstance(target, ast.Name):
            return self._copy(node, value=self._report("assign", node, self.visit(node.value)))
        if len(node.targets) > 1 or not isinstance(target, ast.Subscript):
            return self._copy(node)
        base, index = self.visit(target.value), self._index(target.slice)
        made = self._report("set", node, base, index, self.visit(node.value))
        return ast.Expr(made)

    def _augassign(self, node: ast.AugAssign) -> Any:
        name = ast.Constant(OPERATORS[type(node.op).__name__])
        value = self.visit(node.value)
        if isinstance(node.target, ast.Subscript):
            base, index = self.visit(node.target.value), self._index(node.target.slice)
            return ast.Expr(self._report("augment_item", node, name, base, index, value))
        read: Any
        if isinstance(node.target, ast.Name):
            read = ast.copy_location(ast.Name(node.target.id, ast.Load()), node.target)
        else:
            owner = self.visit(node.target.value)
            read = ast.Attribute(owner, node.target.attr, ast.Load())
            ast.copy_location(read, node.target)
        made = self._report("augment", node, name, read, value)
        return ast.Assign([self._copy(node.target)], made)

    def _annassign(self, node: ast.AnnAssign) -> Any:
        return self._copy(node, annotation=ast.copy_location(ast.Constant(None), node))

    def _joinedstr(self, node: ast.JoinedStr) -> Any:
        return self._copy(node)

    def _functiondef(self, node: ast.FunctionDef) -> Any:
        made = self._copy(node, returns=None, args=self._arguments(node.args))
        entered = ast.Name("__port_enter__", ast.Load())
        number = ast.Constant(number_of(node))
        enter = ast.Expr(ast.Call(entered, [number], []))
        ast.copy_location(enter, node.body[0])
        made.body.insert(0, ast.fix_missing_locations(enter))
        return made

    _asyncfunctiondef = _functiondef

    def _lambda(self, node: ast.Lambda) -> Any:
        return self._copy(node, args=self._arguments(node.args))

    def _arguments(self, node: ast.arguments) -> Any:
        def bare(arg: ast.arg | None) -> Any:
            return None if arg is None else ast.copy_location(ast.arg(arg.arg), arg)

        return ast.arguments(
            posonlyargs=[bare(a) for a in node.posonlyargs],
            args=[bare(a) for a in node.args],
            vararg=bare(node.vararg),
            kwonlyargs=[bare(a) for a in node.kwonlyargs],
            kw_defaults=[self.visit(d) for d in node.kw_defaults],
            kwarg=bare(node.kwarg),
            defaults=self.visit(node.defaults),
        )

    def _match_case(self, node: Any) -> Any:
        return self._copy(node, pattern=node.pattern)
