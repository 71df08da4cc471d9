"""Runs a network on example inputs and records the values and calls at each node of its source.

The user's functions are compiled again from a syntax tree in which every expression calls a report
function; their code objects are replaced while the network runs. The ``order`` of each tensor's
axes in the port is recorded by the tensor's id.
"""

import ast
import builtins
import contextlib
import operator
import types
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from jaxnets.port import modules, ops
from jaxnets.port.compilers import COMPILERS
from jaxnets.port.instrument import compiled, instrumented
from jaxnets.port.names import canonical, is_einops, is_tensor_type
from jaxnets.port.ops_einops import FREE
from jaxnets.port.sources import FunctionNode, Sources, is_users, number_of, plain_function
from jaxnets.port.trees import defaults
from jaxnets.port.values import (
    Context,
    Items,
    Plain,
    Refused,
    Tensor,
    Value,
    channels_last,
    natural,
)

_MOST_FACTS = 64  # largest number of different observations of one node
_SCALARS = (int, float, str, bool, type(None), bytes, complex)


@dataclass
class Call:
    """One observation of a call, an operator or an attribute of a tensor.

    Attributes:
        function: the called module, class or function.
        name: the canonical name, under which rules are registered.
        args: the positional operands; their source texts are placeholders.
        kwargs: the keyword operands.
        result: the result in PyTorch.
        value: the result as a ``Value``.
        refused: the reason why no rule applies.
        entry: the order to which a layer converts its input, or None without a conversion.
        entries: the fixed orders of the arguments of a user's function, by position or name, if
            they differ from the orders of the passed tensors.
        returned: the position of the argument that a user's function returned unchanged.
    """

    function: Any
    name: str | None
    args: list[Value]
    kwargs: dict[str, Value]
    result: Any = None
    value: Value | None = None
    refused: Refused | None = None
    entry: tuple[int, ...] | None = None
    entries: dict[int | str, tuple[int, ...]] = field(default_factory=dict)
    returned: int | None = None


@dataclass
class Facts:
    """All observations of a run.

    Attributes:
        values: the values of the expression of each node, by node number.
        calls: the calls at each node, by node number.
        entered: the numbers of the functions that ran.
        called: the numbers of the functions that ran while the network was called.
        owners: for each node ``a.b``, by node number, the values of ``a``.
        wishes: preferred orders of inputs and new tensors.
        outside: for each class, the attributes that code outside of the class reads.
        exits: the fixed orders of return values, by function number and rank.
        assigned: the fixed orders of values assigned to variables, by node number and rank.
    """

    values: dict[int, dict[Any, Value]] = field(default_factory=dict)
    calls: dict[int, dict[Any, Call]] = field(default_factory=dict)
    entered: set[int] = field(default_factory=set)
    called: set[int] = field(default_factory=set)
    owners: dict[int, dict[int, Any]] = field(default_factory=dict)
    wishes: dict[Any, tuple[int, ...]] = field(default_factory=dict)
    outside: dict[type, set[str]] = field(default_factory=dict)
    exits: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)
    assigned: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)

    def values_at(self, node: Any) -> list[Value]:
        """Returns the observed values of a node."""
        return list(self.values.get(getattr(node, "number", -1), {}).values())

    def calls_at(self, node: Any) -> list[Call]:
        """Returns the observed calls at a node."""
        return list(self.calls.get(getattr(node, "number", -1), {}).values())

    def owners_at(self, node: Any) -> list[Any]:
        """Returns the observed values of ``a`` for a node ``a.b``."""
        return list(self.owners.get(getattr(node, "number", -1), {}).values())


class Observer:
    """Observes the creation and the calls of a network.

    Args:
        sources: the files of the user, with numbered nodes.
        chosen: the orders of inputs and new tensors that an earlier run preferred.
        pinned: numbers of the functions that take each argument in the same order in all calls.
        moved: numbers of the functions in which permutations transpose the array instead of only
            changing its recorded order.
    """

    def __init__(
        self,
        sources: Sources,
        chosen: dict[Any, tuple[int, ...]] | None = None,
        pinned: Collection[int] = (),
        moved: Collection[int] = (),
    ) -> None:
        self.sources = sources
        self.facts = Facts()
        self.chosen = dict(chosen or {})
        # By id of a tensor: the tensor, which has to stay alive so that its id is not reused, its
        # order, and its origin while the order can still be chosen.
        self._orders: dict[int, tuple[Any, tuple[int, ...], Any]] = {}
        self._changed: dict[types.FunctionType, types.CodeType] = {}
        self._classes: set[type] = set()
        self._files: set[str] = set()  # the files whose tensors were observed
        self._pinned_functions = set(pinned)
        bodies = (one for number in moved for one in ast.walk(sources.nodes[number]))
        self._moving = {one.number for one in bodies if hasattr(one, "number")}
        self._pins: dict[Any, tuple[int, ...]] = {}
        self._keep: list[Any] = []  # further objects that stay alive, as their ids are in use
        self._sites: dict[int, int] = {}  # by id of a module, the node that created it
        self.calling = False
        self.made: dict[int, tuple[Any, type, tuple[Any, ...], dict[str, Any]]] = {}

    # The context of an observation.

    @contextlib.contextmanager
    def observing(self) -> Iterator[None]:
        """Within the context, the user's code calls the report functions."""
        reports = {
            "__port_value__": self.value,
            "__port_call__": self.call,
            "__port_attribute__": self.attribute,
            "__port_operator__": self.operator,
            "__port_item__": self.item,
            "__port_set__": self.set_item,
            "__port_assign__": self.assign,
            "__port_augment__": self.augment,
            "__port_augment_item__": self.augment_item,
            "__port_enter__": self.enter,
        }
        # Builtins are visible in the recompiled functions of all modules.
        vars(builtins).update(reports)
        try:
            yield
        finally:
            for function, code in self._changed.items():
                function.__code__ = code
            self._changed.clear()
            self._classes.clear()
            self._files.clear()
            for name in reports:
                delattr(builtins, name)

    def input(self, tensor: Any, origin: Any) -> None:
        """Registers a tensor as an input, whose order can be chosen."""
        order = self.chosen.get(origin)
        free = None if order else origin
        self._orders[id(tensor)] = (tensor, order or natural(tensor.ndim), free)

    def settle(self, tensors: list[Any]) -> None:
        """Registers tensors that stay in PyTorch's order of axes, such as those of modules."""
        for tensor in tensors:
            self._orders[id(tensor)] = (tensor, natural(tensor.ndim), None)

    def order(self, tensor: Any) -> tuple[int, ...]:
        """Returns the order of the axes of an observed tensor."""
        return self._orders.get(id(tensor), (None, natural(tensor.ndim), None))[1]

    # The report functions that the recompiled code calls.

    def enter(self, number: int) -> None:
        """Records that a function runs."""
        self.facts.entered.add(number)
        if self.calling:
            self.facts.called.add(number)

    def value(self, key: int, value: Any) -> Any:
        """Records and returns the value of an expression."""
        facts = self.facts.values.setdefault(key, {})
        if len(facts) < _MOST_FACTS:
            found = self.snapshot(value)
            facts.setdefault(_signature(found), found)
        return value

    def call(self, key: int | None, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Runs and records a call."""
        import functools

        import torch

        self.adopt(function)
        target = function
        bound_args: tuple[Any, ...] = ()
        bound_kwargs: dict[str, Any] = {}
        while isinstance(target, functools.partial):
            self.adopt(target.func)
            bound_args = (*target.args, *bound_args)
            bound_kwargs = {**target.keywords, **bound_kwargs}
            target = target.func
        for one in args:
            if isinstance(one, types.FunctionType | types.MethodType):
                self.adopt(one)
        name = canonical(target)
        if target in (getattr, hasattr) and self.calling and isinstance(args[0], torch.nn.Module):
            self.facts.outside.setdefault(type(args[0]), set()).add(args[1])
        if getattr(target, "__func__", None) is torch.nn.Module.__getattr__ and self.calling:
            self.facts.outside.setdefault(type(target.__self__), set()).add(args[0])
        # Checkpointing only saves memory in PyTorch: the function that it calls is observed.
        if name == "torch.utils.checkpoint.checkpoint":
            kwargs.pop("use_reentrant", None)
            result = self.call(None, *args, **kwargs)
            self._note(key, Call(target, name, *self._snapshots(args, kwargs)), result)
            return result
        if name in COMPILERS and args:  # the argument itself is observed
            self._note(key, Call(target, name, *self._snapshots(args, kwargs)), args[0])
            return args[0]
        owner = getattr(target, "__self__", None)
        if isinstance(target, torch.nn.Module):
            call = Call(target, None, *self._snapshots(args, kwargs))
            result = self.module(target, args, kwargs, call)
        elif isinstance(owner, torch.nn.Module) and getattr(target, "__name__", "") == "forward":
            call = Call(target, None, *self._snapshots(args, kwargs))
            result = self.module(owner, args, kwargs, call, target)
        elif name is not None and (not isinstance(target, type) or is_tensor_type(target)):
            operands = (owner, *args) if isinstance(owner, torch.Tensor) else args
            call = Call(target, name, *self._snapshots(operands, kwargs))
            result = self._ruled(call, lambda: function(*args, **kwargs), key)
        else:
            call = Call(target, name, *self._snapshots(args, kwargs))
            every = (*bound_args, *args)
            given = tuple(list(a) if isinstance(a, list) else a for a in every)
            if target is function:
                args, kwargs = self._pinned(target, args, kwargs, call)
            result = function(*args, **kwargs)
            same = (place for place, arg in enumerate(args) if arg is result)
            call.returned = next(same, None) if isinstance(result, torch.Tensor) else None
            result = self._in_fixed_order(target, result)
            if isinstance(target, type):
                self.adopt(type(result))
                self.made[id(result)] = (result, target, given, {**bound_kwargs, **kwargs})
                if key is not None:
                    self._sites[id(result)] = key
        self._note(key, call, result)
        return result

    def module(self, module: Any, args: Any, kwargs: Any, call: Call, method: Any = None) -> Any:
        """Runs a module; ``nn.Sequential`` is run child by child to observe its children."""
        import torch

        run = module if method is None else method
        self.adopt(type(module))
        forward = plain_function(type(module).forward if method is None else method)
        if forward is not None and is_users(forward):
            args, kwargs = self._pinned(module.forward, args, kwargs, call)
            return self._in_fixed_order(module.forward, run(*args, **kwargs))
        if forward is torch.nn.Sequential.forward:
            return self._sequential(module, args, call)
        rule = leaf(type(module))
        if rule is None:
            kind = type(module).__name__
            call.refused = Refused(f"nn.{kind} has no counterpart in jaxnets.layers")
            return run(*args, **kwargs)
        call.name = f"nn.{type(module).__name__}"
        operands: list[Value] = [Plain("self.module", module), *call.args]
        free = is_einops(type(module))
        # The node that created the module, or a new negative number if that was not observed.
        site = self._sites.setdefault(id(module), -len(self._sites) - 1) if free else None
        result = self._run(
            call, rule.call, operands, call.kwargs, lambda: run(*args, **kwargs), site
        )
        if free:
            modules.RETURNED[module] = self.order(result)
        return result

    def _pinned(self, function: Any, args: Any, kwargs: Any, call: Call) -> tuple[Any, Any]:
        """Returns the arguments of a user's function in the orders of its first call.

        The function is written once, so all its calls need the same orders.
        """
        plain = plain_function(function)
        if plain is None or isinstance(function, type) or not is_users(plain):
            return args, kwargs
        if not self._pinned_functions:
            return args, kwargs
        number = number_of(self.sources.function(plain))
        if number not in self._pinned_functions:
            return args, kwargs
        names = plain.__code__.co_varnames[: plain.__code__.co_argcount]
        names = names[1:] if isinstance(function, types.MethodType) else names

        def settled(place: int | str, value: Any) -> Any:
            import torch

            if not isinstance(value, torch.Tensor):
                return value
            name = names[place] if isinstance(place, int) and place < len(names) else place
            order = self.order(value)
            usual = order in (natural(value.ndim), channels_last(value.ndim))
            first = order if usual else natural(value.ndim)
            first = self.chosen.get(("entry", number, name, value.ndim), first)
            pin = self._pins.setdefault((plain, name, value.ndim), first)
            if pin == order:
                return value
            call.entries[place] = pin
            _, _, origin = self._orders.get(id(value), (None, None, None))
            if origin is not None:
                self._wish(Tensor("x", tuple(value.shape), order, value.dtype, origin=origin), pin)
            # Orders are recorded by id, and the caller's tensor keeps its order.
            alias = value.view_as(value)
            self._orders[id(alias)] = (alias, pin, None)
            return alias

        new = tuple(settled(place, value) for place, value in enumerate(args))
        return new, {name: settled(name, value) for name, value in kwargs.items()}

    def _in_fixed_order(self, function: Any, result: Any) -> Any:
        """Returns the result of a user's function in the fixed order of its callers, if any."""
        import torch

        plain = plain_function(function)
        if not isinstance(result, torch.Tensor) or plain is None or not is_users(plain):
            return result
        number = number_of(self.sources.function(plain))
        return self._fixed("exit", number, result, self.facts.exits)

    def assign(self, key: int, value: Any) -> Any:
        """Returns a value that is assigned to a variable, in the fixed order of the variable."""
        import torch

        if not isinstance(value, torch.Tensor):
            return value
        return self._fixed("assigned", key, value, self.facts.assigned)

    def _fixed(self, place: str, number: int, tensor: Any, fixed: dict[Any, Any]) -> Any:
        """Returns a tensor in the order that is fixed for a place; records it if it differs."""
        order = self.chosen.get((place, number, tensor.ndim))
        if order is None or order == self.order(tensor):
            return tensor
        fixed[number, tensor.ndim] = order
        alias = tensor.view_as(tensor)
        self._orders[id(alias)] = (alias, order, None)
        return alias

    def _sequential(self, module: Any, args: Any, call: Call) -> Any:
        """Runs the children of nn.Sequential; its caller converts the order of the input."""
        (x,) = args
        before = None
        for child in module:
            inner = Call(child, None, *self._snapshots((x,), {}))
            given = x
            x = self.module(child, (x,), {}, inner)
            entry = inner.entry or inner.entries.get(0)
            if entry is not None and before is None:
                call.entry = entry
            elif entry is not None:
                self._between(before, child, given, entry)
                why = f"{type(child).__name__} within nn.Sequential needs another order of axes"
                call.refused = call.refused or Refused(why, "call the layers one by one in forward")
            call.refused = call.refused or inner.refused
            before = child
        return x

    def _between(self, before: Any, child: Any, given: Any, entry: tuple[int, ...]) -> None:
        """Records a preferred order for one of two neighbours in nn.Sequential.

        There is no code between the two that could convert the order.
        """
        for module, ours, order in ((child, True, self.order(given)), (before, False, entry)):
            forward = plain_function(type(module).forward)
            if forward is not None and is_users(forward):
                place: tuple[Any, ...] = ("exit", number_of(self.sources.function(forward)))
                if ours:
                    place = ("entry", place[1], forward.__code__.co_varnames[1])
                self.facts.wishes.setdefault((*place, given.ndim), order)
                return

    def attribute(self, key: int, base: Any, name: str) -> Any:
        """Reads and records an attribute."""
        import torch

        if isinstance(base, torch.Tensor) and not isinstance(
            getattr(torch.Tensor, name, None), types.FunctionType | types.MethodDescriptorType
        ):
            call = Call(None, f"Tensor.{name}", [self.snapshot(base)], {})
            result = self._ruled(call, lambda: getattr(base, name), key)
            self._note(key, call, result)
            return result
        if isinstance(getattr(type(base), name, None), property):
            self.adopt(type(base))
        owners = self.facts.owners.setdefault(key, {})
        if len(owners) < _MOST_FACTS:
            owners.setdefault(id(base), base)
        if self.calling and isinstance(base, torch.nn.Module):
            node = getattr(self.sources.nodes[key], "value", None)
            if not isinstance(node, ast.Name) or node.id != "self":
                self.facts.outside.setdefault(type(base), set()).add(name)
        value = getattr(base, name)
        if isinstance(value, torch.Tensor) and isinstance(base, torch.nn.Module):
            rule = leaf(type(base))
            known = rule.parameters.get(name) if rule is not None else None
            if known is not None:
                self._orders[id(value)] = (value, known[1], None)
        return self.value(key, value)

    def operator(self, key: int, name: str, *operands: Any) -> Any:
        """Applies and records an operator."""
        import torch

        function = getattr(operator, name)
        if not any(isinstance(o, torch.Tensor) for o in operands):
            return self.value(key, function(*operands))
        call = Call(function, f"operator.{name}", *self._snapshots(operands, {}))
        result = self._ruled(call, lambda: function(*operands), key)
        self._note(key, call, result)
        return result

    def item(self, key: int, base: Any, index: Any) -> Any:
        """Reads and records ``base[index]``."""
        import torch

        if isinstance(base, torch.Tensor):
            return self.operator(key, "getitem", base, index)
        return self.value(key, base[index])

    def set_item(self, key: int, base: Any, index: Any, value: Any) -> None:
        """Runs and records ``base[index] = value``."""
        import torch

        if not isinstance(base, torch.Tensor):
            base[index] = value
            return
        call = Call(
            operator.setitem, "operator.setitem", *self._snapshots((base, index, value), {})
        )

        def change() -> Any:
            base[index] = value
            return base

        self._note(key, call, self._ruled(call, change, key))

    def augment(self, key: int, name: str, target: Any, value: Any) -> Any:
        """Runs and records ``target += value``."""
        import torch

        function = getattr(operator, f"i{name.removesuffix('_')}")
        if not isinstance(target, torch.Tensor) and not isinstance(value, torch.Tensor):
            return function(target, value)
        call = Call(function, f"operator.{name}", *self._snapshots((target, value), {}))
        result = self._ruled(call, lambda: function(target, value), key)
        self._note(key, call, result)
        return result

    def augment_item(self, key: int, name: str, base: Any, index: Any, value: Any) -> None:
        """Runs and records ``base[index] += value``."""
        import torch

        if isinstance(base, torch.Tensor):
            # One node has three operations: two of them are recorded under negative numbers.
            item = self.operator(-3 * key - 1, "getitem", base, index)
            new = self.operator(-3 * key - 2, name, item, value)
            self.set_item(key, base, index, new)
        else:
            base[index] = self.augment(-3 * key - 2, name, base[index], value)

    # Rules, which determine the order of results.

    def _ruled(self, call: Call, run: Callable[[], Any], key: int | None) -> Any:
        """Runs a call with its rule, or records in ``call`` that it has no rule."""
        import torch

        rule = find_rule(call.name)
        tensors = any(_has_tensor(v) for v in (*call.args, *call.kwargs.values()))
        if rule is None:
            result = run()
            library = call.name is not None and call.name.partition(".")[0] not in _PYTHONS
            made = isinstance(result, torch.Tensor | torch.nn.Module)
            moved = tensors and not all(_is_natural(v) for v in call.args)
            if (library and (tensors or made)) or moved:
                call.refused = Refused(f"{call.name} has no rule")
            return result
        if not tensors and call.name is not None and call.name.partition(".")[0] in _PYTHONS:
            return run()
        return self._run(call, rule, call.args, call.kwargs, run, key)

    def _run(
        self,
        call: Call,
        rule: Any,
        args: list[Value],
        kwargs: dict[str, Value],
        run: Callable[[], Any],
        key: int | None,
    ) -> Any:
        """Runs an operation, and applies its rule to get the order of the result."""
        import torch

        before = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)]
        result = run()
        context = _Watched(result=result, writing=False, wish=self._wish)
        try:
            value = rule(list(args), dict(kwargs), context)
        except Refused as refused:
            call.refused = refused
            return result
        except Exception as error:  # the rule does not support such operands
            call.refused = Refused(f"{call.name}: {type(error).__name__}: {error}")
            return result
        if key in self._moving and isinstance(value, Tensor) and _permutes(call):
            value = replace(value, order=natural(value.ndim))
        inputs = [id(t) for t in before]
        converted = [order for tensor, order in context.converted if id(tensor) in inputs]
        call.entry = converted[0] if converted else None
        free = not before or str(call.name).startswith("nn.") or call.name in FREE
        created = free and isinstance(result, torch.Tensor) and key is not None
        if isinstance(result, torch.Tensor) and isinstance(value, Tensor):
            result = self._own(result, value.order)
        self._assign(result, value, before, ("node", key) if created else None)
        return result

    def _own(self, result: Any, order: tuple[int, ...]) -> Any:
        """Returns a view of a result if PyTorch returned an argument that has another order."""
        known = self._orders.get(id(result))
        if known is not None and known[1] != order and len(order) == result.ndim:
            return result.view_as(result)
        return result

    def _assign(self, result: Any, value: Value, before: list[Tensor], created: Any) -> None:
        """Records the orders of a result.

        Args:
            result: the result in PyTorch.
            value: the result of the rule, with orders.
            before: the operands.
            created: identifies the creation of a new tensor, whose order can be chosen; or None.
        """
        import torch

        if isinstance(result, torch.Tensor) and isinstance(value, Tensor):
            order, origin = value.order, None
            if sorted(order) != list(range(result.ndim)):
                order = natural(result.ndim)
            if order == natural(result.ndim):
                shape = tuple(result.shape)
                free = [t.origin for t in before if t.origin is not None and t.shape == shape]
                origin = created or (free[0] if free else None)
                if origin in self.chosen:
                    wanted = self.chosen[origin]
                    order = wanted if created and len(wanted) == len(order) else order
                    origin = None
            self._orders[id(result)] = (result, order, origin)
        elif isinstance(result, list | tuple) and isinstance(value, Items):
            for one, own in zip(result, value.items, strict=False):
                self._assign(one, own, before, None)
            self._keep.append(result)

    def _wish(self, tensor: Tensor, order: tuple[int, ...]) -> None:
        """Records a preferred order for the origin of a tensor, for the next run."""
        if order != natural(len(order)):
            self.facts.wishes.setdefault(tensor.origin, order)

    # Facts.

    def snapshot(self, value: Any, depth: int = 3) -> Value:
        """Describes a value as it is now, with a placeholder text."""
        import torch

        if isinstance(value, torch.Tensor):
            _, order, origin = self._orders.get(id(value), (None, None, None))
            if id(value) not in self._orders:
                order = natural(value.ndim)
                self._keep.append(value)
            assert order is not None
            return Tensor("x", tuple(value.shape), order, value.dtype, origin=origin)
        if isinstance(value, list | tuple) and depth and len(value) < 1000:
            items = tuple(self.snapshot(one, depth - 1) for one in value)
            kind = list if isinstance(value, list) else tuple
            if isinstance(value, torch.Size) or any(_has_tensor(item) for item in items):
                return Items(items, "x", kind)
            if all(isinstance(one, _SCALARS) for one in value):
                return Items(items, "x", kind)
            if any(isinstance(one, slice) or one is None or one is Ellipsis for one in value):
                return Items(items, "x", kind)
        return Plain("x", list(value) if isinstance(value, list) else value)

    def _snapshots(self, args: Any, kwargs: Any) -> tuple[list[Value], dict[str, Value]]:
        named = {name: self.snapshot(value) for name, value in kwargs.items()}
        return [self.snapshot(value) for value in args], named

    def _note(self, key: int | None, call: Call, result: Any) -> None:
        """Records a call and its result at a node, unless an equal call was recorded."""
        if key is None:
            return
        call.result, call.value = result, self.snapshot(result)
        calls = self.facts.calls.setdefault(key, {})
        if len(calls) < _MOST_FACTS:
            parts = (*call.args, *call.kwargs.values(), call.value)
            signature = (_identity(call.function), call.name, *map(_signature, parts))
            calls.setdefault(signature, call)
        self.value(key, result)

    # The user's code.

    def adopt(self, value: Any) -> None:
        """Replaces the code of a function, or of all methods of a class, by reporting code."""
        import torch

        if isinstance(value, torch.nn.Module):
            for child in value.modules():
                self.adopt(type(child))
        elif isinstance(value, type):
            for cls in value.__mro__:
                if cls not in self._classes and is_users(cls):
                    self._classes.add(cls)
                    for member in vars(cls).values():
                        self._change(plain_function(member))
        elif not isinstance(value, types.BuiltinFunctionType):
            owner = getattr(value, "__self__", None)
            if isinstance(owner, torch.nn.Module):
                self.adopt(type(owner))
            self._change(plain_function(value))

    def _change(self, function: types.FunctionType | None) -> None:
        """Replaces the code of a function of the user by reporting code, once."""
        if function is None or function in self._changed or not is_users(function):
            return
        try:
            node = self.sources.function(function)
        except Refused:
            return
        code = compiled(node, function.__code__)
        self._constants(node, function.__globals__)
        if code is not None:
            self._changed[function] = function.__code__
            function.__code__ = code
            self._defaults(node, function)

    def _constants(self, node: FunctionNode, names: dict[str, Any]) -> None:
        """Observes the tensors of a function's module, by computing each of them again, once."""
        import torch

        source = self.sources.of(node)
        if source.path in self._files:
            return
        self._files.add(source.path)
        for one in source.tree.body:
            target = one.targets[0] if isinstance(one, ast.Assign) else None
            value: Any = names.get(target.id) if isinstance(target, ast.Name) else None
            if type(value) is torch.Tensor:
                # The module's own tensor, which the functions read, stays in PyTorch's order.
                self.chosen["assigned", number_of(one), value.ndim] = natural(value.ndim)
                expression = ast.Expression(instrumented(one).value)
                with contextlib.suppress(Exception):
                    eval(compile(ast.fix_missing_locations(expression), source.path, "eval"), names)

    def _defaults(self, node: FunctionNode, function: types.FunctionType) -> None:
        """Observes the calls in default values by evaluating them again."""
        for default in defaults(node):
            if any(isinstance(one, ast.Call) for one in ast.walk(default)):
                changed = ast.fix_missing_locations(ast.Expression(instrumented(default)))
                with contextlib.suppress(Exception):
                    eval(
                        compile(changed, function.__code__.co_filename, "eval"),
                        function.__globals__,
                    )


@dataclass
class _Watched(Context):
    """A context that records conversions of orders."""

    converted: list[tuple[Tensor, tuple[int, ...]]] = field(default_factory=list)

    def convert(self, tensor: Tensor, order: tuple[int, ...]) -> Tensor:
        if tensor.order != order:
            self.converted.append((tensor, order))
        return super().convert(tensor, order)


_PYTHONS = ("builtins", "math")
_PERMUTATIONS = ("transpose", "permute", "swapaxes", "swapdims", "movedim", "moveaxis", "T", "mT")


def _permutes(call: Call) -> bool:
    return str(call.name).rpartition(".")[2].strip("_") in _PERMUTATIONS


def leaf(cls: type) -> Any:
    """Returns the rule of a PyTorch layer class, or of the one that a user's class derives from."""
    own = (one for one in cls.__mro__ if not is_users(one))
    return modules.find(next(own))


def find_rule(name: str | None) -> Any:
    """Returns the rule of a name; in-place operations fall back to the rule without underscore."""
    if name is None:
        return None
    rule = ops.find(name)
    if rule is None and name.endswith("_") and not name.endswith("__"):
        rule = ops.find(name.removesuffix("_"))
    return rule


def _has_tensor(value: Value) -> bool:
    if isinstance(value, Items):
        return any(map(_has_tensor, value.items))
    return isinstance(value, Tensor)


def _is_natural(value: Value) -> bool:
    if isinstance(value, Items):
        return all(map(_is_natural, value.items))
    return not isinstance(value, Tensor) or value.natural


def _identity(value: Any) -> Any:
    owner = getattr(value, "__self__", None)
    function = getattr(value, "__func__", None)
    return (id(owner), id(function)) if function is not None else id(value)


def _signature(value: Value) -> Any:
    """Returns a key that is equal for values that lead to the same source text."""
    if isinstance(value, Tensor):
        return value.shape, value.order, value.dtype
    if isinstance(value, Items):
        return value.kind, tuple(map(_signature, value.items))
    if isinstance(value.value, _SCALARS):
        return type(value.value), value.value
    return id(value.value)
