"""Derives the signature of a constructor from the objects of a class.

The creation of an object is described by a tree of calls: ``Made`` for a call with arguments,
``Constant`` for a value. Parts that are equal in the trees of all objects are constants in the
generated constructor; parts that differ become arguments.
"""

import inspect
import keyword
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxnets.port.texts import LIBRARIES

_LITERALS = (int, float, str, bool, type(None), bytes, complex)
_LEAST, _MOST = 2, 8  # range of the factors for which a size is written as a multiple of another


@dataclass(frozen=True)
class Constant:
    """A value that is written literally: a number, a text, a function, a class."""

    value: Any


@dataclass(frozen=True)
class Made:
    """An object described by the call that creates it.

    Attributes:
        head: the kind and the target of the call, such as ("layer", torch.nn.Conv2d).
        args: all arguments by name.
        value: the object.
        defaults: the default values of optional arguments.
        whole: whether the arguments are not known yet, so that the object can only be an argument
            as a whole.
    """

    head: tuple[Any, ...]
    args: dict[str, "Node"]
    value: Any = None
    defaults: dict[str, Any] = field(default_factory=dict)
    whole: bool = False


Node = Constant | Made
Path = tuple[str, ...]


def key(node: Node) -> Hashable:
    """Returns a key that is equal for trees that create equal objects."""
    if isinstance(node, Constant):
        literal = isinstance(node.value, _LITERALS)
        return (type(node.value), repr(node.value)) if literal else id(node.value)
    if node.whole:
        return id(node)
    return node.head, tuple((name, key(arg)) for name, arg in node.args.items())


def at(node: Node, path: Path) -> Node:
    """Returns the part of a tree at a path."""
    for name in path:
        assert isinstance(node, Made)
        node = node.args[name]
    return node


@dataclass
class Parameter:
    """An argument of a generated constructor.

    Attributes:
        name: the name of the argument.
        paths: the paths of the tree that the argument replaces.
        nodes: the value of the argument for each object.
        default: the default value, or None for a required argument.
    """

    name: str
    paths: list[Path]
    nodes: list[Node]
    default: Constant | None = None


@dataclass
class Signature:
    """The arguments of a generated constructor.

    Attributes:
        parameters: the arguments, those with defaults last.
        texts: the source text of the parts of the tree that are not constant, by path.
    """

    parameters: list[Parameter]
    texts: dict[Path, str]


def signature(trees: Sequence[Node], taken: Collection[str]) -> Signature:
    """Derives the arguments of a constructor that can create each of several objects.

    Parts that always have equal values become one argument, such as the channels of a convolution
    and of the following normalization. A size that is always the same multiple of another size is
    written as a product.

    Args:
        trees: the trees of the objects.
        taken: names that arguments must not have.
    """
    groups: dict[Hashable, Parameter] = {}
    for path, nodes in _differing(list(trees), ()):
        same = tuple(map(key, nodes)) if all(map(_may_be_shared, nodes)) else path
        groups.setdefault(same, Parameter("", [], nodes)).paths.append(path)
    parameters = list(groups.values())
    texts: dict[Path, str] = {}
    multiples = {id(one): found for one in parameters if (found := _multiple(one, parameters))}
    kept = [one for one in parameters if id(one) not in multiples]
    _name(kept, set(taken))
    for one in kept:
        one.default = _default(one, trees[0])
        texts |= dict.fromkeys(one.paths, one.name)
    for one in parameters:
        if id(one) in multiples:
            times, other = multiples[id(one)]
            texts |= dict.fromkeys(one.paths, f"{times} * {other.name}")
    return Signature(sorted(kept, key=lambda one: one.default is not None), texts)


def _differing(nodes: list[Node], path: Path) -> Iterator[tuple[Path, list[Node]]]:
    """Yields the paths at which trees differ, with the nodes of all trees at the path."""
    first = nodes[0]
    made = [node for node in nodes if isinstance(node, Made)]
    known = len(made) == len(nodes) and not any(node.whole for node in made)
    if known and len({(node.head, *node.args) for node in made}) == 1:
        assert isinstance(first, Made)
        for name in first.args:
            yield from _differing([node.args[name] for node in made], (*path, name))
        return
    if len({key(node) for node in nodes}) > 1 or any(node.whole for node in made):
        yield path, nodes


def _may_be_shared(node: Node) -> bool:
    """Whether one object may be used in several places: it has no weights or random numbers."""
    if isinstance(node, Constant):
        return True
    if node.head[0] == "layer":
        return (
            node.value is not None
            and not any(True for _ in node.value.state_dict())
            and ("Dropout" not in type(node.value).__name__)
        )
    plain = node.head[0] in ("tuple", "list", "dict", "partial", "text", "object")
    return plain and all(map(_may_be_shared, node.args.values()))


def _multiple(one: Parameter, others: list[Parameter]) -> tuple[int, Parameter] | None:
    """Returns the factor and the argument of which a size is a multiple, or None.

    Sizes that are attributes of the object keep their own names.
    """
    numbers = _sizes(one)
    if numbers is None or len(one.paths[0]) == 1:
        return None
    for other in others:
        if other is one:
            return None
        base = _sizes(other)
        if base is None or not all(base) or len(set(base)) < 2:
            continue
        times = numbers[0] // base[0]
        same = _LEAST <= times <= _MOST and numbers == [times * n for n in base]
        if same and not _multiple(other, others):
            return times, other
    return None


def _sizes(one: Parameter) -> list[int] | None:
    values = [node.value for node in one.nodes if isinstance(node, Constant)]
    whole = [v for v in values if isinstance(v, int) and not isinstance(v, bool) and v > 1]
    return whole if len(whole) == len(one.nodes) else None


def _default(one: Parameter, tree: Node) -> Constant | None:
    """Returns the default of an argument: PyTorch's default if an object has it, or None's.

    ``Constant(None)`` is the default if some objects lack the attribute. The result is None if the
    argument is required.
    """
    values = {key(node) for node in one.nodes}
    for path in one.paths:
        parent = at(tree, path[:-1])
        assert isinstance(parent, Made)
        default = parent.defaults.get(path[-1], inspect.Parameter.empty)
        if default is not inspect.Parameter.empty and key(Constant(default)) in values:
            return Constant(default)
    return Constant(None) if key(Constant(None)) in values else None


# Names.

_OUTPUTS = ("out_channels", "out_features", "num_features", "normalized_shape", "num_channels")
_LAST = {"num_features": "channels", "normalized_shape": "features", "num_channels": "channels"}


def _name(parameters: list[Parameter], taken: set[str]) -> None:
    """Names arguments after attributes or the arguments of layers for which they are used."""
    ends = [one for one in parameters if _sizes(one) and _ends_in(one, _OUTPUTS)]
    for one in sorted(parameters, key=lambda one: one is not (ends[-1] if ends else None)):
        names = (name for name in _candidates(one) if name.isidentifier())
        free = (name for name in names if name not in taken and not keyword.iskeyword(name))
        one.name = next(free)
        taken.add(one.name)


def _ends_in(one: Parameter, names: Collection[str]) -> bool:
    return any(path[-1] in names for path in one.paths)


def _candidates(one: Parameter) -> Iterator[str]:
    paths = sorted(one.paths, key=len)
    yield from (path[0] for path in paths if len(path) == 1)
    own = [path for path in one.paths if path[-1] not in _LAST]
    for path in own:
        yield _word(path)
    for path in one.paths:
        yield _LAST.get(path[-1], _word(path))
    for path in own or one.paths:
        yield f"{_place(path)}_{_LAST.get(path[-1], _word(path))}"
    for number in range(2, 1000):
        yield f"{_word(one.paths[0])}_{number}"


def _word(path: Path) -> str:
    """Returns the last part of a path that is not a number."""
    if "shape" in path:
        return f"{path[0]}_size"
    path = tuple(part for part in path if part != "value") or path
    words = (part.rpartition(".")[2] for part in reversed(path) if not part.isdigit())
    word = next(words, f"layer_{path[-1]}")
    return word + "_" if word in LIBRARIES else word


def _place(path: Path) -> str:
    return "_".join(part.rpartition(".")[2] for part in path[:-1]).strip("_") or path[-1]
