"""Rewrites the functions and classes of the user based on the observations.

The new text of a node is the original text with the texts of its children replaced, or the text of
a rule for the operation. Layout, comments, names and control flow are therefore preserved.
"""

import ast
import re
import types
from typing import Any

from jaxnets.port.constructors import Constructor
from jaxnets.port.instances import Instances
from jaxnets.port.job import NOT_RUN
from jaxnets.port.seen import class_ran
from jaxnets.port.sources import enclosing, is_users, number_of, qualified
from jaxnets.port.statements import Statements
from jaxnets.port.texts import closing, with_argument, without_comments, without_unused
from jaxnets.port.trees import (
    annotated,
    bound_names,
    defaults,
    is_docstring,
    is_typed,
)
from jaxnets.port.values import Refused

#: Methods that set the mode; Flax modules inherit them.
_MODES = ("train", "eval")


class Renderer(Statements):
    """Rewrites definitions and everything inside them."""

    def _do_functiondef(self, node: ast.FunctionDef) -> str | None:
        entered = number_of(node) in self.job.facts.entered
        if self.function is None and self.class_node is None and not entered:
            return self._stub(node) if not self._decorates(node) else self.source.segment(node)
        outer, self.function = self.function, self.function or node
        self._locals.append(bound_names(node))
        mine = outer is None
        if mine:
            self.rngs = False
        without_gradient = any(map(self._stops_gradient, node.decorator_list))
        self._gradientless += without_gradient
        try:
            return self._function_text(node, mine)
        finally:
            self._gradientless -= without_gradient
            self._locals.pop()
            self.function = outer

    def _decorates(self, node: ast.FunctionDef) -> bool:
        """Whether a function of the file is a decorator, which ran when the file was imported."""
        decorators = (
            each.func if isinstance(each, ast.Call) else each
            for one in ast.walk(self.source.tree)
            for each in getattr(one, "decorator_list", ())
        )
        return any(isinstance(one, ast.Name) and one.id == node.name for one in decorators)

    def _stub(self, node: ast.FunctionDef) -> str:
        """Returns the text of a function that did not run; its body raises an error."""
        self.job.note(f"{self.source.place(node)}: {node.name} was {NOT_RUN}")
        text = f'{self._indent(node.body[0])}raise NotImplementedError("{NOT_RUN}")'
        return f"{self._header(node, 0, False)}\n{text}"

    def _function_text(self, node: ast.FunctionDef, mine: bool) -> str | None:
        """Returns the new text of a function, or None if its body is empty.

        Args:
            node: the function.
            mine: whether it is the outermost function, which may take ``rngs``.
        """
        key = number_of(node)
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
            owner = number_of(self.class_node)
            if self.rngs or "rngs" in added:
                self.job.needs.add(owner)
            needs = owner in self.job.needs
        elif mine and self.rngs:
            self.job.needs.add(key)
            needs = True
        else:
            needs = key in self.job.needs and mine
        text = self._header(node, colon, needs) + (body or self._pass(node.body))
        return without_unused(text, node.col_offset) if mine else text

    def _only_sets_weights(self, node: ast.FunctionDef) -> bool:
        """Whether a function only initializes weights and returns nothing."""
        returns = any(isinstance(n, ast.Return) and n.value is not None for n in ast.walk(node))
        return not returns and self._sets_weights(node)

    def _drops(self, node: Any) -> bool:
        return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)

    def _takes_anything(self, node: ast.FunctionDef) -> bool:
        args = node.args
        return bool(args.args[1:] or args.kwonlyargs or args.vararg or args.kwarg)

    def _added(self) -> str:
        """Returns the statements at the end of the constructor that create layers for rules."""
        indent = "\n        "
        return "".join(f"{indent}self.{name} = {text}" for name, text in self.layers.items())

    def _colon_of_header(self, node: ast.FunctionDef) -> int:
        """Returns the index after the colon of ``def f(…):``."""
        start = self.source.text.index("(", self.source.span(node)[0])
        position = closing(self.source.text, start)
        if node.returns is not None:
            position = self.source.span(node.returns)[1]
        return self.source.text.index(":", position) + 1

    def _header(self, node: ast.FunctionDef, colon: int, rngs: bool) -> str:
        """Returns the decorators and the signature of a function, with ``rngs`` if needed."""
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
        for arg in annotated(node):
            annotation = arg.annotation and self.annotation(arg.annotation)
            given[arg] = f"{self._marked(arg.arg)}{f': {annotation}' if annotation else ''}"
        children = [*given, *defaults(node)]
        inner = self._between(paren, end, node, children, given)
        if rngs:
            inner = self._with_rngs(node, inner)
        returns = self.annotation(node.returns) if node.returns is not None else ""
        return f"{lines}{name}{inner}{f' -> {returns}' if returns else ''}:"

    def _with_rngs(self, node: ast.FunctionDef, text: str) -> str:
        """Adds ``rngs`` to the parameters in parentheses, annotated if other parameters are."""
        if re.search(r"\brngs\b", text):
            return text
        args = node.args
        new = "rngs: nnx.Rngs" if is_typed(node) else "rngs"
        if is_typed(node):
            self.job.imports.add(("nnx", ""))
        if args.kwarg is not None:
            star = "" if args.vararg or args.kwonlyargs else "*, "
            place = text.rindex("**")
            return f"{text[:place]}{star}{new}, {text[place:]}"
        star = "" if args.vararg or args.kwonlyargs else "*, "
        return with_argument(text, f"{star}{new}")

    def _decorator_stays(self, node: ast.expr) -> bool:
        """Whether a decorator is kept: not if PyTorch defines it or it returns its argument."""
        known, value = self.static(node.func if isinstance(node, ast.Call) else node)
        module = getattr(value, "__module__", "") or ""
        if known and module.partition(".")[0] in ("torch", "torchvision"):
            return False
        if known and is_users(value) and self._is_itself(node.parent):  # type: ignore[attr-defined]
            return False
        segment = self.source.segment(node)
        return not segment.startswith(("torch", "register_model", "handle_legacy"))

    def _is_itself(self, node: Any) -> bool:
        """Whether the decorators of a definition returned it unchanged, as those of registries."""
        value = self.source.names.get(node.name)
        try:
            if isinstance(value, type):
                return self.job.sources.class_node(value) is node
            if not isinstance(value, types.FunctionType):
                return False
            return self.job.sources.function(value) is node
        except Refused:
            return False

    def _do_classdef(self, node: ast.ClassDef) -> str | None:
        outer, self.class_node = self.class_node, node
        layers, self.layers = self.layers, {}
        methods, self.methods = self.methods, {}
        self._attributes.cache_clear()
        try:
            return self._class_text(node)
        finally:
            self.class_node, self.layers, self.methods = outer, layers, methods

    def _class_text(self, node: ast.ClassDef) -> str:
        """Returns the new text of a class, with a new constructor if rules add layers."""
        instances, cls = self.job.instances, self._class()
        if instances is not None and cls is not None and instances.family(cls):
            return self._with_generated_constructor(node, instances, cls)
        if not class_ran(node, self.job.facts):
            self.job.note(f"{self.source.place(node)}: {node.name} was {NOT_RUN}")
            header = self._class_header(node, self._class_colon(node))
            if self._is_abstract(node):
                return header + self._pass(node.body)
            text = f'raise NotImplementedError("{NOT_RUN}")'
            return f"{header}\n    def __init__(self, *args, **kwargs):\n        {text}"
        methods = [one for one in node.body if isinstance(one, ast.FunctionDef)]
        # The constructor last: rules of other methods add layers to it.
        texts: dict[Any, str | None] = {}
        order = sorted(node.body, key=lambda one: getattr(one, "name", "") == "__init__")
        for one in order:
            texts[one] = self._member(one)
            used = "".join(text or "" for text in (*texts.values(), *self.methods.values()))
            named = set(re.findall(r"\bself\.(\w+)", used))
            for name in self.layers.keys() - named:
                del self.layers[name]  # the text that uses the layer was replaced by another rule
        constructor = next((m for m in methods if m.name == "__init__"), None)
        if constructor is not None and self.methods:
            gap = "\n\n" + " " * constructor.col_offset
            texts[constructor] = gap.join([texts[constructor] or "", *self.methods.values()])
        colon = self._class_colon(node)
        parts = [self._class_header(node, colon)]
        position = colon
        for one in node.body:
            begin, stop = self._begin(one), self.source.span(one)[1]
            before, member = self.source.text[position:begin], texts[one]
            if constructor is None and self.layers and isinstance(one, ast.FunctionDef) and member:
                parts += [before, self._new_constructor(node), "\n\n    "]
                constructor, before = one, ""
            if not member:
                parts.append("" if isinstance(one, ast.FunctionDef) else without_comments(before))
                position = self._line_end(stop)
                continue
            parts += [before, member]
            position = stop
        text = "".join(parts).rstrip()
        if text.endswith(":"):
            text += self._pass(node.body)
        return text

    def _is_abstract(self, node: ast.ClassDef) -> bool:
        """Whether a class without a constructor is the base of a class that ran."""
        cls = self._class()
        if cls is None or any(getattr(one, "name", "") == "__init__" for one in node.body):
            return False
        derived: list[type] = type.__subclasses__(cls)
        return any(is_users(one) and self.ran(one) for one in derived)

    def _with_generated_constructor(
        self, node: ast.ClassDef, instances: Instances, cls: type
    ) -> str:
        """Writes a class with the methods that were called and a generated constructor."""
        members = {one: self._called_member(one) for one in node.body}
        used = "".join(filter(None, [*members.values(), *self.layers.values()]))
        instances.read[cls] = set(re.findall(r"\bself\.(\w+)", used))
        self.job.layers[cls] = dict(self.layers)
        added: dict[str, str] = {}
        for above in reversed(cls.__mro__):
            added |= self.job.layers.get(above, {})
        constructor = None
        if instances.known(cls):
            self.layers, self.rngs = added, False
            try:
                constructor = Constructor(self, instances, cls).text(self._added())
                if "hasattr(self" in used and instances.uneven(cls):
                    raise Refused("some objects lack an attribute that hasattr looks up")
            except Refused as refused:
                self.refuse(node, refused)
            if self.rngs:
                self.job.needs.add(number_of(node))
        colon = self._class_colon(node)
        parts, position = [self._class_header(node, colon)], colon
        for one in node.body:
            begin, stop = self._begin(one), self.source.span(one)[1]
            before = self.source.text[position:begin]
            if constructor and isinstance(one, ast.FunctionDef):
                gap = "\n    " if len(parts) == 1 else "\n\n    "
                parts.append(f"{gap}{constructor}")
                constructor, before = None, "\n\n    "
            if members[one]:
                parts += [before, members[one] or ""]
                position = stop
            else:
                position = self._line_end(stop)
        if constructor:
            parts.append(f"\n    {constructor}")
        text = "".join(parts).rstrip()
        return text + self._pass(node.body) if text.endswith(":") else text

    def _called_member(self, node: Any) -> str | None:
        """Returns the text of a class member if it was called or is read, else None."""
        if isinstance(node, ast.FunctionDef):
            called = number_of(node) in self.job.facts.called and node.name not in _MODES
            return self.statement(node) if called else None
        if is_docstring(node):
            return self.source.segment(node)
        if getattr(node, "value", None) is None:
            return None
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        names = {one.id for one in targets if isinstance(one, ast.Name)}
        cls, instances = self._class(), self.job.instances
        if cls is None or instances is None or not names & instances.attributes(cls):
            return None
        return self.statement(node)

    def _new_constructor(self, node: ast.ClassDef) -> str:
        """Returns a constructor that creates the layers for rules, for a class without one."""
        added = self._added()
        needs = "rngs" in added
        if needs:
            self.job.needs.add(number_of(node))
            self.job.imports.add(("nnx", ""))
        head = "*, rngs: nnx.Rngs" if needs else ""
        return f"def __init__(self{', ' if head else ''}{head}) -> None:{added}"

    def _member(self, node: Any) -> str | None:
        """Returns the new text of a class member, or None for methods that did not run."""
        if isinstance(node, ast.FunctionDef):
            if node.name in _MODES:
                what = f"{node.name} of {qualified(enclosing(node, ast.ClassDef))} is not ported"
                self.job.note(f"{self.source.place(node)}: {what}: Flax has its own")
                return None
            ran = number_of(node) in self.job.facts.entered
            if not ran and node.name != "__init__":
                if not node.name.startswith("__"):
                    self.job.note(f"{self.source.place(node)}: {node.name} was {NOT_RUN}")
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
        text = self._between(begin, colon, node, bases, {})
        cls, instances = self._class(), self.job.instances
        if cls is not None and instances is not None:
            text = text.replace(node.name, instances.name(cls), 1)
        return lines + text
