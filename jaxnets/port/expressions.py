"""Rewrites expressions: the new text of a node is the original text or the text of a rule."""

import ast
import builtins
import enum
import functools
import re
import types
from dataclasses import replace
from typing import Any

from jaxnets.port import modules
from jaxnets.port.job import NOT_RUN, Job, NotSeen, Refusal
from jaxnets.port.names import OPERATORS, canonical
from jaxnets.port.observe import Call, find_rule, leaf
from jaxnets.port.seen import (
    are_modules,
    constant,
    holds,
    is_idle_dropout,
    is_own_gradient,
    joined,
    ones,
    orders,
    with_text_of,
)
from jaxnets.port.sources import Source, enclosing, is_users, number_of, qualified
from jaxnets.port.texts import (
    CLASH,
    LIBRARIES,
    MARK,
    flat,
)
from jaxnets.port.trees import (
    bare,
    bound_names,
    children_of,
    imported,
    is_repeated,
    is_test,
    literal_slice,
    negated,
    own_binding,
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
    binding_of,
    bound,
    text_of,
)


class _Context(Context):
    """The context of rules in a function outside of a class, which has no attributes."""

    def layer(self, name: str, constructor: str) -> str:
        raise Refused("a function outside of a class cannot have a layer", "make it a method")

    def rngs(self) -> str:
        return "rngs"  # an argument that callers pass


class Expressions:
    """Rewrites the expressions of one top-level definition.

    Args:
        job: the state that all definitions share.
        source: the file.
        definition: the node of the top-level function, class or statement.
    """

    def __init__(self, job: Job, source: Source, definition: Any) -> None:
        self.job, self.source, self.definition = job, source, definition
        self.layers: dict[str, str] = {}
        self.methods: dict[str, str] = {}  # from functions that the constructor assigns
        self._attribute_of: dict[str, str] = {}  # within them, the variables that are attributes
        self.class_node: ast.ClassDef | None = None
        self.function: Any = None
        self.rngs = False  # whether the text so far uses rngs
        self._locals: list[set[str]] = []
        self._gradientless = 0  # the number of enclosing torch.no_grad() blocks
        self._cache: dict[int, Value] = {}
        self.guards: list[str] = []  # tests under which a statement would run unobserved code

    # Texts.

    def text(self, node: Any) -> str:
        """Returns the new text of any node."""
        if isinstance(node, ast.stmt):
            return self.statement(node) or "pass"
        return text_of(self.value(node)) if isinstance(node, ast.expr) else self.edited(node)

    def statement(self, node: Any) -> str | None:
        """Returns the new text of a statement, or None if it is removed."""
        raise NotImplementedError

    def _ran(self, node: Any) -> bool:
        """Whether a node ran on the example inputs."""
        keys = (getattr(one, "number", -1) for one in ast.walk(node))
        return any(key in self.job.facts.values or key in self.job.facts.calls for key in keys)

    def edited(self, node: Any, given: dict[Any, str] | None = None) -> str:
        """Returns the original text of a node with the texts of its children replaced."""
        start, end = self.source.span(node)
        return self._between(start, end, node, list(children_of(node)), given or {})

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
        """Returns the new text of a child, in parentheses if its new text needs them."""
        value = self.value(child)
        if isinstance(child, ast.Tuple) and isinstance(value, Items) and value.text is None:
            return self.edited(child)  # the original tuple may have no parentheses
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
        """Returns the new text and the observed value of an expression."""
        found = self._cache.get(number_of(node))
        found = found or self._decided(node)
        if found is None:
            special = getattr(self, f"_of_{type(node).__name__.lower()}", None)
            found = special(node) if special else self._default(node)
            self._cache[number_of(node)] = found
        return found

    def _decided(self, node: ast.expr) -> Value | None:
        """Returns the value of a test that is the same for all objects of the class, or None.

        Only if constructors are generated; otherwise attributes may differ for other objects.
        """
        if self.job.instances is None or not is_test(node):
            return None
        known, value = constant(node, self.objects)
        return Plain(str(bool(value)), bool(value), constant=True) if known else None

    def objects(self, node: Any) -> list[Any]:
        """Returns ``self.a.b`` for each object of the class; empty if unknown."""
        instances = self.job.instances
        if isinstance(node, ast.Name) and node.id == "self" and instances and self.class_node:
            cls = self._class()
            return [] if cls is None else instances.family(cls)
        known, value = self.static(node)
        if known and isinstance(value, enum.Enum):
            return [value]
        if isinstance(node, ast.Attribute) and instances and node.attr != "training":
            return instances.attributes_of(self.objects(node.value), node.attr)
        return []

    def _class(self) -> type | None:
        """Returns the class that is being written, or None."""
        raise NotImplementedError

    def _default(self, node: Any) -> Value:
        return self._with_text(node, self.edited(node), own_binding(node))

    def _with_text(self, node: Any, text: str, binding: int = ATOM) -> Value:
        """Returns a text with the observed value of its node."""
        facts = self.job.facts.values_at(node)
        if not facts:
            known = self._guess(node)
            if known is not None:
                return with_text_of(known, Plain(text, None, binding))
            literal = isinstance(node, ast.Constant)
            value = node.value if literal else None
            return Plain(text, value, binding, known=literal, constant=literal)
        return with_text_of(facts[0], Plain(text, None, binding))

    def _guess(self, node: Any) -> Value | None:
        """Returns the value of a variable elsewhere in the function if its order is the same."""
        if not isinstance(node, ast.Name) or self.function is None:
            return None
        found = [
            value
            for other in ast.walk(self.function)
            if isinstance(other, ast.Name) and other.id == node.id
            for value in self.job.facts.values_at(other)
        ]
        tensors = [value for value in found if isinstance(value, Tensor)]
        if found and len(tensors) == len(found) and len({t.order for t in tensors}) == 1:
            return tensors[-1]
        return None

    def _of_name(self, node: ast.Name) -> Value:
        if node.id in self._attribute_of:
            return self._with_text(node, self._attribute_of[node.id])
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
        """Rewrites an f-string by text replacement.

        Python 3.11 does not give reliable positions for the parts of an f-string.
        """
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
        if known and is_own_gradient(value):
            why = "a user-defined torch.autograd.Function has a custom gradient"
            self.refuse(
                node, Refused(why, "write it with jax.custom_vjp, or by operations of torch")
            )
        if known and (text := self._reference(node, value)) is not None:
            return Plain(text, value)
        if calls := self.job.facts.calls_at(node):
            return self._ruled(node, calls, [self.value(node.value)], {})
        owners = self.job.facts.owners_at(node)
        if node.attr == "training" and isinstance(node.ctx, ast.Load):
            context = self.context()
            return Plain(self._made(context, context.training()), None, Binding.NOT, known=False)
        if node.attr == "forward" and (not owners or are_modules(owners)):
            return Plain(f"{self._in_place(node, node.value)}.__call__", None, known=False)
        if (place := _place_of_field(owners, node.attr)) is not None:
            result = self.value(node.value)
            if isinstance(node.value, ast.Call) and isinstance(result, Items):
                return result.items[place]
            return self._with_text(node, f"{bound(result, ATOM)}[{place}]")
        text = self.edited(node)
        if owners and isinstance(node.ctx, ast.Load):
            held = [holds(owner, node.attr) for owner in owners]
            if all(held):
                return self._parameter(node, text, owners)
        return self._with_text(node, text)

    def _parameter(self, node: ast.Attribute, text: str, owners: list[Any]) -> Value:
        """Rewrites the access to a parameter or a buffer of a module."""
        rule = leaf(type(owners[0]))
        known = rule.parameters.get(node.attr) if rule is not None else None
        if known is not None:
            text = text.removesuffix(node.attr) + known[0]
        elif rule is not None and not is_users(type(owners[0])):
            self.refuse(node, Refused("a parameter of a layer is used by itself"))
        return self._with_text(node, f"{text}[...]")

    def _of_subscript(self, node: ast.Subscript) -> Value:
        if calls := self.job.facts.calls_at(node):
            operands = [self.value(node.value), self.index(node.slice)]
            return self._ruled(node, calls, operands, {})
        base = self.value(node.value)
        if isinstance(base, Items) and base.text is None and isinstance(node.ctx, ast.Load):
            return self._picked(node, base)
        return self._with_text(node, self.edited(node))

    def _picked(self, node: ast.Subscript, base: Items) -> Value:
        """Rewrites an index or a slice of items without a common name, such as image sizes."""
        try:
            index = eval(
                compile(ast.Expression(bare(node.slice)), "index", "eval"), {"__builtins__": {}}
            )
            if isinstance(node.slice, ast.Slice):
                raise ValueError
        except Exception:
            index = literal_slice(node.slice)
        if isinstance(index, int):
            return base.items[index]
        if isinstance(index, slice):
            return joined(base.items[index], base.kind)
        text = f"{text_of(base)}[{self.text(node.slice)}]"
        return self._with_text(node, text)

    def index(self, node: Any) -> Value:
        """Returns an index as a ``Value`` for rules."""
        if isinstance(node, ast.Slice):
            parts = [node.lower, node.upper, node.step]
            texts = ["" if p is None else text_of(self._flat(self.value(p))) for p in parts]
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
        """Rewrites ``and`` and ``or``; operands that are always true or false are removed."""
        neutral, decisive = ("True", "False") if isinstance(node.op, ast.And) else ("False", "True")
        texts = []
        for one in node.values:
            try:
                texts.append(text_of(self.value(one)))
            except NotSeen:  # never evaluated, as an earlier operand decided
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
        test = self.value(node.test)
        if text_of(test) in ("True", "False"):
            return self.value(node.body if text_of(test) == "True" else node.orelse)
        for one, other in ((node.body, node.orelse), (node.orelse, node.body)):
            try:
                self.value(one)
            except NotSeen:
                if self._ran(one) or not self._ran(other) or is_repeated(node):
                    raise
                missed = text_of(test) if one is node.body else negated(text_of(test))
                self.guards.append(missed)
                self.job.note(f"{self.source.place(one)}: {NOT_RUN}")
                return self.value(other)
        return self._default(node)

    def _operator(self, node: Any, kind: str, operands: list[Any]) -> Value:
        """Rewrites an operator by its rule if an operand is a tensor."""
        if calls := self.job.facts.calls_at(node):
            values = [self.value(one) for one in operands]
            return self._ruled(node, calls, values, {})
        if not self.job.facts.values_at(node):
            values = [self._flat(self.value(one)) for one in operands]
            if any(isinstance(value, Tensor) for value in values):
                return self._unseen(node, f"operator.{OPERATORS[kind]}", values, {})
        return self._default(node)

    def _of_lambda(self, node: ast.Lambda) -> Value:
        self._locals.append(bound_names(node))
        try:
            return self._default(node)
        finally:
            self._locals.pop()

    # Rules.

    def context(self, result: Any = None) -> Context:
        """Returns a context for applying a rule at this place."""
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

    def _constructing(self) -> bool:
        """Whether this function runs only while the network is created."""
        called = self.job.facts.called
        return not self._attribute_of and getattr(self.function, "number", -1) not in called

    def _made(self, context: Context, text: str) -> str:
        if re.search(r"(?<![\w.])rngs\b(?!\s*=)", text):
            self.rngs = True
        return text

    def _ruled(
        self, node: Any, calls: list[Call], args: list[Value], kwargs: dict[str, Value]
    ) -> Value:
        """Rewrites an operation by its rule, whose text must be the same for all observed calls."""
        args = [self._flat(value) for value in args]
        kwargs = {name: self._flat(value) for name, value in kwargs.items()}
        made: dict[str, tuple[Value, Call]] = {}
        for call in sorted(calls, key=ones):
            rule = find_rule(call.name)
            if call.refused is not None:
                self.refuse(node, call.refused)
                return self._default(node)
            if rule is None:
                value = self._default(node)
                made.setdefault(text_of(value), (value, call))
                continue
            applied = self._applied(node, rule, call, args, kwargs)
            if applied is None:
                return self._default(node)
            made.setdefault(text_of(applied), (applied, call))
        return self._only(node, made)

    def _only(self, node: Any, made: dict[str, tuple[Value, Call]]) -> Value:
        """Returns the only text of an operation, or refuses it.

        If the texts of calls differ only because of axes of size 1, the text of the call with the
        fewest such axes is valid for all calls.
        """
        (first, call), *others = made.values()
        for _, other in others:
            if orders(other) != orders(call) or ones(other) <= ones(call):
                return self._clash(node, made, first)
        return first

    def _clash(self, node: Any, made: dict[str, tuple[Value, Call]], first: Value) -> Value:
        """Refuses an operation with several texts.

        For a list of sizes, only the differing sizes are marked; a later use of them is refused.
        """
        values = [value for value, _ in made.values()]
        lists = [value.items for value in values if isinstance(value, Items)]
        if len(lists) == len(values) and len(set(map(len, lists))) == 1:
            columns = zip(*lists, strict=True)
            same = [len(set(map(text_of, column))) == 1 for column in columns]
            items = [
                one if ok else Plain(CLASH, None) for one, ok in zip(lists[0], same, strict=True)
            ]
            return Items(tuple(items), None)
        if self.function is not None:
            self.job.conflicts.add(number_of(self.function))
        ways = " or ".join(list(made)[:3])
        self.refuse(node, Refused(f"this is {ways}, depending on the arguments"))
        return first

    def _applied(
        self, node: Any, rule: Any, call: Call, args: list[Value], kwargs: dict[str, Value]
    ) -> Value | None:
        """Applies a rule to the texts of the arguments and the observed values of a call.

        Refuses the node and returns None if the rule does not apply.
        """
        given = list(map(with_text_of, call.args, args)) if len(args) == len(call.args) else None
        if given is None:
            self.refuse(node, Refused("the arguments cannot be matched to the observed call"))
            return None
        named = {k: with_text_of(v, kwargs.get(k, Plain("", None))) for k, v in call.kwargs.items()}
        context = self.context(call.result)
        context.order = call.value.order if isinstance(call.value, Tensor) else None
        try:
            value = rule(given, named, context)
        except Refused as refused:
            if self.class_node is None and is_idle_dropout(call):
                self.job.note(f"{self.source.place(node)}: {call.name} with p = 0 is omitted")
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
        """Rewrites an operation that did not run by its rule, from the texts alone."""
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
        """Returns a value whose text has no line breaks, so that rules can move it."""
        if isinstance(value, Items):
            text = value.text and flat(value.text)
            return replace(value, text=text, items=tuple(map(self._flat, value.items)))
        return replace(value, text=flat(value.text)) if "\n" in value.text else value

    def refuse(self, node: Any, refused: Refused) -> None:
        """Records that a construct cannot be ported.

        Raises:
            NotSeen: if the construct did not run, so that it can be omitted.
        """
        statement = node if isinstance(node, ast.stmt) else enclosing(node, ast.stmt)
        header = isinstance(statement, ast.FunctionDef | ast.ClassDef)
        if self.function is not None and not header and not self._ran(statement):
            raise NotSeen(refused.why)
        construct = flat(self.source.segment(node))
        construct = construct if len(construct) < 80 else construct[:77] + "..."
        where = qualified(self.function) if self.function is not None else ""
        place = self.source.place(node)
        found = Refusal(place, where, construct, refused.why, refused.what_to_do)
        self.job.refusals.setdefault((place, construct), found)

    # Global names.

    def static(self, node: Any) -> tuple[bool, Any]:
        """Evaluates an expression that is a global name with attributes.

        Returns:
            Whether it is such an expression, and its value.
        """
        if isinstance(node, ast.Name):
            if any(node.id in names for names in self._locals):
                return False, None
            if node.id in self.source.names:
                return True, self.source.names[node.id]
            if hasattr(builtins, node.id):
                return True, getattr(builtins, node.id)
            return imported(self.function, node.id, self.source.names.get("__package__"))
        if isinstance(node, ast.Attribute):
            known, base = self.static(node.value)
            if known and isinstance(base, types.ModuleType | type):
                return hasattr(base, node.attr), getattr(base, node.attr, None)
        return False, None

    def _reference(self, node: Any, value: Any) -> str | None:
        """Returns the new text of a PyTorch class, function or constant; None for other names."""
        import torch

        if isinstance(value, types.ModuleType):
            return None
        if isinstance(value, torch.dtype):
            self.job.imports.add(("jnp", ""))
            return _DTYPES.get(str(value).removeprefix("torch."), f"jnp.{str(value)[6:]}")
        if value is torch.Tensor:
            self.job.imports.add(("jax", ""))
            return "jax.Array"
        if value is torch.finfo or value is torch.iinfo:
            self.job.imports.add(("jnp", ""))
            return f"jnp.{value.__name__}"
        if value is torch.no_grad and not isinstance(node.parent, ast.Call):
            if not self._ran(node):
                raise NotSeen("torch.no_grad")
            what = "write `with torch.no_grad():` around the code without gradients"
            self.refuse(node, Refused("torch.no_grad is stored in a variable", what))
        if value is torch.__version__:
            return repr(str(value))
        special = counterparts().get(value) if isinstance(value, type) else None
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
        """Returns the bare name of a user's class or function that is accessed through a module."""
        if not isinstance(node, ast.Attribute) or "." in value.__qualname__:
            return None
        self.job.reached[value.__name__] = value
        return value.__name__

    def _function_reference(self, node: Any, name: str) -> str | None:
        """Returns the text of a library function as a value: ``jax.nn.relu``, or a lambda."""
        try:
            return self._library_function(name)
        except Refused as refused:
            self.refuse(node, refused)
            return None

    def _library_function(self, name: str) -> str:
        """Returns a library function as a value, found by applying its rule to a variable ``x``."""
        import torch

        rule = find_rule(name)
        if rule is None:
            raise Refused(f"{name} has no rule")
        tensor = Tensor("x", (2, 3), (0, 1), torch.float32)
        context = self.context(torch.zeros(2, 3))
        try:
            text = text_of(rule([tensor], {}, context))
        except Exception as error:
            raise Refused(f"{name} as a value: {error}") from error
        return text.removesuffix("(x)") if text.endswith("(x)") else f"(lambda x: {text})"

    def function_text(self, function: Any) -> str | None:
        """Returns the text of a function as a value, or None if its name is the text.

        Raises:
            Refused: if the function has no counterpart.
        """
        name = canonical(function)
        if name is not None:
            root, _, rest = name.partition(".")
            if root in ("torch", "F", "Tensor"):
                return self._library_function(name)
            if root in ("math", "operator"):
                return self.context().use(root, rest)
            return rest if root == "builtins" else None
        if getattr(function, "__name__", "") == "<lambda>" and not function.__closure__:
            node = self.job.sources.function(function)
            return type(self)(self.job, self.job.sources.of(node), node).text(node)
        return None


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
def counterparts() -> dict[type, str]:
    """Returns the counterparts of PyTorch's base classes and containers."""
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


def _place_of_field(owners: list[Any], name: str) -> int | None:
    """Returns the index of a field of PyTorch's named tuples, such as ``values``, or None."""
    if not owners or any(type(one).__module__ != "torch.return_types" for one in owners):
        return None
    field = getattr(owners[0], name)
    return next((place for place, one in enumerate(owners[0]) if one is field), None)
