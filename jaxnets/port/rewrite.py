"""Rewrites the functions and classes of the user's with what was seen of them.

The text of a node is the user's own, in which the texts of its children are exchanged. Where a rule
says what an operation becomes, the text is the rule's. Layout, comments, names and control flow thus
stay as they are.
"""

import ast
import builtins
import functools
import io
import re
import tokenize
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxnets import functional, layers
from jaxnets.port import modules
from jaxnets.port.names import OPERATORS, canonical
from jaxnets.port.observe import Call, Facts, find_rule, leaf
from jaxnets.port.sources import Source, Sources, enclosing, is_users, plain_function, qualified
from jaxnets.port.values import (
    ATOM,
    Binding,
    Context,
    Items,
    Plain,
    Refused,
    Tensor,
    Value,
    binding_of,
    bound,
    natural,
    text_of,
)

#: Marks a name of the user's that is also a name of a library's.
MARK = "\ue000"
LIBRARIES = ("jax", "jnp", "nnx", "layers", "lax", "np", "functional", "F", "tensors")
_NOT_RUN = "not run by the example input"
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
    """How strongly a node of Python's holds together."""
    kind = node.op if isinstance(node, ast.BinOp | ast.UnaryOp | ast.BoolOp) else node
    return _BINDINGS.get(type(kind), ATOM)


@dataclass(frozen=True)
class Refusal:
    """One construct that cannot be ported.

    Attributes:
        place: file and line.
        where: class and method.
        construct: the source.
        why: a sentence.
        what_to_do: a sentence.
    """

    place: str
    where: str
    construct: str
    why: str
    what_to_do: str = ""

    def __str__(self) -> str:
        parts = (self.place, self.where, self.construct, self.why, self.what_to_do)
        return " | ".join(part for part in parts if part)


class NotSeen(Exception):
    """The example did not come by here, and without it nothing can be said."""


@dataclass
class Job:
    """What is known while all definitions are rewritten.

    Attributes:
        sources: the user's files.
        facts: what was seen.
        needs: numbers of the functions and classes whose constructors take ``rngs``.
        refusals: what cannot be ported.
        notes: what the user should know.
        imports: what the rules use.
        reached: classes and functions that were named through a module, by their names.
        eager: whether Python decides by values, which jax.jit cannot.
        empty: numbers of functions of which nothing is left, such as those that set weights.
    """

    sources: Sources
    facts: Facts
    needs: set[int] = field(default_factory=set)
    refusals: dict[tuple[str, str], Refusal] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    imports: set[tuple[str, str]] = field(default_factory=set)
    reached: dict[str, Any] = field(default_factory=dict)
    eager: bool = False
    empty: set[int] = field(default_factory=set)

    def note(self, text: str) -> None:
        """Tells the user something, once."""
        if text not in self.notes:
            self.notes.append(text)


class _Context(Context):
    """The context of rules within a function of no class: it has no attributes."""

    def layer(self, name: str, constructor: str) -> str:
        raise Refused("a function outside of a class cannot keep a layer", "make it a method")


class Renderer:
    """The new text of one definition.

    Args:
        job: what all definitions share.
        source: the file.
        definition: the node of the function, class or statement at the top.
    """

    def __init__(self, job: Job, source: Source, definition: Any) -> None:
        self.job, self.source, self.definition = job, source, definition
        self.layers: dict[str, str] = {}
        self.class_node: ast.ClassDef | None = None
        self.function: Any = None
        self.rngs = False  # whether the text so far has rngs in it
        self._locals: list[set[str]] = []
        self._gradientless = 0  # within how many blocks of torch.no_grad()
        self._cache: dict[int, Value] = {}

    # Texts.

    def text(self, node: Any) -> str:
        """The new text of any node."""
        return text_of(self.value(node)) if isinstance(node, ast.expr) else self.edited(node)

    def edited(self, node: Any, given: dict[Any, str] | None = None) -> str:
        """The user's text of a node with those of its children exchanged."""
        start, end = self.source.span(node)
        return self._between(start, end, node, list(_children(node)), given or {})

    def _between(
        self, start: int, end: int, node: Any, children: list[Any], given: dict[Any, str]
    ) -> str:
        parts, position = [], start
        for child in sorted(children, key=self.source.span):
            begin, stop = self.source.span(child)
            if begin < position:
                continue
            parts.append(self.source.text[position:begin])
            if child in given:
                parts.append(given[child])
            elif isinstance(child, ast.expr):
                parts.append(self._in_place(node, child))
            else:
                parts.append(self.text(child))
            position = stop
        return "".join([*parts, self.source.text[position:end]])

    def _in_place(self, parent: Any, child: ast.expr) -> str:
        """The text of a child where the user had it, in parentheses if it needs them now."""
        value = self.value(child)
        if isinstance(child, ast.Tuple) and isinstance(value, Items) and value.text is None:
            return self.edited(child)  # one that has no parentheses
        text, binding = text_of(value), binding_of(value)
        if binding >= own_binding(child) or self._in_parentheses(child):
            return text
        if isinstance(parent, ast.Attribute | ast.Subscript | ast.Call) and child is (
            parent.func if isinstance(parent, ast.Call) else parent.value
        ):
            return bound(value, ATOM)
        if isinstance(parent, ast.BinOp | ast.UnaryOp | ast.BoolOp | ast.Compare):
            return bound(value, min(own_binding(parent) + 1, ATOM))
        return bound(value, Binding.TERNARY)

    def _in_parentheses(self, node: ast.expr) -> bool:
        start, end = self.source.span(node)
        before, after = self.source.text[:start].rstrip(), self.source.text[end:].lstrip()
        closed = before.endswith("(") and after.startswith(")")
        return closed and not re.search(r"[\w\])]\($", before)

    # Values of expressions.

    def value(self, node: ast.expr) -> Value:
        """The new text of an expression, with what was seen of it."""
        found = self._cache.get(node.number)  # type: ignore[attr-defined]
        if found is None:
            special = getattr(self, f"_of_{type(node).__name__.lower()}", None)
            found = special(node) if special else self._default(node)
            self._cache[node.number] = found  # type: ignore[attr-defined]
        return found

    def _default(self, node: Any) -> Value:
        return self._with_text(node, self.edited(node), own_binding(node))

    def _with_text(self, node: Any, text: str, binding: int = ATOM) -> Value:
        """A text with what was seen at its node."""
        facts = list(self.job.facts.values.get(node.number, {}).values())
        if not facts:
            known = self._guess(node)
            if known is not None:
                return _retold(known, Plain(text, None, binding))
            literal = isinstance(node, ast.Constant)
            value = node.value if literal else None
            return Plain(text, value, binding, known=literal, constant=literal)
        return _retold(facts[0], Plain(text, None, binding))

    def _guess(self, node: Any) -> Value | None:
        """What a variable was elsewhere in the function, if it was the same everywhere."""
        if not isinstance(node, ast.Name) or self.function is None:
            return None
        found = [
            value
            for other in ast.walk(self.function)
            if isinstance(other, ast.Name) and other.id == node.id
            for value in self.job.facts.values.get(getattr(other, "number", -1), {}).values()
        ]
        tensors = [value for value in found if isinstance(value, Tensor)]
        if found and len(tensors) == len(found) and len({t.order for t in tensors}) == 1:
            return tensors[-1]
        return None

    def _of_name(self, node: ast.Name) -> Value:
        known, value = self.static(node)
        if known and (text := self._reference(node, value)) is not None:
            return Plain(text, value)
        kept = isinstance(value, types.ModuleType) and not value.__name__.startswith("torch")
        mark = MARK if node.id in LIBRARIES and not kept else ""
        return self._with_text(node, mark + node.id)

    def _of_constant(self, node: ast.Constant) -> Value:
        return Plain(self.source.segment(node), node.value, constant=True)

    def _of_list(self, node: Any) -> Value:
        if not isinstance(node.ctx, ast.Load) or any(isinstance(e, ast.Starred) for e in node.elts):
            return self._default(node)
        items = tuple(self.value(one) for one in node.elts)
        kind = list if isinstance(node, ast.List) else tuple
        text = self.edited(node)
        if kind is tuple and not text.startswith("("):
            return Items(items, None, kind)
        return Items(items, text, kind)

    _of_tuple = _of_list

    def _of_joinedstr(self, node: ast.JoinedStr) -> Value:
        """An f-string; Python 3.11 does not tell well where its parts are."""
        text = self.source.segment(node)
        for part in ast.walk(node):
            if isinstance(part, ast.FormattedValue):
                try:
                    new = text_of(self.value(part.value))
                except Exception:
                    continue
                old = ast.unparse(part.value)
                if new.strip("() \n") != old and self.source.segment(part.value).strip() == old:
                    text = text.replace("{" + old, "{" + new)
        return Plain(text, None, known=False)

    def _of_attribute(self, node: ast.Attribute) -> Value:
        known, value = self.static(node)
        if known and (text := self._reference(node, value)) is not None:
            return Plain(text, value)
        if calls := self.job.facts.calls.get(node.number):  # type: ignore[attr-defined]
            return self._ruled(node, list(calls.values()), [self.value(node.value)], {})
        owners = list(self.job.facts.owners.get(node.number, {}).values())  # type: ignore[attr-defined]
        if node.attr == "training" and isinstance(node.ctx, ast.Load):
            context = self.context()
            return Plain(self._made(context, context.training()), None, Binding.NOT, known=False)
        if node.attr == "forward" and (not owners or _are_modules(owners)):
            return Plain(f"{self._in_place(node, node.value)}.__call__", None, known=False)
        text = self.edited(node)
        if owners and isinstance(node.ctx, ast.Load):
            held = [_held(owner, node.attr) for owner in owners]
            if all(held):
                return self._parameter(node, text, owners)
        return self._with_text(node, text)

    def _parameter(self, node: ast.Attribute, text: str, owners: list[Any]) -> Value:
        """A parameter or a buffer of a module."""
        value = self._with_text(node, f"{text}[...]")
        rules = {id(r): r for owner in owners if (r := leaf(type(owner))) is not None}
        if rules and all(not is_users(type(owner)) for owner in owners):
            rule = next(iter(rules.values()))
            known = getattr(rule, "parameters", {}).get(node.attr)
            if known is None:
                self.refuse(node, Refused("a parameter of a layer is used by itself"))
                return value
            text = text.removesuffix(node.attr) + known[0] + "[...]"
            return self._with_text(node, text)
        return value

    def _of_subscript(self, node: ast.Subscript) -> Value:
        if calls := self.job.facts.calls.get(node.number):  # type: ignore[attr-defined]
            operands = [self.value(node.value), self.index(node.slice)]
            return self._ruled(node, list(calls.values()), operands, {})
        base = self.value(node.value)
        if isinstance(base, Items) and base.text is None and isinstance(node.ctx, ast.Load):
            return self._picked(node, base)
        return self._with_text(node, self.edited(node))

    def _picked(self, node: ast.Subscript, base: Items) -> Value:
        """One or several of items that have no name together, such as an image's sizes."""
        try:
            index = eval(
                compile(ast.Expression(_bare(node.slice)), "index", "eval"), {"__builtins__": {}}
            )
            if isinstance(node.slice, ast.Slice):
                raise ValueError
        except Exception:
            index = _literal_slice(node.slice)
        if isinstance(index, int):
            return base.items[index]
        if isinstance(index, slice):
            return _joined(base.items[index], base.kind)
        text = f"{text_of(base)}[{self.text(node.slice)}]"
        return self._with_text(node, text)

    def index(self, node: Any) -> Value:
        """An index as rules take it."""
        if isinstance(node, ast.Slice):
            parts = [p and self._flat(self.value(p)) for p in (node.lower, node.upper, node.step)]
            texts = ["" if p is None else text_of(p) for p in parts]
            text = ":".join(texts[:2]) + (f":{texts[2]}" if parts[2] else "")
            return Plain(text, None, Binding.TUPLE)
        if isinstance(node, ast.Tuple):
            return Items(tuple(map(self.index, node.elts)), None)
        return self._flat(self.value(node))

    def _of_binop(self, node: ast.BinOp) -> Value:
        return self._operator(node, type(node.op).__name__, [node.left, node.right])

    def _of_unaryop(self, node: ast.UnaryOp) -> Value:
        if isinstance(node.op, ast.Not):
            operand = self.value(node.operand)
            text = text_of(operand)
            if text.startswith("not ") and binding_of(operand) == Binding.NOT:
                return Plain(text.removeprefix("not "), None)
            if text in ("True", "False"):
                return Plain(str(text == "False"), text == "False", constant=True)
            return self._default(node)
        return self._operator(node, type(node.op).__name__, [node.operand])

    def _of_compare(self, node: ast.Compare) -> Value:
        name = type(node.ops[0]).__name__
        if len(node.ops) > 1 or name not in OPERATORS:
            return self._default(node)
        return self._operator(node, name, [node.left, node.comparators[0]])

    def _of_boolop(self, node: ast.BoolOp) -> Value:
        """``and``/``or``; what is always true or false goes."""
        neutral, decisive = ("True", "False") if isinstance(node.op, ast.And) else ("False", "True")
        texts = []
        for one in node.values:
            try:
                texts.append(text_of(self.value(one)))
            except NotSeen:  # not even looked at, as what comes before decides
                if not texts or self._ran(one):
                    raise
                texts.append(neutral)
        if decisive in texts:
            return Plain(decisive, decisive == "True", constant=True)
        left = [one for one, text in zip(node.values, texts, strict=True) if text != neutral]
        if not left:
            return Plain(neutral, neutral == "True", constant=True)
        if len(left) == 1:
            return self.value(left[0])
        if len(left) == len(texts):
            return self._default(node)
        word = " and " if isinstance(node.op, ast.And) else " or "
        text = word.join(bound(self.value(one), own_binding(node) + 1) for one in left)
        return self._with_text(node, text, own_binding(node))

    def _of_ifexp(self, node: ast.IfExp) -> Value:
        test = text_of(self.value(node.test))
        if test in ("True", "False"):
            return self.value(node.body if test == "True" else node.orelse)
        return self._default(node)

    def _operator(self, node: Any, kind: str, operands: list[Any]) -> Value:
        calls = self.job.facts.calls.get(node.number)
        if calls:
            values = [self.value(one) for one in operands]
            return self._ruled(node, list(calls.values()), values, {})
        if node.number not in self.job.facts.values:
            values = [self._flat(self.value(one)) for one in operands]
            if any(isinstance(value, Tensor) for value in values):
                return self._unseen(node, f"operator.{OPERATORS[kind]}", values, {})
        return self._default(node)

    def _of_lambda(self, node: ast.Lambda) -> Value:
        self._locals.append(_bound_names(node))
        try:
            return self._default(node)
        finally:
            self._locals.pop()

    # Rules.

    def context(self, result: Any = None) -> Context:
        """What rules are handed here."""
        kind = Context if self.class_node is not None else _Context
        context = kind(result=result, imports=self.job.imports)
        context.layers = self.layers
        context.notes = self.job.notes
        context.constructing = self._constructing()
        context.taken = self._attributes()
        return context

    @functools.cache  # noqa: B019 - a renderer lives as long as its definition is written
    def _attributes(self) -> set[str]:
        node = self.class_node
        names = ast.walk(node) if node is not None else ()
        return {
            a.attr
            for a in names
            if isinstance(a, ast.Attribute) and getattr(a.value, "id", "") == "self"
        } | {f.name for f in (node.body if node else ()) if isinstance(f, ast.FunctionDef)}

    def _made(self, context: Context, text: str) -> str:
        if re.search(r"(?<![\w.])rngs\b", text):
            self.rngs = True
        return text

    def _ruled(
        self, node: Any, calls: list[Call], args: list[Value], kwargs: dict[str, Value]
    ) -> Value:
        """What a rule makes of an operation, the same for all ways in which it came by."""
        args = [self._flat(value) for value in args]
        kwargs = {name: self._flat(value) for name, value in kwargs.items()}
        made: dict[str, tuple[Value, Call]] = {}
        for call in sorted(calls, key=_ones):
            rule = find_rule(call.name)
            if call.refused is not None:
                self.refuse(node, call.refused)
                return self._default(node)
            if rule is None:
                value = self._default(node)
                made.setdefault(text_of(value), (value, call))
                continue
            value = self._applied(node, rule, call, args, kwargs)
            if value is None:
                return self._default(node)
            made.setdefault(text_of(value), (value, call))
        return self._only(node, made)

    def _only(self, node: Any, made: dict[str, tuple[Value, Call]]) -> Value:
        """The one text of an operation.

        Where texts differ by axes of one element alone, the text of the call that has the fewest
        of them is right for all.
        """
        (first, call), *others = made.values()
        for _, other in others:
            if _orders(other) != _orders(call) or _ones(other) <= _ones(call):
                ways = " or ".join(list(made)[:3])
                self.refuse(node, Refused(f"this is {ways}, by what it is called with"))
                break
        return first

    def _applied(
        self, node: Any, rule: Any, call: Call, args: list[Value], kwargs: dict[str, Value]
    ) -> Value | None:
        given = list(map(_retold, call.args, args)) if len(args) == len(call.args) else None
        if given is None:
            self.refuse(node, Refused("the arguments are not understood"))
            return None
        named = {k: _retold(v, kwargs.get(k, Plain("", None))) for k, v in call.kwargs.items()}
        context = self.context(call.result)
        context.order = call.value.order if isinstance(call.value, Tensor) else None
        try:
            value = rule(given, named, context)
        except Refused as refused:
            if self.class_node is None and _is_idle_dropout(call):
                self.job.note(f"{self.source.place(node)}: {call.name} with p = 0 is left out")
                return given[0]
            self.refuse(node, refused)
            return None
        except Exception as error:
            what = f"{call.name}: {type(error).__name__}: {error}"
            self.refuse(node, Refused(what))
            return None
        if isinstance(value, Tensor) and isinstance(call.value, Tensor):
            value = context.convert(replace(value, origin=None), call.value.order)
        self._made(context, text_of(value))
        if call.value is not None and isinstance(value, Tensor) and isinstance(call.value, Tensor):
            return replace(value, shape=call.value.shape, dtype=call.value.dtype)
        if isinstance(value, Plain) and value.value is None and isinstance(call.value, Plain):
            return replace(value, value=call.value.value)
        return value

    def _unseen(self, node: Any, name: str, args: list[Value], kwargs: dict[str, Value]) -> Value:
        """What a rule makes of an operation that did not come by; from the text alone."""
        rule = find_rule(name)
        if rule is None:
            raise NotSeen(name)
        import torch

        shapes = [value.shape for value in args if isinstance(value, Tensor)]
        context = self.context(torch.empty(shapes[0] if shapes else (2,)))
        try:
            value = rule(args, kwargs, context)
        except Exception as error:
            raise NotSeen(str(error)) from error
        self._made(context, text_of(value))
        return value

    def _flat(self, value: Value) -> Value:
        """A value whose text has no line breaks, for rules that put it elsewhere."""
        if isinstance(value, Items):
            text = value.text and flat(value.text)
            return replace(value, text=text, items=tuple(map(self._flat, value.items)))
        return replace(value, text=flat(value.text)) if "\n" in value.text else value

    def refuse(self, node: Any, refused: Refused) -> None:
        """Notes that a construct cannot be ported."""
        construct = flat(self.source.segment(node))
        construct = construct if len(construct) < 80 else construct[:77] + "..."
        where = qualified(self.function or self.class_node) if self.function else ""
        place = self.source.place(node)
        found = Refusal(place, where, construct, refused.why, refused.what_to_do)
        self.job.refusals.setdefault((place, construct), found)

    # Names that stand for something outside of the function.

    def static(self, node: Any) -> tuple[bool, Any]:
        """Whether an expression is a path from a global name, and what that is."""
        if isinstance(node, ast.Name):
            if any(node.id in names for names in self._locals):
                return False, None
            if node.id in self.source.names:
                return True, self.source.names[node.id]
            if hasattr(builtins, node.id):
                return True, getattr(builtins, node.id)
            return False, None
        if isinstance(node, ast.Attribute):
            known, base = self.static(node.value)
            if known and isinstance(base, types.ModuleType | type):
                return hasattr(base, node.attr), getattr(base, node.attr, None)
        return False, None

    def _reference(self, node: Any, value: Any) -> str | None:
        """The text of a library's class, function or constant; None where the user's stays."""
        import torch

        if isinstance(value, types.ModuleType):
            return None
        if isinstance(value, torch.dtype):
            self.job.imports.add(("jnp", ""))
            return _DTYPES.get(str(value).removeprefix("torch."), f"jnp.{str(value)[6:]}")
        if value is torch.Tensor:
            self.job.imports.add(("jax", ""))
            return "jax.Array"
        special = _classes().get(value) if isinstance(value, type) else None
        if special is not None:
            self.job.imports.add((special.partition(".")[0], ""))
            return special
        if isinstance(value, type) and issubclass(value, torch.nn.Module):
            if is_users(value):
                return self._bare_name(node, value)
            rule = modules.find(value)
            if rule is None:
                self.refuse(node, Refused(f"nn.{value.__name__} has no counterpart"))
                return None
            self.job.imports.add((rule.reference.partition(".")[0], ""))
            return rule.reference
        if isinstance(node, ast.Attribute) and isinstance(value, float | int):
            return repr(value) if self.source.segment(node).startswith("torch.") else None
        name = canonical(value) if callable(value) and not isinstance(value, type) else None
        if name is not None and name.partition(".")[0] in ("torch", "F", "init"):
            if isinstance(node.parent, ast.Call) and node.parent.func is node:
                return None
            return self._function_reference(node, name)
        if is_users(value) and isinstance(value, type | types.FunctionType):
            return self._bare_name(node, value)
        return None

    def _bare_name(self, node: Any, value: Any) -> str | None:
        """A name of the user's that is reached through a module: the name alone."""
        if not isinstance(node, ast.Attribute) or "." in value.__qualname__:
            return None
        self.job.reached[value.__name__] = value
        return value.__name__

    def _function_reference(self, node: Any, name: str) -> str | None:
        """A function as a value: ``jax.nn.relu``, or a lambda."""
        import torch

        rule = find_rule(name)
        if rule is None:
            self.refuse(node, Refused(f"{name} has no rule"))
            return None
        tensor = Tensor("x", (2, 3), (0, 1), torch.float32)
        context = self.context(torch.zeros(2, 3))
        try:
            text = text_of(rule([tensor], {}, context))
        except Exception as error:
            self.refuse(node, Refused(f"{name} as a value: {error}"))
            return None
        return text.removesuffix("(x)") if text.endswith("(x)") else f"(lambda x: {text})"

    # Calls.

    def _of_call(self, node: ast.Call) -> Value:
        calls = list(self.job.facts.calls.get(node.number, {}).values())  # type: ignore[attr-defined]
        special = self._special_call(node, calls)
        if special is not None:
            return special
        known, value = self.static(node.func)
        if calls:
            return self._seen_call(node, calls, direct=known)
        if known and canonical(value) is not None and not isinstance(value, type):
            name = str(canonical(value))
            if find_rule(name) is not None:
                args, kwargs = self._arguments(node, None)
                return self._unseen(node, name, args, kwargs)
        if known and isinstance(value, type):
            return self._construct(node, [Call(value, None, [], {})], direct=True)
        if known and isinstance(value, types.FunctionType) and is_users(value):
            return self._kept_call(node, rngs=self._function_needs([value]))
        if isinstance(node.func, ast.Attribute):
            return self._unseen_method(node, node.func)
        return self._kept_call(node)

    def _unseen_method(self, node: ast.Call, func: ast.Attribute) -> Value:
        base = self.value(func.value)
        if isinstance(base, Tensor):
            args, kwargs = self._arguments(node, None)
            return self._unseen(node, f"Tensor.{func.attr}", [self._flat(base), *args], kwargs)
        if self._is_unseen_method(func):
            raise NotSeen(func.attr)
        return self._kept_call(node, rngs=self._method_needs(func))

    def _is_unseen_method(self, func: ast.Attribute) -> bool:
        """Whether a method of the class itself did not run, so that it is not there any more."""
        if not (isinstance(func.value, ast.Name) and func.value.id == "self" and self.class_node):
            return False
        cls = self._class()
        method = plain_function(getattr(cls, func.attr, None)) if cls is not None else None
        if method is None or not is_users(method):
            return False
        return self.job.sources.function(method).number not in self.job.facts.entered  # type: ignore[union-attr]

    def _method_needs(self, func: ast.Attribute) -> bool:
        """Whether a method of the class itself takes rngs."""
        if not (isinstance(func.value, ast.Name) and func.value.id == "self" and self.class_node):
            return False
        cls = self._class()
        method = plain_function(getattr(cls, func.attr, None)) if cls is not None else None
        return method is not None and self._function_needs([method])

    def _class(self) -> type | None:
        value: Any = None
        if self.class_node is not None:
            for part in qualified(self.class_node).split("."):
                owner = self.source.names if value is None else vars(value)
                value = owner.get(part)
                if value is None:
                    return None
        return value if isinstance(value, type) else None

    def _seen_call(self, node: ast.Call, calls: list[Call], direct: bool) -> Value:
        import torch

        kinds = {_kind(call) for call in calls}
        if len(kinds) > 1:
            if kinds <= {"class", "user"}:
                return self._kept_call(node, rngs=self._any_needs(calls))
            self.refuse(node, Refused("what is called here is of several kinds"))
            return self._kept_call(node)
        (kind,) = kinds
        if kind == "module":
            return self._module_call(node, calls)
        if kind == "class":
            return self._construct(node, calls, direct)
        if kind == "user":
            return self._kept_call(node, rngs=self._any_needs(calls))
        if kind == "rule":
            if any(str(call.name).partition(".")[0] == "random" for call in calls):
                why = "a number is drawn at random by Python, once for all calls"
                self.refuse(node, Refused(why, "draw it with torch, or make it an argument"))
                return self._kept_call(node)
            names = {call.name for call in calls}
            method = isinstance(node.func, ast.Attribute) and all(
                isinstance(getattr(call.function, "__self__", None), torch.Tensor) for call in calls
            )
            tensors = any(_deep_tensor(v) for c in calls for v in (*c.args, *c.kwargs.values()))
            if all(str(n).partition(".")[0] in ("builtins", "math") for n in names) and not tensors:
                return self._kept_call(node)
            if all(find_rule(n) is None and c.refused is None for n, c in zip(names, calls)):
                return self._kept_call(node)
            if not method and not direct:
                return self._kept_call(node)
            first = [node.func.value] if method else []  # type: ignore[attr-defined]
            args, kwargs = self._arguments(node, calls[0], skip=len(first))
            args = [*map(self.value, first), *args]
            if any(call.refused for call in calls):
                refused = next(c.refused for c in calls if c.refused)
                self.refuse(node, refused)
                return self._kept_call(node)
            return self._ruled(node, calls, args, kwargs)
        return self._kept_call(node)

    def _arguments(
        self, node: ast.Call, call: Call | None, skip: int = 0
    ) -> tuple[list[Value], dict[str, Value]]:
        """The arguments of a call by their texts; starred ones one by one."""
        count = len(call.args) - skip if call is not None else None
        args: list[Value] = []
        for arg in node.args:
            if not isinstance(arg, ast.Starred):
                args.append(self._flat(self.value(arg)))
                continue
            inner = self._flat(self.value(arg.value))
            if isinstance(inner, Items):
                args.extend(inner.items)
            elif count is not None:
                args += [
                    Plain(f"{bound(inner, ATOM)}[{i}]", None)
                    for i in range(count - len(node.args) + 1)
                ]
            else:
                raise NotSeen("starred")
        kwargs: dict[str, Value] = {}
        for keyword in node.keywords:
            if keyword.arg is not None:
                kwargs[keyword.arg] = self._flat(self.value(keyword.value))
            elif call is not None:
                text = self.text(keyword.value)
                for name in call.kwargs:
                    kwargs.setdefault(name, Plain(f'{text}["{name}"]', None))
        return args, kwargs

    def _kept_call(self, node: ast.Call, rngs: bool = False) -> Value:
        """The user's own call, with ``rngs=rngs`` where it is needed."""
        text = self.edited(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "forward":
            func = self._in_place(node, node.func)
            if text.startswith(func) and func.endswith(".__call__"):
                base = func.removesuffix(".__call__")
                if not base.startswith("super("):
                    text = base + text.removeprefix(func)
        if rngs:
            self.rngs = True
            text = with_argument(text, "rngs=rngs")
        return self._with_text(node, text)

    def _module_call(self, node: ast.Call, calls: list[Call]) -> Value:
        """A layer is called, or a network of the user's."""
        made: dict[str, tuple[Value, Call]] = {}
        for call in sorted(calls, key=_ones):
            if call.refused is not None:
                self.refuse(node, call.refused)
                return self._kept_call(node)
            module = getattr(call.function, "__self__", call.function)
            rule = leaf(type(module)) if call.name is not None else None
            if rule is None:
                value = self._entered(node, call)
                made.setdefault(text_of(value), (value, call))
                continue
            func = node.func
            if isinstance(func, ast.Attribute) and func.attr == "forward":
                func = func.value
            text = flat(self._in_place(node, func))
            base = Plain("super().__call__" if text == "super()" else text, module)
            args, kwargs = self._arguments(node, call)
            shown = replace(call, args=[base, *call.args])
            value = self._applied(node, rule.call, shown, [base, *args], kwargs)
            if value is None:
                return self._kept_call(node)
            kept = self._kept_call(node)
            if flat(text_of(kept)) == text_of(value):
                value = _retold(value, Plain(text_of(kept), None))
            made.setdefault(text_of(value), (value, call))
        return self._only(node, made)

    def _entered(self, node: ast.Call, call: Call) -> Value:
        """A call of the user's own module; its input in the order that its first layer takes."""
        kept = self._kept_call(node)
        if call.entry is None or len(node.args) != 1:
            return kept
        (arg,), _ = self._arguments(node, call)
        fact = _retold(call.args[0], arg)
        assert isinstance(fact, Tensor)
        context = self.context()
        text = context.convert(replace(fact, origin=None), call.entry).text
        return self._with_text(node, self.edited(node, {node.args[0]: text}))

    def _construct(self, node: ast.Call, calls: list[Call], direct: bool) -> Value:
        """An object is made: a layer, or one of the user's classes."""
        import torch

        classes = [_plain_class(call.function) for call in calls]
        layers = [c for c in classes if issubclass(c, torch.nn.Module) and not is_users(c)]
        if not layers:
            return self._kept_call(node, rngs=self._any_needs(calls))
        if len(layers) < len(classes) or not direct or len(set(layers)) > 1:
            return self._kept_call(node, rngs=self._any_needs(calls))
        cls = layers[0]
        container = self._container(node, cls)
        if container is not None:
            return container
        rule = modules.find(cls)
        if rule is None:
            self.refuse(node, Refused(f"nn.{cls.__name__} has no counterpart"))
            return self._kept_call(node)
        args, kwargs = self._arguments(node, calls[0] if calls[0].value else None)
        made: dict[str, tuple[Value, Call]] = {}
        for call in sorted(calls, key=_ones):
            if call.value is None:
                value: Value | None = self._unseen_construct(node, rule, args, kwargs)
            else:
                value = self._applied(node, rule.construct, call, args, kwargs)
            if value is None:
                return self._kept_call(node)
            made.setdefault(text_of(value), (value, call))
        if any(k.arg is None for k in node.keywords) or any(
            isinstance(arg, ast.Starred) for arg in node.args
        ):
            return self._with_stars(node, made, rule)
        return self._laid_out(node, self._only(node, made))

    def _with_stars(self, node: ast.Call, made: dict[str, tuple[Value, Call]], rule: Any) -> Value:
        """A layer with ``*args`` or ``**kwargs``, which are handed on as they are."""
        text = self.edited(node, {node.func: rule.reference})
        if rule.rngs:
            text = with_argument(text, "rngs=rngs")
        for one in made:
            if re.sub(r'(\w+)=\w+\["\1"\](, )?', "", one) == one and len(made) > 1:
                return self._only(node, made)
        return self._with_text(node, text)

    def _unseen_construct(self, node: Any, rule: Any, args: Any, kwargs: Any) -> Value:
        context = self.context()
        try:
            value = rule.construct(args, kwargs, context)
        except Exception as error:
            raise NotSeen(str(error)) from error
        self._made(context, text_of(value))
        return value

    def _laid_out(self, node: ast.Call, value: Value) -> Value:
        """A rule's call, in the user's own layout if all but the name and rngs is the same."""
        func = re.match(r"[\w.]+(?=\()", text_of(value))
        if func is None or not isinstance(value, Plain):
            return value
        kept = self.edited(node, {node.func: func.group()})
        if ", rngs=rngs)" in value.text or "(rngs=rngs)" in value.text:
            kept = with_argument(kept, "rngs=rngs")
        same = _same_tokens(kept, value.text)
        return replace(value, text=kept) if same else value

    def _container(self, node: ast.Call, cls: type) -> Value | None:
        """Sequential, ModuleList and the like."""
        import torch

        name = _classes().get(cls)
        if name is None or cls in (torch.nn.Module, torch.nn.Parameter):
            return None
        self.job.imports.add((name.partition(".")[0], ""))
        args: dict[Any, str] = {node.func: name}
        if cls in (torch.nn.ModuleList, torch.nn.ParameterList) and not node.args:
            return self._with_text(node, f"{name}([])")
        if cls is torch.nn.ParameterDict and not node.args:
            return self._with_text(node, f"{name}({{}})")
        return self._with_text(node, self.edited(node, args))

    def _any_needs(self, calls: list[Call]) -> bool:
        """Whether what is called takes rngs; if some do, all of the user's must."""
        import torch

        needs = []
        for call in calls:
            target = call.function
            while isinstance(target, functools.partial):
                target = target.func
            if not isinstance(target, type):
                needs.append((self._function_needs([target]), target))
            elif not issubclass(target, torch.nn.Module):
                needs.append((False, target))
            else:
                needs.append((self.class_needs(target), target))
        if not any(need for need, _ in needs):
            return False
        for need, target in needs:
            if not need and isinstance(target, type) and is_users(target):
                self.job.needs.add(self.job.sources.class_node(target).number)  # type: ignore[attr-defined]
        return True

    def class_needs(self, cls: type) -> bool:
        """Whether the constructor of a class takes rngs."""
        for one in cls.__mro__:
            if not is_users(one):
                rule = leaf(one)
                return rule is not None and rule.rngs
            try:
                key = self.job.sources.class_node(one).number  # type: ignore[attr-defined]
            except Refused:
                return False
            if key in self.job.needs:
                return True
            if "__init__" in vars(one):
                return False
        return False

    def _function_needs(self, functions: list[Any]) -> bool:
        keys = set()
        for function in functions:
            plain = plain_function(function)
            if plain is not None and is_users(plain):
                try:
                    keys.add(self.job.sources.function(plain).number)  # type: ignore[union-attr]
                except Refused:
                    continue
        return bool(keys & self.job.needs)

    def _special_call(self, node: ast.Call, calls: list[Call]) -> Value | None:
        """Calls that are about modules themselves."""
        import torch

        func = node.func
        known, value = self.static(func)
        if known and value is super:
            return Plain("super()", None, known=False)
        if known and value is isinstance:
            return None
        if known and canonical(value) == "torch.utils.checkpoint.checkpoint":
            rest = ", ".join(self.text(arg) for arg in node.args[1:])
            return self._with_text(node, f"{self._in_place(node, node.args[0])}({rest})")
        if known and str(canonical(value)) in ("torch.jit.is_scripting", "torch.jit.is_tracing"):
            return Plain("False", False, constant=True)
        if known and value is torch.nn.Parameter:
            return self._new_parameter(node)
        if known and value is next and node.args:
            return self._next_parameter(node)
        if known and value is getattr and len(node.args) > 1:
            return self._by_name(node)
        if not isinstance(func, ast.Attribute):
            return None
        if func.attr == "__init__" and _is_super(func.value):
            return self._super_init(node, calls)
        if func.attr == "add_module" or func.attr == "register_module":
            owner = self.text(func.value)
            sequential = calls and all(
                isinstance(getattr(c.function, "__self__", None), torch.nn.Sequential)
                for c in calls
            )
            if sequential:
                return None
            values = ", ".join(self.text(arg) for arg in node.args)
            return Plain(f"setattr({owner}, {values})", None)
        if func.attr in ("register_buffer", "register_parameter"):
            return self._register(node, func)
        if func.attr in ("to", "cuda", "cpu", "float", "half", "double") and calls:
            if all(
                isinstance(getattr(c.function, "__self__", None), torch.nn.Module) for c in calls
            ):
                return self.value(func.value)
        return None

    def _by_name(self, node: ast.Call) -> Value | None:
        """``getattr(nn, name)`` and ``getattr(F, name)``."""
        import torch

        known, place = self.static(node.args[0])
        if not known or place not in (torch.nn, torch.nn.functional, torch):
            return None
        facts = self.job.facts.values.get(node.number, {}).values()  # type: ignore[attr-defined]
        names = {getattr(fact.value, "__name__", "") for fact in facts if isinstance(fact, Plain)}
        places = {"layers": layers, "functional": functional, "jax.nn": jax.nn, "jnp": jnp}
        for text, ours in places.items():
            if names and all(hasattr(ours, name) for name in names):
                self.job.imports.add((text.partition(".")[0], ""))
                return self._with_text(node, self.edited(node, {node.args[0]: text}))
        self.refuse(node, Refused(f"{', '.join(names) or 'what it names'} has no counterpart"))
        return None

    def _next_parameter(self, node: ast.Call) -> Value | None:
        """``next(self.parameters())``, of which users want the device or the dtype."""
        inner = node.args[0]
        if not isinstance(inner, ast.Call) or not isinstance(inner.func, ast.Attribute):
            return None
        owners = list(self.job.facts.owners.get(inner.func.number, {}).values())  # type: ignore[attr-defined]
        if inner.func.attr != "parameters" or not owners or not _are_modules(owners):
            return None
        path, _, name = next(owners[0].named_parameters())[0].rpartition(".")
        parts = path.split(".") if path else []
        text = self.text(inner.func.value)
        for part in parts:
            text += f"[{part}]" if part.isdigit() else f".{part}"
        holder = owners[0].get_submodule(path)
        rule = leaf(type(holder))
        ours, order = (name, None) if rule is None else rule.parameters.get(name, (name, None))
        value = self._with_text(node, f"{text}.{ours}[...]")
        return replace(value, order=order) if isinstance(value, Tensor) and order else value

    def _new_parameter(self, node: ast.Call) -> Value:
        self.job.imports.add(("nnx", ""))
        if not node.args:
            raise NotSeen("nn.Parameter without data")
        data = self.value(node.args[0])
        if isinstance(data, Tensor) and not data.natural:
            data = self.context().natural(data)
        frozen = any(
            k.arg == "requires_grad" and isinstance(k.value, ast.Constant) and not k.value.value
            for k in node.keywords
        )
        kind = "nnx.Variable" if frozen else "nnx.Param"
        return self._with_text(node, f"{kind}({text_of(data)})")

    def _register(self, node: ast.Call, func: ast.Attribute) -> Value:
        """``self.register_buffer("name", tensor)`` becomes an assignment."""
        given = {k.arg: k.value for k in node.keywords}
        name = node.args[0] if node.args else given["name"]
        tensor = node.args[1] if len(node.args) > 1 else given.get("tensor") or given.get("param")
        text = "None" if tensor is None else self.text(tensor)
        if func.attr == "register_buffer" and text != "None":
            self.job.imports.add(("nnx", ""))
            last = node.args[2] if len(node.args) > 2 else given.get("persistent")
            kept = not (isinstance(last, ast.Constant) and last.value is False)
            data = self.value(tensor)
            if isinstance(data, Tensor):
                text = text_of(self.context().natural(data))
            kind = "nnx.Variable" if kept else "nnx.Cache"
            facts = list(self.job.facts.values.get(tensor.number, {}).values())
            missing = [isinstance(fact, Plain) and fact.value is None for fact in facts]
            if not missing or not all(missing):
                test = f"None if {text} is None else " if any(missing) else ""
                text = f"{test}{kind}({text})"
        owner = self.text(func.value)
        if isinstance(name, ast.Constant):
            return Plain(f"{owner}.{name.value} = {text}", None)
        return Plain(f"setattr({owner}, {self.text(name)}, {text})", None)

    def _super_init(self, node: ast.Call, calls: list[Call]) -> Value | None:
        """``super().__init__(…)``; that of nn.Module goes."""
        import torch

        owner = self._after_super(calls)
        if owner is torch.nn.Module:
            return Plain("", None)
        if owner is None:
            return None
        if not is_users(owner) and issubclass(owner, torch.nn.Module):
            if owner in _classes():
                return self._with_text(node, self.edited(node))
            rule = modules.find(owner)
            if rule is None:
                self.refuse(node, Refused(f"nn.{owner.__name__} has no counterpart"))
                return None
            args, kwargs = self._arguments(node, calls[0] if calls else None)
            if calls:
                value = self._applied(node, rule.construct, calls[0], args, kwargs)
            else:
                value = self._unseen_construct(node, rule, args, kwargs)
            text = re.sub(r"^[\w.]+\(", "super().__init__(", text_of(value)) if value else ""
            return Plain(text, None)
        return self._kept_call(node, rngs=self.class_needs(owner))

    def _after_super(self, calls: list[Call]) -> type | None:
        """The class whose constructor ``super()`` reaches."""
        for call in calls:
            function = plain_function(call.function)
            for cls in type(call.function.__self__).__mro__:
                if function is not None and vars(cls).get("__init__") is function:
                    return cls
        cls = self._class()
        for one in cls.__mro__[1:] if cls is not None else ():
            if "__init__" in vars(one):
                return one
        return None

    # Statements.

    def _children_block(self, statements: list[ast.stmt]) -> list[str | None]:
        return [self.statement(one) for one in statements]

    def statement(self, node: Any) -> str | None:
        """The new text of a statement; None if it goes."""
        special = getattr(self, f"_do_{type(node).__name__.lower()}", None)
        try:
            return special(node) if special else self.edited(node)
        except NotSeen as error:
            if self._ran(node):
                self.refuse(node, Refused(f"not understood: {error}"))
                return self.source.segment(node)
            raise

    def _ran(self, node: Any) -> bool:
        keys = (getattr(one, "number", -1) for one in ast.walk(node))
        return any(key in self.job.facts.values or key in self.job.facts.calls for key in keys)

    def block(self, statements: list[ast.stmt], start: int) -> str | None:
        """The text from ``start`` to the end of the last statement; None if nothing is left."""
        end = self.source.span(statements[-1])[1]
        parts: list[str] = []
        position, left = start, False
        for one in statements:
            begin = self._begin(one)
            before = self.source.text[position:begin]
            try:
                text = self.statement(one)
            except NotSeen:
                if self._ran_before(one):
                    raise
                text = f'raise NotImplementedError("{_NOT_RUN}")'
                self.job.note(f"{self.source.place(one)}: {_NOT_RUN}")
                parts += [before, text]
                return "".join(parts)
            stop = self.source.span(one)[1]
            if text is None or text == "":
                parts.append(_without_comments(before))
                position = self._line_end(stop)
            else:
                left = left or not _is_docstring(one)
                parts += [before, text]
                position = stop
        if not left and not any(map(_is_docstring, statements)):
            return None
        text = "".join([*parts, self.source.text[position:end]] if position < end else parts)
        if not left:
            return None
        return text.rstrip()

    def _ran_before(self, node: Any) -> bool:
        """Whether a statement's block has run at all."""
        return self._ran(node)

    def _begin(self, node: Any) -> int:
        first = min([node, *getattr(node, "decorator_list", [])], key=lambda n: n.lineno)
        begin = self.source.span(first)[0]
        return begin - 1 if self.source.text[begin - 1 : begin] == "@" else begin

    def _line_end(self, position: int) -> int:
        """After the comment and the line break behind a statement that goes."""
        end = self.source.text.find("\n", position)
        return len(self.source.text) if end < 0 else end

    def _compound(self, node: Any, parts: list[tuple[list[ast.stmt], str]]) -> str | None:
        """A statement with blocks, each rewritten; None if none is left."""
        header_end = self._colon(node, parts[0][0])
        start = self._begin(node)
        heads = [c for c in _children(node) if not isinstance(c, ast.stmt | ast.ExceptHandler)]
        text = self._between(start, header_end, node, heads, {})
        body = self.block(parts[0][0], header_end)
        if body is None and len(parts) == 1:
            return None
        text += body if body is not None else self._pass(parts[0][0])
        for statements, _ in parts[1:]:
            previous = self.source.span(parts[0][0][-1])[1]
            colon = self._colon(node, statements)
            other = self.block(statements, colon)
            if other is not None:
                text += self.source.text[previous:colon] + other
            elif body is None:
                return None
        return text

    def _pass(self, statements: list[ast.stmt]) -> str:
        return "\n" + " " * statements[0].col_offset + "pass"

    def _colon(self, node: Any, statements: list[ast.stmt]) -> int:
        """After the colon before a block."""
        begin = self._begin(statements[0])
        return self.source.text.rindex(":", 0, begin) + 1 if begin else 0

    def _looks(self, test: Any) -> bool:
        """Whether Python looks at the values of a tensor."""
        if isinstance(test, ast.BoolOp):
            return any(map(self._looks, test.values))
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return self._looks(test.operand)
        facts = self.job.facts.values.get(test.number, {}).values()
        return any(isinstance(fact, Tensor) for fact in facts)

    def _decides(self, test: ast.expr) -> None:
        """Notes where Python looks at the values of a tensor."""
        if self._looks(test) and not self._constructing():
            self.job.eager = True
            where = self.source.place(test)
            self.job.note(f"{where}: decides by values, so not within jax.jit")

    def _do_if(self, node: ast.If) -> str | None:
        self._decides(node.test)
        test = text_of(self.value(node.test))
        if test in ("True", "False"):
            chosen = node.body if test == "True" else node.orelse
            return self._dedented(node, chosen) if chosen else None
        elif_ = len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)
        parts = [(node.body, "if")]
        if node.orelse and not elif_:
            parts.append((node.orelse, "else"))
        if not elif_:
            return self._compound(node, parts)
        head = self._compound(ast.copy_location(_headed(node), node), parts)
        other = self.statement(node.orelse[0])
        if head is None and other is None:
            return None
        if other is None:
            return head
        gap = self.source.text[
            self.source.span(node.body[-1])[1] : self.source.span(node.orelse[0])[0]
        ]
        if head is None:
            return other.removeprefix("el") if other.startswith("elif") else other
        if other.startswith("elif"):
            return f"{head}{gap}{other}"
        indent = " " * node.col_offset
        inner = "\n".join(f"    {line}" if line.strip() else line for line in other.split("\n"))
        return f"{head}\n{indent}else:\n{indent}{inner}"

    def _dedented(self, node: Any, statements: list[ast.stmt]) -> str | None:
        """The statements of a block alone, moved to the left."""
        text = self.block(statements, self._begin(statements[0]))
        if text is None:
            return None
        move = statements[0].col_offset - node.col_offset
        lines = text.split("\n")
        return "\n".join([lines[0], *(line.removeprefix(" " * move) for line in lines[1:])])

    def _do_for(self, node: ast.For) -> str | None:
        if self._sets_weights(node):
            self.job.note(f"{self.source.place(node)}: initial values are not set as there")
            return None
        return self._compound(
            node, [(node.body, ""), *([(node.orelse, "")] if node.orelse else [])]
        )

    def _sets_weights(self, node: Any) -> bool:
        """Whether a statement only sets initial values."""
        sets = False
        for one in ast.walk(node):
            if isinstance(one, ast.Call):
                sets = sets or self._is_init(one)
                attr = one.func.attr if isinstance(one.func, ast.Attribute) else ""
                if attr in ("append", "add_module", "register_buffer", "extend"):
                    return False
            elif isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store):
                if not (one.attr in ("data",)):
                    return False
        return sets

    def _is_init(self, node: ast.Call) -> bool:
        known, value = self.static(node.func)
        name = str(canonical(value)) if known else ""
        if name.startswith("init.") or "trunc_normal_" in name or "_init_" in name:
            return True
        func = node.func
        if not isinstance(func, ast.Attribute) or not func.attr.endswith("_"):
            return known and self._is_empty(value)
        return any(
            isinstance(one, ast.Attribute) and one.attr in ("data", "weight", "bias")
            for one in ast.walk(func.value)
        )

    def _is_empty(self, value: Any) -> bool:
        """Whether nothing is left of a function of the user's."""
        function = plain_function(value)
        if function is None or not is_users(function):
            return False
        try:
            return self.job.sources.function(function).number in self.job.empty  # type: ignore[union-attr]
        except Refused:
            return False

    def _do_while(self, node: ast.While) -> str | None:
        self._decides(node.test)
        return self._compound(
            node, [(node.body, ""), *([(node.orelse, "")] if node.orelse else [])]
        )

    def _do_with(self, node: ast.With) -> str | None:
        names = []
        for item in node.items:
            call = item.context_expr
            func = call.func if isinstance(call, ast.Call) else call
            known, value = self.static(func)
            names.append(getattr(value, "__qualname__", "") if known else "")
        if all(name in ("no_grad", "autocast", "record_function") for name in names):
            self._gradientless += "no_grad" in names and not self._constructing()
            try:
                return self._dedented(node, node.body)
            finally:
                self._gradientless -= "no_grad" in names and not self._constructing()
        return self._compound(node, [(node.body, "")])

    def _constructing(self) -> bool:
        """Whether this function runs only while the network is built."""
        return getattr(self.function, "number", -1) not in self.job.facts.called

    def _do_expr(self, node: ast.Expr) -> str | None:
        call = node.value
        if isinstance(call, ast.Constant):
            return self.source.segment(node)
        if isinstance(call, ast.Call):
            if self._goes(call):
                return None
            known, value = self.static(call.func)
            if known and canonical(value) == "torch._assert":
                if self._looks(call.args[0]):
                    return None
                return f"assert {', '.join(map(self.text, call.args))}"
            changed = self._in_place_call(call)
            if changed is not None:
                return changed
        return self.text(call)

    def _goes(self, call: ast.Call) -> bool:
        """Whether a call as a statement is dropped: initial values, logging, hooks."""
        known, value = self.static(call.func)
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if self._is_init(call) or "_log_api_usage" in name:
            return True
        if name in ("reset_parameters", "requires_grad_", "flatten_parameters"):
            return True
        calls = list(self.job.facts.calls.get(call.number, {}).values())  # type: ignore[attr-defined]
        functions = [c.function for c in calls] or ([value] if known else [])
        if functions and all(self._is_empty(f) for f in functions):
            return True
        if name == "apply" and call.args:
            found = self.job.facts.values.get(call.args[0].number, {})  # type: ignore[attr-defined]
            return any(isinstance(v, Plain) and self._is_empty(v.value) for v in found.values())
        return False

    def _in_place_call(self, call: ast.Call) -> str | None:
        """``x.add_(y)`` as a statement."""
        func = call.func
        calls = list(self.job.facts.calls.get(call.number, {}).values())  # type: ignore[attr-defined]
        inplace = calls and all(_changes(c) for c in calls)
        if not inplace:
            return None
        method = isinstance(func, ast.Attribute) and str(calls[0].name).startswith("Tensor.")
        target = func.value if method and isinstance(func, ast.Attribute) else call.args[0]
        while isinstance(target, ast.Call) and isinstance(target.func, ast.Attribute):
            if not target.func.attr.endswith("_"):
                break
            target = target.func.value
        return self._stored(target, self.value(call))

    def _stored(self, target: Any, value: Value) -> str:
        """The assignment of a new value to what held the old one."""
        value = self._stopped(value)
        if isinstance(target, ast.Name):
            return f"{target.id} = {text_of(value)}"
        if isinstance(target, ast.Attribute):
            if target.attr == "data":
                return self._stored(target.value, value)
            owners = self.job.facts.owners.get(target.number, {}).values()  # type: ignore[attr-defined]
            held = owners and all(_held(owner, target.attr) for owner in owners)
            end = "[...]" if held else ""
            return f"{self.edited(target)}{end} = {text_of(value)}"
        if isinstance(target, ast.Subscript):
            calls = list(self.job.facts.calls.get(target.number, {}).values())  # type: ignore[attr-defined]
            if calls:  # an item of a tensor, itself changed
                base = self.value(target.value)
                given = calls[0].args
                whole = Call(None, "operator.setitem", [*given, calls[0].value or given[0]], {})
                whole.value = given[0]
                new = self._ruled(target, [whole], [base, self.index(target.slice), value], {})
                return self._stored(target.value, new)
            return f"{self.edited(target)} = {text_of(value)}"
        self.refuse(target, Refused("what is changed in place has no name", "assign it first"))
        return ""

    def _stopped(self, value: Value) -> Value:
        """A value without a gradient, within ``torch.no_grad()``."""
        start = "jax.lax.stop_gradient("
        if not self._gradientless or not isinstance(value, Tensor) or value.text.startswith(start):
            return value
        self.job.imports.add(("jax", ""))
        return value.with_text(f"{start}{value.text})")

    def _do_assign(self, node: ast.Assign) -> str | None:
        target = node.targets[0]
        calls = list(self.job.facts.calls.get(node.number, {}).values())  # type: ignore[attr-defined]
        if isinstance(target, ast.Subscript) and calls:
            operands = [self.value(target.value), self.index(target.slice), self.value(node.value)]
            return self._stored(target.value, self._ruled(node, calls, operands, {}))
        value = self.value(node.value)
        if isinstance(target, ast.Tuple | ast.List) and isinstance(value, Items):
            swapped = self._swapped(target, value)
            if swapped is not None:
                return swapped
        if isinstance(target, ast.Attribute) and text_of(value) == "None" and self._later(target):
            self.job.imports.add(("nnx", ""))
            return self.edited(node, {node.value: "nnx.data(None)"})
        owners = list(self.job.facts.owners.get(getattr(target, "number", -1), {}).values())
        del owners
        if isinstance(target, ast.Attribute) and target.attr == "__constants__":
            return None
        if isinstance(target, ast.Name) and target.id in ("__constants__", "__annotations__"):
            return None
        if isinstance(target, ast.Name) and len(node.targets) == 1 and text_of(value) == target.id:
            return None  # what relabels axes in PyTorch
        if (stopped := self._stopped(value)) is not value:
            return self.edited(node, {node.value: text_of(stopped)})
        return self.edited(node)

    def _later(self, target: ast.Attribute) -> bool:
        """Whether an attribute that is None here is something else elsewhere in the class."""
        if self.class_node is None:
            return False
        return any(
            isinstance(one, ast.Assign)
            and any(isinstance(t, ast.Attribute) and t.attr == target.attr for t in one.targets)
            and not (isinstance(one.value, ast.Constant) and one.value.value is None)
            for one in ast.walk(self.class_node)
        )

    def _swapped(self, target: Any, value: Items) -> str | None:
        """``B, C, H, W = x.shape`` of an image: the names in our order."""
        found = [re.fullmatch(r"(.+)\.shape\[(\d+)\]", text_of(item)) for item in value.items]
        if len(target.elts) != len(value.items) or not all(found) or value.text is not None:
            return None
        matches = [m for m in found if m]
        places = [int(m.group(2)) for m in matches]
        if len({m.group(1) for m in matches}) > 1 or sorted(places) != list(range(len(places))):
            return None
        names = [self.text(one) for one in target.elts]
        ours = [names[places.index(axis)] for axis in range(len(places))]
        return f"{', '.join(ours)} = {matches[0].group(1)}.shape"

    def _do_augassign(self, node: ast.AugAssign) -> str | None:
        calls = list(self.job.facts.calls.get(node.number, {}).values())  # type: ignore[attr-defined]
        target: Any = node.target
        if isinstance(target, ast.Subscript):
            return self._augmented_item(node, target)
        if not calls:
            return self.edited(node)
        if isinstance(target, ast.Name):
            old: Value = Plain(self._marked(target.id), None)
        else:
            old = Plain(self.edited(target), None)
            owners = self.job.facts.owners.get(target.number, {}).values()
            if owners and all(_held(owner, target.attr) for owner in owners):
                old = replace(old, text=old.text + "[...]")
        right = self._flat(self.value(node.value))
        value = self._ruled(node, calls, [old, right], {})
        symbol = self.source.segment(node)[len(self.source.segment(target)) :].lstrip()
        sign = symbol[: symbol.index("=")]
        if text_of(value) == f"{old.text} {sign} {text_of(right)}":
            return self.edited(node)
        return self._stored(target, value)

    def _marked(self, name: str) -> str:
        return (MARK if name in LIBRARIES else "") + name

    def _augmented_item(self, node: ast.AugAssign, target: ast.Subscript) -> str:
        facts = self.job.facts.calls
        key = node.number  # type: ignore[attr-defined]
        got = list(facts.get(-3 * key - 1, {}).values())
        added = list(facts.get(-3 * key - 2, {}).values())
        stored = list(facts.get(key, {}).values())
        if not got:
            return self.edited(node)
        base, index = self.value(target.value), self.index(target.slice)
        item = self._ruled(node, got, [base, index], {})
        new = self._ruled(node, added, [item, self._flat(self.value(node.value))], {})
        return self._stored(target.value, self._ruled(node, stored, [base, index, new], {}))

    def _do_annassign(self, node: ast.AnnAssign) -> str | None:
        if isinstance(node.target, ast.Name) and node.target.id == "__constants__":
            return None
        annotation = self.annotation(node.annotation)
        if annotation is not None:
            return self.edited(node, {node.annotation: annotation})
        if node.value is None:
            return None
        return f"{self.text(node.target)} = {self.text(node.value)}"

    def annotation(self, node: Any) -> str | None:
        """The new text of an annotation; None if it names what is not there any more."""
        if isinstance(node, ast.Subscript):
            several = isinstance(node.slice, ast.Tuple)
            parts = node.slice.elts if several else [node.slice]  # type: ignore[attr-defined]
            base, texts = self.annotation(node.value), list(map(self.annotation, parts))
            if base is not None and base.rpartition(".")[2] == "Union":
                texts = [text for text in texts if text is not None]
                return f"{base}[{', '.join(texts)}]" if len(texts) > 1 else "".join(texts) or None
            if base is None or None in texts:
                return None
            return f"{base}[{', '.join(map(str, texts))}]"
        if isinstance(node, ast.BinOp):
            texts = [self.annotation(node.left), self.annotation(node.right)]
            return " | ".join(text for text in texts if text is not None) or None
        if isinstance(node, ast.List):
            texts = list(map(self.annotation, node.elts))
            return None if None in texts else f"[{', '.join(map(str, texts))}]"
        if isinstance(node, ast.Name | ast.Attribute):
            return self._annotated_name(node)
        text = self.source.segment(node)
        text = re.sub(r"\b(torch\.)?Tensor\b", "jax.Array", text)
        if "jax.Array" in text:
            self.job.imports.add(("jax", ""))
        return None if re.search(r"\b(torch|nn)\.", text) else text

    def _annotated_name(self, node: Any) -> str | None:
        known, value = self.static(node)
        if not known:
            return None if isinstance(node, ast.Attribute) else node.id
        if isinstance(value, type) and is_users(value) and not self.ran(value):
            return None
        before = dict(self.job.refusals)
        text = self._reference(node, value)
        if len(self.job.refusals) > len(before):
            self.job.refusals = before
            return None
        module = (getattr(value, "__module__", "") or "").partition(".")[0]
        if text is None and module == "torch":
            return None
        return text or self.source.segment(node)

    def ran(self, cls: type) -> bool:
        """Whether any method of a class of the user's ran, if it has any."""
        try:
            node = self.job.sources.class_node(cls)
        except Refused:
            return True
        return _class_ran(node, self.job.facts)

    def _do_return(self, node: ast.Return) -> str:
        if node.value is not None and self._gradientless:
            return self.edited(node, {node.value: text_of(self._stopped(self.value(node.value)))})
        return self.edited(node)

    def _do_import(self, node: Any) -> str | None:
        names = [alias.name for alias in node.names]
        if any(name.partition(".")[0] == "torch" for name in names):
            return None
        return self.source.segment(node)

    def _do_importfrom(self, node: ast.ImportFrom) -> str | None:
        if (node.module or "").partition(".")[0] == "torch":
            return None
        return self.source.segment(node)

    def _do_assert(self, node: ast.Assert) -> str | None:
        if self._looks(node.test):
            self.job.note(f"{self.source.place(node)}: a check of values is left out")
            return None
        return self.edited(node)

    def _do_try(self, node: ast.Try) -> str | None:
        return self.edited(node)

    # Definitions.

    def _do_functiondef(self, node: ast.FunctionDef) -> str | None:
        if self.function is None and self.class_node is None:
            if node.number not in self.job.facts.entered:  # type: ignore[attr-defined]
                return self._stub(node)
        outer, self.function = self.function, self.function or node
        self._locals.append(_bound_names(node))
        mine = outer is None
        if mine:
            self.rngs = False
        try:
            return self._function_text(node, mine)
        finally:
            self._locals.pop()
            self.function = outer

    def _stub(self, node: ast.FunctionDef) -> str:
        """A function that did not run."""
        self.job.note(f"{self.source.place(node)}: {node.name} was {_NOT_RUN}")
        text = f'{" " * node.body[0].col_offset}raise NotImplementedError("{_NOT_RUN}")'
        return f"{self._header(node, 0, False)}\n{text}"

    def _function_text(self, node: ast.FunctionDef, mine: bool) -> str | None:
        key = node.number  # type: ignore[attr-defined]
        constructor = node.name == "__init__" and self.class_node is not None
        if not constructor and self._only_sets_weights(node):
            self.job.empty.add(key)
            return None
        colon = self._colon_of_header(node)
        body = self.block(node.body, colon)
        empty = body is None
        if empty and not constructor:
            real = [one for one in node.body if not isinstance(one, ast.Pass | ast.Expr)]
            if real or any(self._drops(one) for one in node.body):
                self.job.empty.add(key)
                return None
        added = self._added() if constructor else ""
        if constructor and empty and not added:
            if not self._takes_anything(node):
                return None
            body = self._pass(node.body)
        if constructor:
            body = (body or "") + added
            owner = self.class_node.number  # type: ignore[union-attr]
            if self.rngs or added and "rngs" in added:
                self.job.needs.add(owner)
            needs = owner in self.job.needs
        elif mine and self.rngs:
            self.job.needs.add(key)
            needs = True
        else:
            needs = key in self.job.needs and mine
        return self._header(node, colon, needs) + (body or self._pass(node.body))

    def _only_sets_weights(self, node: ast.FunctionDef) -> bool:
        returns = any(isinstance(n, ast.Return) and n.value is not None for n in ast.walk(node))
        return not returns and self._sets_weights(node)

    def _drops(self, node: Any) -> bool:
        return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)

    def _takes_anything(self, node: ast.FunctionDef) -> bool:
        args = node.args
        return bool(args.args[1:] or args.kwonlyargs or args.vararg or args.kwarg)

    def _added(self) -> str:
        """Layers that the rules need, made at the end of the constructor."""
        indent = "\n        "
        return "".join(f"{indent}self.{name} = {text}" for name, text in self.layers.items())

    def _colon_of_header(self, node: ast.FunctionDef) -> int:
        """After the colon of ``def f(…):``."""
        start = self.source.text.index("(", self.source.span(node)[0])
        position = closing(self.source.text, start)
        if node.returns is not None:
            position = self.source.span(node.returns)[1]
        return self.source.text.index(":", position) + 1

    def _header(self, node: ast.FunctionDef, colon: int, rngs: bool) -> str:
        begin = self.source.span(node)[0]
        kept = [d for d in node.decorator_list if self._decorator_stays(d)]
        indent = " " * node.col_offset
        lines = "".join(f"@{self.text(d)}\n{indent}" for d in kept)
        paren = self.source.text.index("(", begin)
        end = closing(self.source.text, paren)
        name = self.source.text[begin:paren]
        if self.class_node is not None and node in self.class_node.body:
            name = re.sub(r"\bforward\s*$", "__call__", name)
        given: dict[Any, str] = {}
        for arg in _annotated(node):
            annotation = arg.annotation and self.annotation(arg.annotation)
            given[arg] = f"{self._marked(arg.arg)}{f': {annotation}' if annotation else ''}"
        children = [*given, *_defaults(node)]
        inner = self._between(paren, end, node, children, given)
        if rngs:
            inner = self._with_rngs(node, inner)
        returns = self.annotation(node.returns) if node.returns is not None else ""
        return f"{lines}{name}{inner}{f' -> {returns}' if returns else ''}:"

    def _with_rngs(self, node: ast.FunctionDef, text: str) -> str:
        """The parameters in their parentheses, with rngs."""
        self.job.imports.add(("nnx", ""))
        if re.search(r"\brngs\b", text):
            return text
        args = node.args
        new = "rngs: nnx.Rngs"
        if args.kwarg is not None:
            star = "" if args.vararg or args.kwonlyargs else "*, "
            place = text.rindex("**")
            return f"{text[:place]}{star}{new}, {text[place:]}"
        star = "" if args.vararg or args.kwonlyargs else "*, "
        return with_argument(text, f"{star}{new}")

    def _decorator_stays(self, node: ast.expr) -> bool:
        known, value = self.static(node.func if isinstance(node, ast.Call) else node)
        module = getattr(value, "__module__", "") or ""
        if known and module.partition(".")[0] in ("torch", "torchvision"):
            return False
        segment = self.source.segment(node)
        return not segment.startswith(("torch", "register_model", "handle_legacy"))

    def _do_classdef(self, node: ast.ClassDef) -> str | None:
        outer, self.class_node = self.class_node, node
        layers, self.layers = self.layers, {}
        self._attributes.cache_clear()  # type: ignore[attr-defined]
        try:
            return self._class_text(node)
        finally:
            self.class_node, self.layers = outer, layers

    def _class_text(self, node: ast.ClassDef) -> str:
        if not _class_ran(node, self.job.facts):
            self.job.note(f"{self.source.place(node)}: {node.name} was {_NOT_RUN}")
            header = self._class_header(node, self._class_colon(node))
            text = f'raise NotImplementedError("{_NOT_RUN}")'
            return f"{header}\n    def __init__(self, *args, **kwargs):\n        {text}"
        methods = [one for one in node.body if isinstance(one, ast.FunctionDef)]
        # The constructor last: rules of other methods add layers to it.
        texts: dict[Any, str | None] = {}
        order = sorted(node.body, key=lambda one: getattr(one, "name", "") == "__init__")
        for one in order:
            texts[one] = self._member(one)
            used = "".join(text or "" for text in texts.values())
            for name in [name for name in self.layers if f"self.{name}" not in used]:
                del self.layers[name]  # of an argument that the rule has no use for
        constructor = next((m for m in methods if m.name == "__init__"), None)
        colon = self._class_colon(node)
        parts = [self._class_header(node, colon)]
        position = colon
        for one in node.body:
            begin, stop = self._begin(one), self.source.span(one)[1]
            before, text = self.source.text[position:begin], texts[one]
            if constructor is None and self.layers and isinstance(one, ast.FunctionDef) and text:
                parts += [before, self._new_constructor(node), "\n\n    "]
                constructor, before = one, ""
            if text is None or text == "":
                parts.append("" if isinstance(one, ast.FunctionDef) else _without_comments(before))
                position = self._line_end(stop)
                continue
            parts += [before, text]
            position = stop
        text = "".join(parts).rstrip()
        if text.endswith(":"):
            text += self._pass(node.body)
        return text

    def _new_constructor(self, node: ast.ClassDef) -> str:
        added = self._added()
        needs = "rngs" in added
        if needs:
            self.job.needs.add(node.number)  # type: ignore[attr-defined]
            self.job.imports.add(("nnx", ""))
        head = "*, rngs: nnx.Rngs" if needs else ""
        return f"def __init__(self{', ' if head else ''}{head}) -> None:{added}"

    def _member(self, node: Any) -> str | None:
        if isinstance(node, ast.FunctionDef):
            ran = node.number in self.job.facts.entered  # type: ignore[attr-defined]
            if not ran and node.name != "__init__":
                if not node.name.startswith("__"):
                    self.job.note(f"{self.source.place(node)}: {node.name} was {_NOT_RUN}")
                return None
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return self.source.segment(node)
        return self.statement(node)

    def _class_colon(self, node: ast.ClassDef) -> int:
        begin = self.source.span(node)[0]
        last = [*node.bases, *(k.value for k in node.keywords)]
        position = self.source.span(last[-1])[1] if last else begin
        return self.source.text.index(":", position) + 1

    def _class_header(self, node: ast.ClassDef, colon: int) -> str:
        begin = self.source.span(node)[0]
        kept = [d for d in node.decorator_list if self._decorator_stays(d)]
        lines = "".join(f"@{self.text(d)}\n" for d in kept)
        bases = [*node.bases, *(k.value for k in node.keywords)]
        return lines + self._between(begin, colon, node, bases, {})


# Parts.


_DTYPES = {
    "float": "jnp.float32",
    "double": "jnp.float64",
    "half": "jnp.float16",
    "bool": "jnp.bool_",
    "int64": "jnp.int_",
    "long": "jnp.int_",
    "int": "jnp.int32",
}


@functools.cache
def _classes() -> dict[type, str]:
    import torch

    return {
        torch.nn.Module: "nnx.Module",
        torch.nn.Sequential: "layers.Sequential",
        torch.nn.ModuleList: "nnx.List",
        torch.nn.ModuleDict: "layers.ModuleDict",
        torch.nn.ParameterList: "nnx.List",
        torch.nn.ParameterDict: "nnx.Dict",
        torch.nn.Parameter: "nnx.Param",
    }


def _class_ran(node: ast.ClassDef, facts: Facts) -> bool:
    methods = [one for one in node.body if isinstance(one, ast.FunctionDef)]
    return not methods or any(one.number in facts.entered for one in methods)  # type: ignore[attr-defined]


def _tensors(values: Iterator[Value]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Items):
            yield from _tensors(iter(value.items))
        elif isinstance(value, Tensor):
            yield value


def _ones(call: Call) -> int:
    """How many axes of the operands have one element."""
    values = iter((*call.args, *call.kwargs.values()))
    return sum(t.shape.count(1) for t in _tensors(values))


def _orders(call: Call) -> Any:
    """The orders of the operands."""
    values = iter((*call.args, *call.kwargs.values()))
    return tuple(t.order for t in _tensors(values))


def _kind(call: Call) -> str:
    import torch

    target = call.function
    while isinstance(target, functools.partial):
        target = target.func
    owner = getattr(target, "__self__", None)
    if isinstance(target, torch.nn.Module):
        return "module"
    if isinstance(owner, torch.nn.Module) and getattr(target, "__name__", "") == "forward":
        return "module"
    if isinstance(target, type):
        return "class" if issubclass(target, torch.nn.Module) else "other"
    if call.name is not None:
        return "rule"
    plain = plain_function(target)
    return "user" if plain is not None and is_users(plain) else "other"


def _plain_class(value: Any) -> Any:
    while isinstance(value, functools.partial):
        value = value.func
    return value


def _deep_tensor(value: Value) -> bool:
    if isinstance(value, Items):
        return any(map(_deep_tensor, value.items))
    return isinstance(value, Tensor)


def _changes(call: Call) -> bool:
    """Whether a call changes its first operand."""
    name = str(call.name)
    if name.endswith("_") and not name.endswith("__"):
        return True
    inplace = call.kwargs.get("inplace")
    return isinstance(inplace, Plain) and inplace.value is True


def _is_idle_dropout(call: Call) -> bool:
    """Whether a dropout has the probability 0."""
    p = call.kwargs.get("p", call.args[1] if len(call.args) > 1 else None)
    return str(call.name).startswith("F.dropout") and isinstance(p, Plain) and p.value == 0


def _are_modules(owners: list[Any]) -> bool:
    import torch

    return all(isinstance(owner, torch.nn.Module | super) for owner in owners)


def _held(owner: Any, name: str) -> bool:
    """Whether a module holds a parameter or a buffer of a name."""
    import torch

    if not isinstance(owner, torch.nn.Module):
        return False
    held = owner._parameters.get(name, owner._buffers.get(name))
    return held is not None


def _is_super(node: Any) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"
    )


def _retold(fact: Value, told: Value) -> Value:
    """What was seen, with the text of another value."""
    text = text_of(told)
    if isinstance(fact, Tensor):
        return replace(fact, text=text, binding=binding_of(told))
    if isinstance(fact, Items):
        if isinstance(told, Items) and len(told.items) == len(fact.items):
            items = tuple(map(_retold, fact.items, told.items))
            return Items(items, told.text, fact.kind)
        base = bound(told, ATOM)
        items = tuple(
            _retold(item, Plain(f"{base}[{i}]", None)) for i, item in enumerate(fact.items)
        )
        return Items(items, text, fact.kind)
    if isinstance(told, Items):
        return Plain(text, fact.value)
    constant = isinstance(told, Plain) and told.constant
    return Plain(text, fact.value, binding_of(told), constant=constant)


def _joined(items: tuple[Value, ...], kind: type) -> Value:
    """Neighbouring sizes as a slice: ``x.shape[1:3]``."""
    found = [re.fullmatch(r"(.+)\.shape\[(\d+)\]", text_of(item)) for item in items]
    matches = [m for m in found if m]
    if items and len(matches) == len(items) and len({m.group(1) for m in matches}) == 1:
        places = [int(m.group(2)) for m in matches]
        if places == list(range(places[0], places[0] + len(places))):
            base = matches[0].group(1)
            return Items(items, f"{base}.shape[{places[0]}:{places[-1] + 1}]", kind)
    return Items(items, None, kind)


def _literal_slice(node: Any) -> Any:
    if not isinstance(node, ast.Slice):
        return None
    try:
        parts = [p and ast.literal_eval(_bare(p)) for p in (node.lower, node.upper, node.step)]
    except ValueError:
        return None
    return slice(*parts)


def _bare(node: Any) -> Any:
    return ast.fix_missing_locations(ast.parse(ast.unparse(node), mode="eval").body)


def _children(node: Any) -> Iterator[Any]:
    """The children of a node that have a place in the text."""
    for child in ast.iter_child_nodes(node):
        if hasattr(child, "lineno"):
            if isinstance(child, ast.keyword):
                yield child.value
            else:
                yield child
        else:
            yield from _children(child)


def _annotated(node: Any) -> list[Any]:
    args = node.args
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    return [a for a in every if a is not None and (a.annotation is not None or a.arg in LIBRARIES)]


def _defaults(node: Any) -> list[Any]:
    return [*node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]


def _bound_names(node: Any) -> set[str]:
    """The names that a function binds."""
    args = node.args
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    names = {a.arg for a in every if a is not None}
    for one in ast.walk(node):
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
            names.add(one.id)
        elif isinstance(one, ast.FunctionDef | ast.ClassDef) and one is not node:
            names.add(one.name)
    return names


def _headed(node: ast.If) -> ast.If:
    made = ast.If(node.test, node.body, [])
    made.number, made.parent = node.number, node.parent  # type: ignore[attr-defined]
    return made


def _is_docstring(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _without_comments(text: str) -> str:
    """The text before a statement that goes: without the comments right above it."""
    lines = text.split("\n")
    while len(lines) > 1 and not lines[-1].strip() and len(lines) > 1:
        lines.pop()
        while lines and lines[-1].lstrip().startswith("#"):
            lines.pop()
        break
    return "\n".join(lines).rstrip(" ")


def flat(text: str) -> str:
    """A text on one line, without comments."""
    if "\n" not in text:
        return text
    if '"""' in text or "'''" in text:
        return text
    lines = []
    for line in text.split("\n"):
        if "#" in line:
            line = _without_comment(line)
        lines.append(line.strip())
    joined = " ".join(line for line in lines if line)
    return re.sub(r"([(\[{]) ", r"\1", re.sub(r",? ([)\]}])", r"\1", joined))


def _without_comment(line: str) -> str:
    try:
        for token in tokenize.generate_tokens(io.StringIO(line).readline):
            if token.type == tokenize.COMMENT:
                return line[: token.start[1]]
    except (tokenize.TokenError, IndentationError):
        match = re.search(r"#[^'\"]*$", line)
        return line[: match.start()] if match else line
    return line


def _same_tokens(one: str, other: str) -> bool:
    def tokens(text: str) -> str:
        return re.sub(r",(?=[)\]}])", "", re.sub(r"\s+", "", flat(text)))

    return tokens(one) == tokens(other)


def closing(text: str, start: int) -> int:
    """After the parenthesis that closes the one at ``start``."""
    depth, position = 0, start
    while position < len(text):
        char = text[position]
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth == 0:
                return position + 1
        elif char == "#":
            position = text.index("\n", position)
        elif char in "\"'":
            quote = text[position : position + 3]
            quote = quote if quote in ('"""', "'''") else char
            position += len(quote)
            while not text.startswith(quote, position):
                position += 2 if text[position] == "\\" else 1
            position += len(quote) - 1
        position += 1
    raise ValueError("unbalanced")


def with_argument(text: str, argument: str) -> str:
    """A text that ends with a call's arguments in parentheses, and one more of them."""
    assert text.endswith(")"), text
    inside = text[:-1]
    body = inside.rstrip()
    lines = inside.split("\n")
    if body.endswith("("):
        return f"{body}{argument.removeprefix('*, ') if argument.startswith('**') else argument})"
    if len(lines) > 1 and not lines[-1].strip():  # a closing parenthesis on its own line
        last = next(line for line in reversed(lines) if line.strip())
        indent = last[: len(last) - len(last.lstrip())]
        comma = "" if body.endswith(",") else ","
        argument = argument.replace("*, ", f"*,\n{indent}")
        return f"{body}{comma}\n{indent}{argument},\n{lines[-1]})"
    return f"{body.removesuffix(',')}, {argument})"


Rewritten = Callable[[], str]
