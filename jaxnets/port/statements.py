"""Rewrites statements: assignments, in-place changes, blocks."""

import ast
import re
import types
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jaxnets.port.aliases import read_later
from jaxnets.port.calls import Calls
from jaxnets.port.job import NOT_RUN, NotSeen
from jaxnets.port.names import canonical
from jaxnets.port.observe import Call, leaf
from jaxnets.port.seen import (
    are_modules,
    changes,
    class_ran,
    holds,
)
from jaxnets.port.sources import FOREIGN, is_users, number_of, plain_function
from jaxnets.port.texts import (
    CLASH,
    LIBRARIES,
    MARK,
    without_comments,
)
from jaxnets.port.trees import (
    attribute_variables,
    bound_names,
    children_of,
    defaults,
    headed,
    imported,
    is_docstring,
    origin,
)
from jaxnets.port.values import (
    Items,
    Plain,
    Refused,
    Tensor,
    Value,
    binding_of,
    text_of,
)

#: Context managers that are removed: they configure PyTorch or disable gradients.
_WITHOUT_GRADIENT = ("no_grad", "inference_mode")
_IDLE = (*_WITHOUT_GRADIENT, "autocast", "record_function", "sdpa_kernel", "sdp_kernel")


class Statements(Calls):
    """Adds the rewriting of statements to ``Calls``."""

    def statement(self, node: Any) -> str | None:
        """Returns the new text of a statement, or None if it is removed."""
        special = getattr(self, f"_do_{type(node).__name__.lower()}", None)
        try:
            text = special(node) if special else self.edited(node)
            if text and CLASH in text:
                self.job.conflicts.add(number_of(self.function))
                self.refuse(node, Refused("the order of its sizes depends on the arguments"))
            return text and text.replace(CLASH, "...")
        except NotSeen as error:
            if self._ran(node):
                self.refuse(node, Refused(f"not supported: {error}"))
                return self.source.segment(node)
            raise

    def block(self, statements: list[ast.stmt], start: int) -> str | None:
        """Returns the text from ``start`` to the end of the last statement, or None if empty."""
        end = self.source.span(statements[-1])[1]
        parts: list[str] = []
        position, left = start, False
        # If a statement cannot be written because it did not run, everything from the first
        # statement of the block that did not run is replaced by one that raises.
        missed: list[str] | None = None  # the parts before the first statement that did not run
        for one in statements:
            before = self._before(one, position)
            if missed is None and not self._ran(one) and not is_docstring(one):
                missed = [*parts, before]
            outer, self.guards = self.guards, []
            try:
                text = self._guarded(one, self.statement(one))
            except NotSeen:
                if self._ran(one):
                    raise
                self.job.note(f"{self.source.place(one)}: {NOT_RUN}")
                text = f'raise NotImplementedError("{NOT_RUN}")'
                return "".join([*(missed or [*parts, before]), text])
            finally:
                self.guards = outer
            stop = self.source.span(one)[1]
            if text is None or text == "":
                parts.append(without_comments(before))
                position = stop if self._another_follows(stop) else self._line_end(stop)
            else:
                left = left or not is_docstring(one)
                parts += [before, text]
                position = stop
        if not left and not any(map(is_docstring, statements)):
            return None
        text = "".join([*parts, self.source.text[position:end]] if position < end else parts)
        if not left:
            return None
        return text.rstrip()

    def _indent(self, node: Any) -> str:
        """Returns the white space before the statements of a block, given one of them."""
        begin = self._begin(node)
        line = self.source.text[self.source.text.rfind("\n", 0, begin) + 1 : begin]
        if not line.strip():
            return line
        names = ("body", "orelse", "finalbody")
        blocks = [getattr(node.parent, name, []) for name in names]
        first = next(block[0] for block in blocks if isinstance(block, list) and node in block)
        # Another statement is before it on the line, or the header, as in ``if x: y``.
        return self._indent(first) if first is not node else self._indent(node.parent) + "    "

    def _before(self, node: ast.stmt, position: int) -> str:
        """Returns the text before a statement, which begins a new line if it follows a semicolon.

        Args:
            node: the statement.
            position: the end of the statement before it, or of the block's header.
        """
        text = self.source.text[position : self._begin(node)]
        semicolon = re.match(r"[ \t]*;", text)
        if semicolon is not None:
            text = text[semicolon.end() :]
        elif text.strip() or not self._another_follows(self.source.span(node)[1]):
            return text
        return text if "\n" in text else f"\n{self._indent(node)}"

    def _another_follows(self, stop: int) -> bool:
        """Whether a statement that ends here is followed by another one on its line."""
        return re.match(r"[ \t]*;[ \t]*[^\s#]", self.source.text[stop:]) is not None

    def _guarded(self, node: Any, text: str | None) -> str | None:
        """Returns a statement after tests that raise if it would run unobserved code."""
        if not text:
            return text
        indent = f"\n{self._indent(node)}"
        missed = f'{indent}    raise NotImplementedError("{NOT_RUN}"){indent}'
        return "".join(f"if {test}:{missed}" for test in self.guards) + text

    def _begin(self, node: Any) -> int:
        first = min([node, *getattr(node, "decorator_list", [])], key=lambda n: n.lineno)
        begin = self.source.span(first)[0]
        return begin - 1 if self.source.text[begin - 1 : begin] == "@" else begin

    def _line_end(self, position: int) -> int:
        """Returns the index of the end of the line of a removed statement, including comments."""
        end = self.source.text.find("\n", position)
        return len(self.source.text) if end < 0 else end

    def _compound(self, node: Any, parts: list[tuple[list[ast.stmt], str]]) -> str | None:
        """Rewrites a statement with blocks; returns None if all blocks are empty."""
        header_end = self._colon(node, parts[0][0])
        start = self._begin(node)
        heads = [c for c in children_of(node) if not isinstance(c, ast.stmt | ast.ExceptHandler)]
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
        return f"\n{self._indent(statements[0])}pass"

    def _colon(self, node: Any, statements: list[ast.stmt]) -> int:
        """Returns the index after the colon before a block."""
        begin = self._begin(statements[0])
        return self.source.text.rindex(":", 0, begin) + 1 if begin else 0

    def _depends_on_values(self, test: Any) -> bool:
        """Whether a test depends on the values of a tensor."""
        if isinstance(test, ast.BoolOp):
            return any(map(self._depends_on_values, test.values))
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return self._depends_on_values(test.operand)
        facts = self.job.facts.values_at(test)
        return any(isinstance(fact, Tensor) for fact in facts)

    def _note_dependence(self, test: ast.expr) -> None:
        """Adds a note if a test depends on the values of a tensor."""
        if self._depends_on_values(test) and not self._constructing():
            self.job.eager = True
            where = self.source.place(test)
            self.job.note(f"{where}: depends on array values, so it does not work in jax.jit")

    def _do_if(self, node: ast.If) -> str | None:
        self._note_dependence(node.test)
        test = text_of(self.value(node.test))
        if test in ("True", "False"):
            chosen = node.body if test == "True" else node.orelse
            if chosen and self.source.segment(chosen[0]).startswith("elif"):
                return (self.statement(chosen[0]) or "").removeprefix("el") or None
            return self._dedented(node, chosen) if chosen else None
        elif_ = len(node.orelse) == 1 and self.source.segment(node.orelse[0]).startswith("elif")
        parts = [(node.body, "if")]
        if node.orelse and not elif_:
            parts.append((node.orelse, "else"))
        if not elif_:
            return self._compound(node, parts)
        head = self._compound(ast.copy_location(headed(node), node), parts)
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
        """Returns the statements of a block without its header, indented like the header."""
        text = self.block(statements, self._begin(statements[0]))
        if text is None:
            return None
        inner, outer = self._indent(statements[0]), self._indent(node)
        if isinstance(statements[0], ast.If):
            text = text.removeprefix("el")  # "elif" becomes "if"
        lines = text.lstrip().split("\n")
        moved = inner.removeprefix(outer)
        return "\n".join([lines[0], *(line.removeprefix(moved) for line in lines[1:])])

    def _do_for(self, node: ast.For) -> str | None:
        if self._sets_weights(node):
            self.job.note(f"{self.source.place(node)}: initialization is not ported")
            return None
        return self._compound(
            node, [(node.body, ""), *([(node.orelse, "")] if node.orelse else [])]
        )

    def _sets_weights(self, node: Any) -> bool:
        """Whether a statement only initializes weights."""
        sets = False
        for one in ast.walk(node):
            if isinstance(one, ast.Call):
                sets = sets or self._is_init(one)
                attr = one.func.attr if isinstance(one.func, ast.Attribute) else ""
                if attr in ("append", "add_module", "register_buffer", "extend"):
                    return False
            elif (
                isinstance(one, ast.Attribute)
                and isinstance(one.ctx, ast.Store)
                and one.attr != "data"
            ):
                return False
        return sets

    def _is_init(self, node: ast.Call) -> bool:
        """Whether a call initializes weights."""
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
        """Whether the port of a user's function is empty."""
        function = plain_function(value)
        if function is None or not is_users(function):
            return False
        try:
            return number_of(self.job.sources.function(function)) in self.job.empty
        except Refused:
            return False

    def _do_while(self, node: ast.While) -> str | None:
        self._note_dependence(node.test)
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
        if all(name in _IDLE for name in names):
            stops = any(self._stops_gradient(item.context_expr) for item in node.items)
            self._gradientless += stops and not self._constructing()
            try:
                return self._dedented(node, node.body)
            finally:
                self._gradientless -= stops and not self._constructing()
        return self._compound(node, [(node.body, "")])

    def _stops_gradient(self, node: ast.expr) -> bool:
        """Whether a context manager or decorator disables gradients."""
        known, value = self.static(node.func if isinstance(node, ast.Call) else node)
        return known and getattr(value, "__qualname__", "") in _WITHOUT_GRADIENT

    def _do_expr(self, node: ast.Expr) -> str | None:
        call = node.value
        if isinstance(call, ast.Tuple) and len(call.elts) == 1:  # a call with a trailing comma
            call = call.elts[0]
        if isinstance(call, ast.Constant):
            return self.source.segment(node)
        if isinstance(call, ast.Call):
            if self._is_removed(call):
                return None
            known, value = self.static(call.func)
            if known and canonical(value) == "torch._assert":
                if self._depends_on_values(call.args[0]):
                    return None
                return f"assert {', '.join(map(self.text, call.args))}"
            changed = self._in_place_call(call)
            if changed is not None:
                return changed
            if (name := self._changed_by(call)) is not None:
                return f"{name} = {self.text(call)}"
        return self.text(call)

    def _is_removed(self, call: ast.Call) -> bool:
        """Whether a call as a statement is removed, such as initialization or logging."""
        known, value = self.static(call.func)
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if self._is_init(call) or "_log_api_usage" in name:
            return True
        if name in ("reset_parameters", "requires_grad_", "flatten_parameters"):
            return True
        calls = self.job.facts.calls_at(call)
        functions = [c.function for c in calls] or ([value] if known else [])
        if functions and all(self._is_empty(f) for f in functions):
            return True
        if name == "apply" and call.args:
            found = self.job.facts.values_at(call.args[0])
            return any(isinstance(v, Plain) and self._is_empty(v.value) for v in found)
        return False

    def _changed_by(self, call: ast.Call) -> str | None:
        """Returns the name of the variable that a user's function changes and returns, or None."""
        places = {one.returned for one in self.job.facts.calls_at(call)}
        place = places.pop() if len(places) == 1 else None
        if place is None or place >= len(call.args):
            return None
        given = call.args[place]
        return given.id if isinstance(given, ast.Name) else None

    def _in_place_call(self, call: ast.Call) -> str | None:
        """Rewrites an in-place call such as ``x.add_(y)`` as an assignment."""
        func = call.func
        calls = self.job.facts.calls_at(call)
        inplace = calls and all(changes(c) for c in calls)
        if not inplace:
            if not calls and isinstance(func, ast.Attribute):
                self._not_seen(func)
            return None
        method = isinstance(func, ast.Attribute) and str(calls[0].name).startswith("Tensor.")
        target = func.value if method and isinstance(func, ast.Attribute) else call.args[0]
        while isinstance(target, ast.Call) and isinstance(target.func, ast.Attribute):
            if not target.func.attr.endswith("_"):
                break
            target = target.func.value
        return self._stored(target, self.value(call))

    def _not_seen(self, method: ast.Attribute) -> None:
        """Raises ``NotSeen`` for an in-place method of a tensor that did not run."""
        if method.attr.endswith("_") and isinstance(self.value(method.value), Tensor):
            raise NotSeen(method.attr)

    def _stored(self, target: Any, value: Value) -> str:
        """Returns the assignment of a new value to a target that is changed in place."""
        self._refuse_other_names(target)
        value = self._without_gradient(value)
        if isinstance(target, ast.Name):
            return f"{target.id} = {text_of(value)}"
        if isinstance(target, ast.Attribute):
            if target.attr == "data":
                return self._stored(target.value, value)
            end = "[...]" if self._is_variable(target) else ""
            return f"{self.edited(target)}{end} = {text_of(value)}"
        if isinstance(target, ast.Subscript):
            calls = self.job.facts.calls_at(target)
            if calls:  # an item of a tensor, itself changed
                base = self.value(target.value)
                given = calls[0].args
                whole = Call(None, "operator.setitem", [*given, calls[0].value or given[0]], {})
                whole.value = given[0]
                new = self._ruled(target, [whole], [base, self.index(target.slice), value], {})
                return self._stored(target.value, new)
            return f"{self.edited(target)} = {text_of(value)}"
        why = "an expression without a name is changed in place"
        self.refuse(target, Refused(why, "assign it to a variable first"))
        return ""

    def _refuse_other_names(self, target: Any) -> None:
        """Refuses an in-place change of memory that another variable shares."""
        base = target
        while isinstance(base, ast.Subscript):
            base = base.value
        facts = self.job.facts.values_at(base)
        if not isinstance(base, ast.Name) or self.function is None:
            return
        other = read_later(self.function, base.id, target)
        if other is None or (facts and not any(isinstance(one, Tensor) for one in facts)):
            return
        why = f"{other} changes with {base.id}, as both have the same elements in PyTorch"
        self.refuse(target, Refused(why, f"change {other} itself, or a copy made by clone()"))

    def _is_variable(self, target: ast.Attribute) -> bool:
        """Whether an attribute is a parameter or a buffer."""
        owners = self.job.facts.owners_at(target)
        if not owners:  # the attribute is only written
            facts = self.job.facts.values_at(target.value)
            owners = [fact.value for fact in facts if isinstance(fact, Plain)]
        return bool(owners) and all(holds(owner, target.attr) for owner in owners)

    def _without_gradient(self, value: Value) -> Value:
        """Stops the gradient of a value inside ``torch.no_grad()``."""
        if isinstance(value, Tensor) and not getattr(value.dtype, "is_floating_point", True):
            return value  # integers have no gradient
        start = "jax.lax.stop_gradient("
        if not self._gradientless or not isinstance(value, Tensor) or value.text.startswith(start):
            return value
        self.job.imports.add(("jax", ""))
        return value.with_text(f"{start}{value.text})")

    def _do_assign(self, node: ast.Assign) -> str | None:
        target = node.targets[0]
        calls = self.job.facts.calls_at(node)
        if isinstance(target, ast.Subscript) and calls:
            operands = [self.value(target.value), self.index(target.slice), self.value(node.value)]
            return self._stored(target.value, self._ruled(node, calls, operands, {}))
        if (tied := self._tied(target, node.value)) is not None:
            return tied
        method = self._method_of(target, node.value)
        if method is not None and isinstance(target, ast.Attribute):
            self.methods[target.attr] = method
            return None
        if _is_weight(target) and not self._ran(node):
            raise NotSeen("of which layer this is")
        fixed = self.job.facts.assigned
        if (converted := self._converted(node, fixed, number_of(node))) is not None:
            return self.edited(node, {node.value: converted})
        value = self.value(node.value)
        partial = isinstance(node.value, ast.Tuple | ast.List | ast.Subscript)  # of all sizes
        if isinstance(target, ast.Tuple | ast.List) and isinstance(value, Items) and not partial:
            swapped = self._swapped(target, value)
            if swapped is not None:
                return swapped
        if (
            isinstance(target, ast.Attribute)
            and text_of(value) == "None"
            and self._is_assigned_elsewhere(target)
        ):
            self.job.imports.add(("nnx", ""))
            return self.edited(node, {node.value: "nnx.data(None)"})
        if isinstance(target, ast.Attribute) and target.attr == "__constants__":
            return None
        if isinstance(target, ast.Name) and target.id in ("__constants__", "__annotations__"):
            return None
        if isinstance(target, ast.Name) and len(node.targets) == 1 and text_of(value) == target.id:
            return None  # a permutation in PyTorch, which only changes the recorded order
        if isinstance(target, ast.Tuple) and isinstance(value, Items) and value.text is None:
            names = [getattr(one, "id", "") for one in target.elts]
            if names == list(map(text_of, value.items)):
                return None
        if (stopped := self._without_gradient(value)) is not value:
            return self.edited(node, {node.value: text_of(stopped)})
        return self.edited(node)

    def _tied(self, target: Any, value: Any) -> str | None:
        """Rewrites tied weights: ``self.head.weight = self.embedding.weight``."""
        if not isinstance(target, ast.Attribute) or not isinstance(value, ast.Attribute):
            return None
        kinds: dict[Any, str] = {}
        for node in (target.value, value.value):
            facts = self.job.facts.values_at(node)
            modules = [fact.value for fact in facts if isinstance(fact, Plain)]
            if not modules or not are_modules(modules) or leaf(type(modules[0])) is None:
                return None
            kinds[leaf(type(modules[0])).name] = self.text(node)
        if kinds.keys() == {"Linear", "Embedding"} and target.attr == "weight":
            self.job.imports.add(("layers", ""))
            linear = kinds["Linear"]
            return f"{linear} = layers.TiedLinear({kinds['Embedding']}, {linear}.bias)"
        rule = leaf(type(modules[0]))
        if len(kinds) > 1 or target.attr not in rule.parameters:
            self.refuse(target, Refused("two layers of different kinds share a weight"))
            return None
        name = rule.parameters[target.attr][0]
        return f"{self.text(target.value)}.{name} = {self.text(value.value)}.{name}"

    def _method_of(self, target: Any, value: Any) -> str | None:
        """Returns the method for ``self.f = lambda x: …`` in a constructor, if it reads modules.

        A function in an attribute would keep the modules that it was created with in every copy
        of the network, such as those that ``jax.jit`` traces.
        """
        constructor = getattr(self.function, "name", "") == "__init__"
        is_own = isinstance(target, ast.Attribute) and getattr(target.value, "id", "") == "self"
        if not (constructor and is_own and isinstance(value, ast.Lambda)):
            return None
        attributes = {"self": "self"} | attribute_variables(self.function)
        given = [arg.arg for arg in value.args.args]
        read = {n.id for n in ast.walk(value.body) if isinstance(n, ast.Name)} - set(given)
        bound = bound_names(self.function) - attributes.keys()
        if not read & attributes.keys() or read & bound or defaults(value) or value.args.vararg:
            return None
        self._attribute_of = attributes
        self._locals.append(bound_names(value))
        try:
            body = self.text(value.body)
        finally:
            self._attribute_of = {}
            self._locals.pop()
        assert self.class_node is not None
        indent = " " * (self.class_node.col_offset + 8)
        body = f"({body})" if "\n" in body else body
        return f"def {target.attr}({', '.join(['self', *given])}):\n{indent}return {body}"

    def _is_assigned_elsewhere(self, target: ast.Attribute) -> bool:
        """Whether an attribute that is None here is assigned elsewhere in the class."""
        if self.class_node is None:
            return False
        return any(
            isinstance(one, ast.Assign)
            and any(isinstance(t, ast.Attribute) and t.attr == target.attr for t in one.targets)
            and not (isinstance(one.value, ast.Constant) and one.value.value is None)
            for one in ast.walk(self.class_node)
        )

    def _swapped(self, target: Any, value: Items) -> str | None:
        """Rewrites ``B, C, H, W = x.shape`` with the names in the port's order."""
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
        calls = self.job.facts.calls_at(node)
        target: Any = node.target
        if isinstance(target, ast.Subscript):
            return self._augmented_item(node, target)
        if not calls:
            return self.edited(node)
        held = isinstance(target, ast.Attribute) and self._is_variable(target)
        old = Plain(self.edited(target) + ("[...]" if held else ""), None)
        if isinstance(target, ast.Name):
            old = Plain(self._marked(target.id), None)
        right = self._flat(self.value(node.value))
        value = self._ruled(node, calls, [old, right], {})
        symbol = self.source.segment(node)[len(self.source.segment(target)) :].lstrip()
        sign = symbol[: symbol.index("=")]
        self._refuse_other_names(target)
        changed_by_gradient = self._without_gradient(value) is not value
        if text_of(value) == f"{old.text} {sign} {text_of(right)}" and not changed_by_gradient:
            return f"{old.text} {sign}= {text_of(right)}" if held else self.edited(node)
        return self._stored(target, value)

    def _marked(self, name: str) -> str:
        return (MARK if name in LIBRARIES else "") + name

    def _augmented_item(self, node: ast.AugAssign, target: ast.Subscript) -> str:
        """Rewrites ``base[index] += value``, whose three operations were recorded separately."""
        facts = self.job.facts.calls
        key = number_of(node)
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
        none = isinstance(node.value, ast.Constant) and node.value.value is None
        if (
            isinstance(node.target, ast.Attribute)
            and none
            and self._is_assigned_elsewhere(node.target)
        ):
            self.job.imports.add(("nnx", ""))
            return f"{self.text(node.target)} = nnx.data(None)"
        if annotation is not None:
            return self.edited(node, {node.annotation: annotation})
        if node.value is None:
            return None
        return f"{self.text(node.target)} = {self.text(node.value)}"

    def annotation(self, node: Any) -> str | None:
        """Returns the new text of an annotation, or None if it names an omitted class."""
        if isinstance(node, ast.Subscript):
            several = isinstance(node.slice, ast.Tuple)
            parts = node.slice.elts if several else [node.slice]  # type: ignore[attr-defined]
            if self.source.segment(node.value).rpartition(".")[2] == "Final":
                return self.annotation(node.slice)
            base, texts = self.annotation(node.value), list(map(self.annotation, parts))
            if base is not None and base.rpartition(".")[2] == "Union":
                kept = [text for text in texts if text is not None]
                return f"{base}[{', '.join(kept)}]" if len(kept) > 1 else "".join(kept) or None
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
        """Returns the new text of a name in an annotation, or None if it has no counterpart."""
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
        """Whether a class of the user has no methods or any of its methods ran."""
        try:
            node = self.job.sources.class_node(cls)
        except Refused:
            return True
        return class_ran(node, self.job.facts)

    def _do_return(self, node: ast.Return) -> str:
        if (converted := self._in_fixed_order(node)) is not None:
            return self.edited(node, {node.value: converted})
        if node.value is not None and self._gradientless:
            return self.edited(
                node, {node.value: text_of(self._without_gradient(self.value(node.value)))}
            )
        return self.edited(node)

    def _in_fixed_order(self, node: ast.Return) -> str | None:
        """Returns the return value converted to a fixed order, or None without a fixed order."""
        if node.value is None or self.function is None:
            return None
        return self._converted(node, self.job.facts.exits, number_of(self.function))

    def _converted(
        self, node: Any, fixed: Mapping[Any, tuple[int, ...]], number: int
    ) -> str | None:
        """Returns the value of a statement in the order that is fixed for (number, rank)."""
        texts: set[str] = set()
        for fact in self.job.facts.values_at(node.value):
            if isinstance(fact, Tensor) and (number, fact.ndim) in fixed:
                value = self._without_gradient(self.value(node.value))
                shown = replace(fact, text=text_of(value), binding=binding_of(value), origin=None)
                texts.add(self.context().convert(shown, fixed[number, fact.ndim]).text)
        if len(texts) > 1:
            self.job.conflicts.add(number_of(self.function))
            self.refuse(node, Refused("the order of its axes depends on the arguments"))
        return next(iter(texts), None)

    def _do_import(self, node: Any) -> str | None:
        """Removes a local import of PyTorch or of code that is inlined into the file."""
        roots = {alias.name.partition(".")[0] for alias in node.names}
        return None if roots & {"torch"} or not roots & FOREIGN else self.source.segment(node)

    def _do_importfrom(self, node: ast.ImportFrom) -> str | None:
        package = self.source.names.get("__package__")
        if origin(node, package).partition(".")[0] in FOREIGN - {"torch"}:
            return self.source.segment(node)
        for alias in node.names:
            name = alias.asname or alias.name
            known, value = imported(self.function, name, package)
            if known and isinstance(value, type | types.FunctionType) and is_users(value):
                self.job.reached[name] = value
        return None

    def _do_assert(self, node: ast.Assert) -> str | None:
        if self._depends_on_values(node.test):
            self.job.note(f"{self.source.place(node)}: a check of values is omitted")
            return None
        return None if text_of(self.value(node.test)) == "True" else self.edited(node)

    def _do_try(self, node: ast.Try) -> str | None:
        handlers = [handler.body for handler in node.handlers]
        text, position = "", self.source.span(node)[0]
        for body in filter(None, (node.body, *handlers, node.orelse, node.finalbody)):
            colon = self._colon(node, body)
            text += self.source.text[position:colon]
            text += self.block(body, colon) or self._pass(body)
            position = self.source.span(body[-1])[1]
        return text


def _is_weight(target: ast.expr) -> bool:
    """Whether a target is the weight or bias of a layer, such as ``self.layer.weight``."""
    return (
        isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Attribute)
        and target.attr in ("weight", "bias")
    )
