"""Rewrites calls of functions, methods, layers and constructors."""

import ast
import functools
import re
import types
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxnets import functional, layers
from jaxnets.port import modules
from jaxnets.port.compilers import COMPILERS
from jaxnets.port.expressions import Expressions, counterparts
from jaxnets.port.job import NotSeen
from jaxnets.port.names import canonical
from jaxnets.port.observe import Call, find_rule, leaf
from jaxnets.port.seen import (
    are_modules,
    has_tensor,
    kind_of,
    ones,
    plain_class,
    with_text_of,
)
from jaxnets.port.sources import is_users, number_of, plain_function, qualified
from jaxnets.port.texts import (
    flat,
    same_tokens,
    with_argument,
)
from jaxnets.port.trees import (
    is_super,
)
from jaxnets.port.values import (
    ATOM,
    Items,
    Plain,
    Refused,
    Tensor,
    Value,
    bound,
    text_of,
)

#: Functions that return whether PyTorch is compiling or exporting or has a GPU; False in the port.
_COMPILING = (
    *("torch.jit.is_scripting", "torch.jit.is_tracing", "torch.compiler.is_compiling"),
    *("torch._dynamo.is_compiling", "torch.onnx.is_in_onnx_export", "torch.cuda.is_available"),
)

#: Methods that add a function to a layer, which PyTorch calls whenever it calls the layer.
_HOOKS = (
    *("register_forward_hook", "register_forward_pre_hook"),
    *("register_full_backward_hook", "register_full_backward_pre_hook", "register_backward_hook"),
)


@functools.cache
def _of_tensors_alone() -> frozenset[str]:
    """Returns the names of methods that only tensors have.

    A call of such a method in code that did not run is a call of a tensor.
    """
    import torch

    others = (list, dict, str, set, torch.nn.Module, torch.nn.ModuleDict, torch.nn.ModuleList)
    return frozenset(dir(torch.Tensor)).difference(*map(dir, others))


class Calls(Expressions):
    """Adds the rewriting of calls to ``Expressions``."""

    def _of_call(self, node: ast.Call) -> Value:
        calls = self.job.facts.calls_at(node)
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
            if name.partition(".")[0] in ("torch", "F", "Tensor"):
                raise NotSeen(name)
        if known and isinstance(value, type):
            return self._construct(node, [Call(value, None, [], {})], direct=True)
        if known and isinstance(value, types.FunctionType) and is_users(value):
            return self._kept_call(node, rngs=self._function_needs([value]))
        if isinstance(node.func, ast.Attribute):
            return self._unseen_method(node, node.func)
        return self._kept_call(node)

    def _unseen_method(self, node: ast.Call, func: ast.Attribute) -> Value:
        """Rewrites a method call that did not run."""
        base = self.value(func.value)
        if isinstance(base, Tensor):
            args, kwargs = self._arguments(node, None)
            return self._unseen(node, f"Tensor.{func.attr}", [self._flat(base), *args], kwargs)
        if self._is_unseen_method(func) or func.attr in _of_tensors_alone():
            raise NotSeen(func.attr)
        return self._kept_call(node, rngs=self._method_needs(func))

    def _is_unseen_method(self, func: ast.Attribute) -> bool:
        """Whether a method of the class did not run, so that it is omitted in the port."""
        if not (isinstance(func.value, ast.Name) and func.value.id == "self" and self.class_node):
            return False
        cls = self._class()
        method = plain_function(getattr(cls, func.attr, None)) if cls is not None else None
        if method is None or not is_users(method):
            return False
        return number_of(self.job.sources.function(method)) not in self.job.facts.entered

    def _method_needs(self, func: ast.Attribute) -> bool:
        """Whether a method of the class takes ``rngs``."""
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
        """Rewrites a call that ran, according to the kind of the called object.

        Args:
            node: the call.
            calls: the observed calls.
            direct: whether the called object is a global name.
        """
        import torch

        made: dict[str, tuple[Value, Call]] = {}
        kinds = {kind_of(call) for call in calls}
        if len(kinds) > 1:
            if kinds <= {"class", "user"}:
                return self._kept_call(node, rngs=self._any_needs(calls))
            if kinds == {"module", "user"}:  # a layer and a function that calls one
                for kind in sorted(kinds):
                    alike = [call for call in calls if kind_of(call) == kind]
                    value = self._seen_call(node, alike, direct)
                    made.setdefault(text_of(value), (value, alike[0]))
                return self._only(node, made)
            self.refuse(node, Refused("different kinds of objects are called here"))
            return self._kept_call(node)
        (kind,) = kinds
        if kind == "module":
            return self._module_call(node, calls)
        if kind == "class":
            return self._construct(node, calls, direct)
        if kind == "user":
            rngs = self._any_needs(calls)
            for call in sorted(calls, key=ones):
                value = self._with_argument_orders(node, call, rngs)
                made.setdefault(text_of(value), (value, call))
            return self._only(node, made)
        if kind == "rule":
            drawn = any(str(call.name).startswith(("random.", "numpy.random.")) for call in calls)
            if drawn and not (self._constructing() and str(calls[0].name).startswith("numpy")):
                why = "a number is drawn at random by Python, once for all calls"
                self.refuse(node, Refused(why, "draw it with torch, or make it an argument"))
                return self._kept_call(node)
            method = isinstance(node.func, ast.Attribute) and all(
                isinstance(getattr(call.function, "__self__", None), torch.Tensor) for call in calls
            )
            tensors = any(has_tensor(v) for c in calls for v in (*c.args, *c.kwargs.values()))
            python = all(str(c.name).partition(".")[0] in ("builtins", "math") for c in calls)
            if python and not tensors:
                return self._kept_call(node)
            if all(find_rule(c.name) is None and c.refused is None for c in calls):
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
        """Returns the arguments of a call, with starred arguments expanded."""
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

    def _kept_call(
        self, node: ast.Call, rngs: bool = False, given: dict[Any, str] | None = None
    ) -> Value:
        """Returns the original call, with ``rngs=rngs`` if it is needed."""
        text = self.edited(node, given)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "forward":
            func = self._in_place(node, node.func)
            if text.startswith(func) and func.endswith(".__call__"):
                base = func.removesuffix(".__call__")
                if not base.startswith("super("):
                    text = base + text.removeprefix(func)
        if rngs:
            context = self.context()
            text = with_argument(text, self._made(context, f"rngs={context.rngs()}"))
        return self._with_text(node, text)

    def _module_call(self, node: ast.Call, calls: list[Call]) -> Value:
        """Rewrites the call of a layer or of a module of the user."""
        made: dict[str, tuple[Value, Call]] = {}
        for call in sorted(calls, key=ones):
            if call.refused is not None:
                self.refuse(node, call.refused)
                return self._kept_call(node)
            module = getattr(call.function, "__self__", call.function)
            rule = leaf(type(module)) if call.name is not None else None
            if rule is None:
                value = self._with_argument_orders(node, call)
                made.setdefault(text_of(value), (value, call))
                continue
            func = node.func
            if isinstance(func, ast.Attribute) and func.attr == "forward":
                func = func.value
            text = flat(self._in_place(node, func))
            base = Plain("super().__call__" if text == "super()" else text, module)
            args, kwargs = self._arguments(node, call)
            shown = replace(call, args=[base, *call.args])
            applied = self._applied(node, rule.call, shown, [base, *args], kwargs)
            kept = self._kept_call(node)
            if applied is None:
                return kept
            if text_of(applied) in (flat(text_of(kept)), self._without_stars(node, call, kept)):
                applied = with_text_of(applied, Plain(text_of(kept), None))
            made.setdefault(text_of(applied), (applied, call))
        return self._only(node, made)

    def _without_stars(self, node: ast.Call, call: Call, kept: Value) -> str:
        """Returns the text of a call without ``**kwargs`` if no keyword was passed."""
        text = flat(text_of(kept))
        if not call.kwargs and len(node.keywords) == 1 and node.keywords[0].arg is None:
            return re.sub(r", \*\*[\w.]+\)$", ")", text)
        return text

    def _with_argument_orders(self, node: ast.Call, call: Call, rngs: bool = False) -> Value:
        """Rewrites the call of a user's function or module; arguments get the orders it takes."""
        wanted = dict(call.entries)
        if call.entry is not None and len(node.args) == 1:
            wanted[0] = call.entry
        if not wanted:
            return self._kept_call(node, rngs)
        if any(isinstance(arg, ast.Starred) for arg in node.args):
            self.refuse(node, Refused("this is called with tensors in several orders of axes"))
            return self._kept_call(node, rngs)
        args, kwargs = self._arguments(node, call)
        nodes: dict[Any, Any] = {keyword.arg: keyword.value for keyword in node.keywords}
        context, given = self.context(), dict[Any, str]()
        arg: Any
        for place, order in wanted.items():
            if isinstance(place, int):
                arg, fact, written = node.args[place], call.args[place], args[place]
            else:
                arg, fact, written = nodes.get(place), call.kwargs[place], kwargs[place]
            tensor = with_text_of(fact, written)
            if arg is None or not isinstance(tensor, Tensor):
                self.refuse(node, Refused("this is called with tensors in several orders of axes"))
                continue
            given[arg] = context.convert(replace(tensor, origin=None), order).text
        return self._kept_call(node, rngs, given)

    def _construct(self, node: ast.Call, calls: list[Call], direct: bool) -> Value:
        """Rewrites a constructor call of a layer or of a class of the user."""
        import torch

        classes = [plain_class(call.function) for call in calls]
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
        for call in sorted(calls, key=ones):
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
        """Rewrites the constructor call of a layer that passes on ``*args`` or ``**kwargs``."""
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
        """Returns the text of a rule in the user's layout if only the name and rngs differ."""
        func = re.match(r"[\w.]+(?=\()", text_of(value))
        if func is None or not isinstance(value, Plain):
            return value
        kept = self.edited(node, {node.func: func.group()})
        if ", rngs=rngs)" in value.text or "(rngs=rngs)" in value.text:
            kept = with_argument(kept, "rngs=rngs")
        same = same_tokens(kept, value.text)
        return replace(value, text=kept) if same else value

    def _container(self, node: ast.Call, cls: type) -> Value | None:
        """Rewrites the constructor call of a container, such as Sequential or ModuleList."""
        import torch

        name = counterparts().get(cls)
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
        """Whether any called object takes ``rngs``; then all classes called here take it."""
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
                self.job.needs.add(number_of(self.job.sources.class_node(target)))
        return True

    def class_needs(self, cls: type) -> bool:
        """Whether the constructor of a class takes ``rngs``."""
        for one in cls.__mro__:
            if not is_users(one):
                rule = leaf(one)
                return rule is not None and rule.rngs
            try:
                key = number_of(self.job.sources.class_node(one))
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
                    keys.add(number_of(self.job.sources.function(plain)))
                except Refused:
                    continue
        return bool(keys & self.job.needs)

    def _special_call(self, node: ast.Call, calls: list[Call]) -> Value | None:
        """Rewrites calls without a rule, such as those that inspect or register modules."""
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
        if known and str(canonical(value)) in _COMPILING:
            return Plain("False", False, constant=True)
        if known and str(canonical(value)) in COMPILERS and node.args:
            return self.value(node.args[0])
        if known and value is torch.device:
            return Plain("None", None)
        if known and value is torch.linspace and self._constructing() and _becomes_numbers(node):
            context = self.context()
            bounds = ", ".join(map(self.text, node.args))
            linspace, single = context.use("np", "linspace"), context.use("np", "float32")
            return self._with_text(node, f"{linspace}({bounds}, dtype={single})")
        if known and value is torch.jit.annotate:
            return self.value(node.args[1])
        if known and value is functools.partial and (joining := self._joining(node)):
            return joining
        if known and value is torch.nn.Parameter:
            return self._new_parameter(node)
        if known and value is next and node.args:
            return self._next_parameter(node)
        if known and value is getattr and len(node.args) > 1:
            return self._by_name(node)
        if not isinstance(func, ast.Attribute):
            return None
        if func.attr == "__getattr__" and len(node.args) == 1:
            owner, name = self.text(func.value), self.text(node.args[0])
            return self._with_text(node, f"getattr({owner}, {name})")
        if self._is_idle(func) and len(node.args) == 1 and not node.keywords:
            return self.value(node.args[0])
        if func.attr == "children" and (texts := self._children(func.value)):
            return Items(tuple(Plain(text, None) for text in texts), None, list)
        if func.attr == "__init__" and is_super(func.value):
            return self._super_init(node, calls)
        if func.attr == "add_module" or func.attr == "register_module":
            owner = self.text(func.value)
            sequential = calls and all(
                isinstance(getattr(c.function, "__self__", None), torch.nn.Sequential)
                for c in calls
            )
            if sequential:
                return None
            given = {keyword.arg: keyword.value for keyword in node.keywords}
            named = [given[name] for name in ("name", "module") if name in given]
            parts = ", ".join(self.text(arg) for arg in (*node.args, *named))
            return Plain(f"setattr({owner}, {parts})", None)
        if (children := self._layers_of(func)) is not None:
            return children
        if func.attr in ("parameters", "named_parameters") and calls:
            owners = [getattr(call.function, "__self__", None) for call in calls]
            if are_modules(owners):
                what = "store the layers themselves, in an nn.ModuleList"
                self.refuse(
                    node, Refused("a list of a layer's parameters has no counterpart", what)
                )
        if func.attr in ("register_buffer", "register_parameter"):
            return self._register(node, func)
        if func.attr in _HOOKS and are_modules([c.function.__self__ for c in calls if c.function]):
            what = "call the function in forward"
            self.refuse(node, Refused("hooks of layers have no counterpart", what))
        if func.attr in ("to", "cuda", "cpu", "float", "half", "double") and calls:
            owners = [getattr(call.function, "__self__", None) for call in calls]
            return self.value(func.value) if are_modules(owners) else None
        return None

    def _children(self, node: ast.expr) -> list[str]:
        """Returns the texts of the child layers of a module; empty if they are not known.

        Layers that some objects lack must be last.
        """
        import torch

        found = self.objects(node)
        if not all(isinstance(one, torch.nn.Module) for one in found):
            return []
        held = [[n for n, c in one._modules.items() if c is not None] for one in found]
        names = max(held, key=len, default=[])
        if not all(map(str.isidentifier, names)):
            return []
        text = self.text(node)
        if all(one == names for one in held):
            return [f"{text}.{name}" for name in names]
        if any(one != names[: len(one)] for one in held):
            return []
        every = [f"{text}.{name}" for name in names]
        return [f"*(one for one in ({', '.join(every)}) if one is not None)"]

    def _is_idle(self, func: ast.Attribute) -> bool:
        """Whether a layer is an identity in all objects of the class."""
        import torch

        idle = {torch.nn.Identity: 0}
        kinds = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout")
        idle |= dict.fromkeys((getattr(torch.nn, kind) for kind in kinds), 0)
        found = self.objects(func)
        return bool(found) and all(type(one) in idle and getattr(one, "p", 0) == 0 for one in found)

    def _joining(self, node: ast.Call) -> Value | None:
        """Rewrites ``partial(torch.cat, dim=-1)``."""
        known, value = self.static(node.args[0]) if node.args else (False, None)
        name = str(canonical(value)) if known else ""
        ours = {"torch.cat": "jnp.concatenate", "torch.stack": "jnp.stack"}.get(name)
        if ours is None or len(node.args) > 1:
            return None
        self.job.imports.add(("jnp", ""))
        named = (f"axis={self.text(k.value)}" for k in node.keywords if k.arg in ("dim", "axis"))
        return Plain(f"{self.text(node.func)}({', '.join([ours, *named])})", None)

    def _layers_of(self, func: ast.Attribute) -> Value | None:
        """Rewrites ``x.children()``, ``x._modules.values()`` and their variants with names."""
        import torch

        inner, what = func.value, func.attr
        if isinstance(inner, ast.Attribute) and inner.attr == "_modules":
            what = {"values": "children", "items": "named_children"}.get(what, "")
            inner = inner.value
        owners = [v.value for v in self.job.facts.values_at(inner) if isinstance(v, Plain)]
        if what not in ("children", "named_children") or not owners or not are_modules(owners):
            return None
        text = self.text(inner)
        if all(isinstance(owner, torch.nn.Sequential | torch.nn.ModuleList) for owner in owners):
            if what == "children":
                return Plain(text, None)
            if all(isinstance(owner, torch.nn.Sequential) for owner in owners):
                return Plain(f"{text}.named_children()", None)
        self.job.imports.add(("nnx", ""))
        kinds = "isinstance(module, nnx.Module | nnx.List)"
        if what == "children":
            return Plain(f"[module for module in vars({text}).values() if {kinds}]", None)
        return Plain(f"[(name, module) for name, module in vars({text}).items() if {kinds}]", None)

    def _by_name(self, node: ast.Call) -> Value | None:
        """Rewrites ``getattr(nn, name)`` and ``getattr(F, name)``."""
        import torch

        known, place = self.static(node.args[0])
        if not known or place not in (torch.nn, torch.nn.functional, torch):
            return None
        facts = self.job.facts.values_at(node)
        names = {getattr(fact.value, "__name__", "") for fact in facts if isinstance(fact, Plain)}
        if not names:  # PyTorch had no such attribute either
            names = {""}
        places = {"layers": layers, "functional": functional, "jax.nn": jax.nn, "jnp": jnp}
        for text, ours in places.items():
            if all(not name or hasattr(ours, name) for name in names):
                self.job.imports.add((text.partition(".")[0], ""))
                return self._with_text(node, self.edited(node, {node.args[0]: text}))
        self.refuse(node, Refused(f"{', '.join(names)} has no counterpart"))
        return None

    def _next_parameter(self, node: ast.Call) -> Value | None:
        """Rewrites ``next(self.parameters())``, which users write to get a device or dtype."""
        inner = node.args[0]
        if not isinstance(inner, ast.Call) or not isinstance(inner.func, ast.Attribute):
            return None
        owners = self.job.facts.owners_at(inner.func)
        if inner.func.attr != "parameters" or not owners or not are_modules(owners):
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
        """Rewrites ``self.register_buffer("name", tensor)`` as an assignment."""
        given = {k.arg: k.value for k in node.keywords}
        name = node.args[0] if node.args else given["name"]
        tensor = node.args[1] if len(node.args) > 1 else given.get("tensor") or given.get("param")
        text = "None" if tensor is None else self.text(tensor)
        if func.attr == "register_buffer" and tensor is not None and text != "None":
            last = node.args[2] if len(node.args) > 2 else given.get("persistent")
            temporary = isinstance(last, ast.Constant) and last.value is False
            text = self._buffer(tensor, "nnx.Cache" if temporary else "nnx.Variable")
        owner = self.text(func.value)
        if isinstance(name, ast.Constant):
            return Plain(f"{owner}.{name.value!s} = {text}", None)
        return Plain(f"setattr({owner}, {self.text(name)}, {text})", None)

    def _buffer(self, tensor: ast.expr, kind: str) -> str:
        """Returns the text of the variable of a buffer, which may be None."""
        self.job.imports.add(("nnx", ""))
        data = self.value(tensor)
        text = text_of(self.context().natural(data) if isinstance(data, Tensor) else data)
        facts = self.job.facts.values_at(tensor)
        missing = [isinstance(fact, Plain) and fact.value is None for fact in facts]
        if missing and all(missing):
            return text
        return f"{f'None if {text} is None else ' if any(missing) else ''}{kind}({text})"

    def _super_init(self, node: ast.Call, calls: list[Call]) -> Value | None:
        """Rewrites ``super().__init__(…)``; the call of nn.Module's constructor is removed."""
        import torch

        owner = self._after_super(calls)
        if owner is torch.nn.Module:
            return Plain("", None)
        if owner is None:
            return None
        if not is_users(owner) and issubclass(owner, torch.nn.Module):
            if owner in counterparts():
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
        """Returns the class whose constructor ``super().__init__`` calls."""
        for call in calls:
            function = plain_function(call.function)
            for cls in type(call.function.__self__).__mro__:
                if function is not None and vars(cls).get("__init__") is function:
                    return cls
        own = self._class()
        above = own.__mro__[1:] if own is not None else ()
        return next((cls for cls in above if "__init__" in vars(cls)), None)


def _becomes_numbers(node: Any) -> bool:
    """Whether a call with positional arguments only creates the numbers of a Python list."""
    above = node.parent
    if node.keywords:
        return False
    if isinstance(above, ast.Attribute):
        return above.attr == "tolist"
    if not isinstance(above, ast.comprehension):
        return False
    made: Any = above
    return (
        isinstance(made.parent, ast.ListComp)
        and ast.unparse(made.parent.elt) == f"{ast.unparse(above.target)}.item()"
    )
