"""The objects of each class in a network, described by the code that creates them again."""

import enum
import functools
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from flax import nnx

from jaxnets import layers
from jaxnets.port.making import Constant, Made, Node, Path, Signature, signature
from jaxnets.port.modules import DROPPED
from jaxnets.port.observe import leaf
from jaxnets.port.settings import defaults, settings
from jaxnets.port.sources import is_users
from jaxnets.port.values import Refused

_MOST_NUMBERS = 200_000  # largest size of an array that is written as a literal
_MISSING = object()


class Instances:
    """The objects of the user's classes in a network.

    Args:
        root: the network.
        seen: the names of attributes that code outside of a class reads, by class.
        stored: the names of attributes that methods assign while the network is called.
    """

    def __init__(self, root: Any, seen: dict[type, set[str]], stored: set[str]) -> None:
        self.root, self.seen, self.stored = root, seen, stored
        self.read: dict[type, set[str]] = {}
        self._objects: dict[type, list[Any]] = {}
        self._signatures: dict[type, Signature] = {}
        self._trees: dict[int, Made] = {}
        self._unfinished: set[type] = set()
        self._own: dict[type, set[str]] = {}
        self._places: dict[int, tuple[Any, str]] = {}  # the owner and the first place of layers
        self._trains = any(one.requires_grad for one in root.parameters())
        for module in _walked(root):
            if is_users(type(module)):
                self._objects.setdefault(type(module), []).append(module)
        self.names = _distinct(self._objects)

    def restart(self) -> None:
        """Clears the cached trees and signatures, as the attributes that are read may change."""
        self._signatures.clear()
        self._trees.clear()

    def known(self, cls: Any) -> bool:
        """Whether there are objects of exactly this class."""
        return cls in self._objects

    def family(self, cls: type) -> list[Any]:
        """Returns the objects of a class and its subclasses."""
        return [
            one for kind, found in self._objects.items() if issubclass(kind, cls) for one in found
        ]

    def name(self, cls: type) -> str:
        """Returns the name of a class in the new file."""
        return self.names.get(cls, cls.__name__)

    def signature(self, cls: type) -> Signature:
        """Returns the signature of the constructor of a class."""
        if cls not in self._objects:
            why = f"a {cls.__name__} is in a plain list or dict, which PyTorch does not register"
            raise Refused(why, "store it in an nn.ModuleList or nn.ModuleDict")
        if cls not in self._signatures:
            self._unfinished.add(cls)
            try:
                trees = [self._new_tree(one) for one in self._objects[cls]]
            finally:
                self._unfinished.remove(cls)
            taken = {"self", "rngs", *self.names.values()}
            self._signatures[cls] = signature(_alike(cls, trees), taken)
            self._trees.clear()  # trees that refer to this class lack the new signature
        return self._signatures[cls]

    def tree(self, module: Any) -> Made:
        """Returns the tree of attributes that creates an object of a class of the user."""
        if id(module) not in self._trees:
            self._trees[id(module)] = self._new_tree(module)
        return self._trees[id(module)]

    def uneven(self, cls: type) -> bool:
        """Whether the objects of a class have different attributes."""
        return len({frozenset(self.tree(one).args) for one in self._objects[cls]}) > 1

    def first(self, cls: type) -> Made:
        """Returns the tree of the first object, with all attributes that any object has."""
        self.signature(cls)
        if len({self._shared(one) for one in self._objects[cls]}) > 1:
            raise Refused("only some objects have one layer in several places")
        return _alike(cls, [self.tree(one) for one in self._objects[cls]])[0]

    def _shared(self, owner: Any) -> tuple[tuple[str, str], ...]:
        """Returns the pairs of places of an object that have the same layer.

        Raises:
            Refused: if the second place is not in a later attribute of the object.
        """
        found = []
        for place, module in _slots(owner):
            first_owner, first = self._places.setdefault(id(module), (owner, place))
            if (first_owner is owner and first == place) or not _has_state(module):
                continue
            if first_owner is not owner or first.partition(".")[0] == place.partition(".")[0]:
                why = f"one {type(module).__name__} is in several places of the network"
                raise Refused(why, "store it once, and call it from there")
            found.append((first, place))
        return tuple(found)

    @property
    def written(self) -> list[str]:
        """The names of the classes."""
        return [self.name(cls) for cls in self._objects]

    # Attributes.

    def attributes(self, cls: type) -> set[str]:
        """Returns the names of the attributes of a class that any code reads."""
        lists = (found for kind, found in self.read.items() if issubclass(cls, kind))
        return set().union(*lists, *(self.seen.get(kind, ()) for kind in cls.__mro__))

    def _new_tree(self, module: Any) -> Made:
        _check_hooks(module)
        cls = type(module)
        read, base = self.attributes(cls), base_layer(cls)
        args: dict[str, Node] = {}
        ready: set[str] = set()
        if base is not None:
            given = settings(module, base)
            args = {_ARGUMENT + name: self.node(value) for name, value in given.items()}
            ready = {*_held(base, given), *self._equal_attributes(cls, base, given, module)}
        for name, value in vars(module).items():
            if name in read and name not in _INTERNAL and name not in ready:
                args[name] = self.node(value, module)
        for name, value in [*module._parameters.items(), *module._buffers.items()]:
            if name in ready or (value is None and name not in read):
                continue
            args[name] = self._variable(module, name, value)
        kind = container(cls)
        if kind is not None:
            args[CHILDREN] = self._children(module, kind)
        for name, child in module._modules.items() if kind is None else ():
            if name in ready or (child is None and name not in read):
                continue
            if name in read or _has_state(child):
                args[name] = self.node(child)
        standard = {} if base is None else _prefixed(defaults(base))
        return Made(("class", cls), args, module, standard)

    def _equal_attributes(
        self, cls: type, base: type, given: dict[str, Any], module: Any
    ) -> set[str]:
        """Returns the plain attributes that the jaxnets layer sets to the same values."""
        if cls not in self._own:
            rule, make = leaf(base), getattr(layers, base.__name__)
            known = {name: v for name, v in given.items() if name not in DROPPED}

            def made() -> Any:
                return make(**known, rngs=nnx.Rngs(0)) if rule.rngs else make(**known)

            ours, theirs = vars(nnx.eval_shape(made)), vars(module)
            self._own[cls] = {n for n in ours if n in theirs and ours[n] == theirs[n]}
        return self._own[cls]

    def _variable(self, module: Any, name: str, value: Any) -> Node:
        if value is None:
            return Constant(None)
        if name in module._parameters:
            frozen = self._trains and not value.requires_grad
            kind = "nnx.Variable" if frozen else "nnx.Param"
            return Made(("variable", kind), {"value": _initial(value)})
        if name in module._non_persistent_buffers_set:
            return Made(("variable", "nnx.Cache"), {"value": array(value)})
        return Made(("variable", "nnx.Variable"), {"value": _initial(value)})

    # Trees of values.

    def node(self, value: Any, owner: Any = None) -> Node:
        """Returns the tree that creates a value."""
        import torch

        if isinstance(value, torch.nn.Module):
            return self._module(value)
        if isinstance(value, torch.nn.Parameter):
            return Made(("variable", "nnx.Param"), {"value": _initial(value)})
        if isinstance(value, torch.Tensor):
            return array(value)
        if isinstance(value, torch.device):
            return Constant(None)
        if isinstance(value, list | tuple):
            kind = list if isinstance(value, list) else tuple
            return Made((kind.__name__,), {str(i): self.node(v) for i, v in enumerate(value)})
        if isinstance(value, dict):
            return Made(("dict", tuple(value)), {str(k): self.node(v) for k, v in value.items()})
        if isinstance(value, functools.partial):
            args = {str(i): self.node(v) for i, v in enumerate(value.args)}
            args |= {name: self.node(v) for name, v in value.keywords.items()}
            return Made(("partial",), {"function": self.node(value.func), **args})
        if isinstance(value, types.MethodType) and value.__self__ is owner:
            return Made(("text", f"self.{value.__name__}"), {})
        if isinstance(value, types.SimpleNamespace):
            named = {name: self.node(v) for name, v in vars(value).items()}
            return Made(("namespace",), named)
        if is_dataclass(value) and not isinstance(value, type) and is_users(type(value)):
            named = {f.name: self.node(getattr(value, f.name)) for f in fields(value) if f.init}
            return Made(("object", type(value)), named)
        return Constant(value)

    def _children(self, module: Any, kind: str) -> Made:
        """Returns the tree of the children of a container."""
        held = module._parameters if kind.startswith("Parameter") else module._modules
        args = {name: self.node(one) for name, one in held.items() if one is not None}
        return Made(("children", kind), args)

    def _module(self, module: Any) -> Node:
        cls = type(module)
        if is_users(cls):
            if cls in self._unfinished:
                return Made(("class", cls), {}, module, whole=True)
            tree = self.signature(cls), self.tree(module)
            return _called(cls, *tree)
        kind = container(cls)
        if kind is not None:
            return Made(("group", kind), {CHILDREN: self._children(module, kind)}, module)
        _check_hooks(module)
        if leaf(cls) is None:
            return Made(("unknown", cls), {}, module)
        given = {name: self.node(value) for name, value in settings(module, cls).items()}
        return Made(("layer", cls), given, module, defaults(cls))

    def attributes_of(self, objects: list[Any], name: str) -> list[Any]:
        """Returns an attribute of several objects; empty if one lacks it or methods assign it."""
        values = [_attribute(one, name) for one in objects]
        if name in self.stored or any(value is _MISSING for value in values):
            return []
        return values


def same_making(one: Any, other: Any) -> bool:
    """Whether two networks have the same layers with the same settings and plain attributes."""
    ones, others = dict(one.named_modules()), dict(other.named_modules())
    if list(ones) != list(others):
        return False
    return all(_same_settings(ones[name], others[name]) for name in ones)


def _same_settings(one: Any, other: Any) -> bool:
    shapes = [{n: v.shape for n, v in m.state_dict().items()} for m in (one, other)]
    if type(one) is not type(other) or shapes[0] != shapes[1]:
        return False
    plain = [
        {
            name: repr(value)
            for name, value in vars(m).items()
            if isinstance(value, int | float | str | bool | type(None) | tuple | list)
            and name not in _internal()
        }
        for m in (one, other)
    ]
    return plain[0] == plain[1]


CHILDREN = "modules"  # key of the children of a container in a tree
_ARGUMENT = "argument."  # prefix of the arguments of the layer that a class derives from


def _prefixed(values: dict[str, Any]) -> dict[str, Any]:
    return {_ARGUMENT + name: value for name, value in values.items()}


def _called(cls: type, taken: Signature, tree: Made) -> Made:
    """Returns the tree of the constructor call that creates an object."""
    args: dict[str, Node] = {}
    standard: dict[str, Any] = {}
    for parameter in taken.parameters:
        args[parameter.name] = _part(tree, parameter.paths[0])
        if parameter.default is not None:
            standard[parameter.name] = parameter.default.value
    return Made(("class", cls), args, tree.value, standard)


def _part(node: Node, path: Path) -> Node:
    """Returns the part of a tree at a path; the constant None if an object lacks it."""
    for name in path:
        assert isinstance(node, Made)
        if name not in node.args:
            return Constant(None)
        node = node.args[name]
    return node


def _alike(cls: type, trees: list[Made]) -> list[Made]:
    """Returns trees with equal attributes: missing ones become the constant None."""
    names: dict[str, None] = {}
    for tree in trees:
        names |= dict.fromkeys(tree.args)
    return [
        Made(t.head, {n: t.args.get(n, Constant(None)) for n in names}, t.value, t.defaults)
        for t in trees
    ]


def base_layer(cls: type) -> Any:
    """Returns the layer of torch.nn that a class of the user derives from, or None."""
    own = next(one for one in cls.__mro__ if not is_users(one))
    return own if leaf(cls) is not None else None


def _check_hooks(module: Any) -> None:
    """Refuses a module with hooks or parametrizations, which its class does not show."""
    hooks = [
        *(module._forward_pre_hooks, module._forward_hooks),
        *(module._backward_pre_hooks, module._backward_hooks),
        *(one._backward_hooks for one in module._parameters.values() if one is not None),
    ]
    if any(hooks) or hasattr(module, "parametrizations"):
        raise Refused(f"a {type(module).__name__} with hooks or parametrizations")


@functools.cache
def _containers() -> dict[type, str]:
    import torch

    names = ("Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict")
    return {getattr(torch.nn, name): name for name in names}


def container(cls: type) -> str | None:
    """Returns the name of the torch.nn container that a class is or derives from, or None."""
    return next((name for one, name in _containers().items() if issubclass(cls, one)), None)


def _walked(root: Any) -> Iterator[Any]:
    """Yields the root and all modules in classes of the user or in containers, each once."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        module = waiting.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        yield module
        cls = type(module)
        if is_users(cls) or container(cls) is not None:
            waiting += [one for one in reversed(module._modules.values()) if one is not None]


def _slots(owner: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the layers of an object, also those in its containers, with their places."""
    for name, module in owner._modules.items():
        if module is not None:
            yield f"{place}{name}", module
            if not is_users(type(module)) and container(type(module)) is not None:
                yield from _slots(module, f"{place}{name}.")


def texts_of_layers(module: Any, text: str) -> dict[int, str]:
    """Returns the source text of a layer and of the layers in it, by id.

    Args:
        module: the layer.
        text: its source text, such as ``self.layer``.
    """
    found = {id(module): text} if _has_state(module) else {}
    kind = container(type(module))
    if kind is not None and not is_users(type(module)):
        for place, (name, one) in enumerate(module._modules.items()):
            inner = f'["{name}"]' if kind.endswith("Dict") else f"[{place}]"
            found = texts_of_layers(one, text + inner) | found
    return found


def _has_state(module: Any) -> bool:
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())


@functools.cache
def _internal() -> frozenset[str]:
    import torch

    return frozenset(vars(torch.nn.Module()))


class _Internal:
    """The set of attribute names that PyTorch sets in every module, computed lazily."""

    def __contains__(self, name: object) -> bool:
        return name in _internal()


_INTERNAL = _Internal()


def _held(base: type, given: dict[str, Any]) -> Iterator[str]:
    """Yields the names of the parameters, buffers and children of a layer of torch.nn."""
    import torch

    with torch.device("meta"):
        plain = base(**given)
    yield from (*plain._parameters, *plain._buffers, *plain._modules)


def _attribute(module: Any, name: str) -> Any:
    import torch

    if not isinstance(module, torch.nn.Module):
        return _MISSING
    for held in (module._modules, module._parameters, module._buffers, vars(module)):
        if name in held:
            return held[name]
    value = getattr(type(module), name, _MISSING)
    plain = isinstance(value, int | float | str | bool | None | enum.Enum)
    return value if plain else _MISSING


def _distinct(classes: dict[type, Any]) -> dict[type, str]:
    """Returns unique names for classes; a repeated name gets the name of its file as a prefix."""
    every = {base: None for cls in classes for base in cls.__mro__ if is_users(base)}
    names: dict[str, type] = {}
    for cls in every:
        name = cls.__name__
        if name in names:
            words = cls.__module__.rpartition(".")[2].split("_")
            name = "".join(word.capitalize() for word in words) + name
        names[name] = cls
    return {cls: name for name, cls in names.items()}


# Arrays.


def array(value: Any) -> Made:
    """Returns the tree that creates a constant array: filled, a range, or a literal."""
    import torch

    value = value.detach().cpu()
    shape: dict[str, Node] = {str(i): Constant(n) for i, n in enumerate(value.shape)}
    args: dict[str, Node] = {"shape": Made(("tuple",), shape)}
    if value.is_sparse:
        raise Refused("a sparse tensor has no counterpart", "make it dense by to_dense()")
    if value.numel() and (first := only(value)) is not None:
        return Made(("filled", value.dtype, first), args)
    if value.ndim == 1 and len(value) > 1 and not value.is_complex() and value.dtype != torch.bool:
        start, step = value[0].item(), (value[1] - value[0]).item()
        line = torch.arange(len(value), dtype=torch.float64) * step + start
        if torch.equal(line.to(value.dtype), value) and step == int(step):
            numbers = {"start": start, "stop": start + step * len(value), "step": step}
            ends: dict[str, Node] = {name: Constant(int(n)) for name, n in numbers.items()}
            if start == int(start):
                return Made(("range", value.dtype), ends)
    if value.numel() > _MOST_NUMBERS:
        raise Refused(f"a buffer of {value.numel()} numbers that is not in the state_dict")
    numbers = value.numpy()
    return Made(("array", value.dtype, numbers.tobytes(), numbers.shape), {}, numbers)


def only(value: Any) -> Any:
    """Returns the value of an array whose elements are all equal, else None."""
    first = value.flatten()[0]
    same = bool((value == first).all())
    return first.item() if same else None


def _initial(value: Any) -> Made:
    """Returns the tree of an array whose values are loaded with the weights."""
    shape: dict[str, Node] = {str(i): Constant(n) for i, n in enumerate(value.shape)}
    return Made(("initial", value.dtype), {"shape": Made(("tuple",), shape)}, value.detach().cpu())
