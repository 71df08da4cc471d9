"""How objects of one class were made: what all have in common, and what becomes an argument.

An object is described by a tree of what makes it: ``Made`` of a class and its arguments, down to
``Constant`` values. Where the trees of several objects agree, the constructor has a constant; where
they differ, it takes an argument.
"""

import inspect
import keyword
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxnets.port.texts import LIBRARIES

_LITERALS = (int, float, str, bool, type(None), bytes, complex)
_LEAST, _MOST = 2, 8  # times that a size may be another one


@dataclass(frozen=True)
class Constant:
    """A value that is written as it is: a number, a word, a function, a class."""

    value: Any


@dataclass(frozen=True)
class Made:
    """An object by what makes it.

    Attributes:
        head: what is called, such as ("layer", torch.nn.Conv2d).
        args: the arguments by name, all of them.
        value: the object.
        defaults: of the arguments that may be left out.
        whole: whether its arguments are still unknown, so that it can only be an argument itself.
    """

    head: tuple[Any, ...]
    args: dict[str, "Node"]
    value: Any = None
    defaults: dict[str, Any] = field(default_factory=dict)
    whole: bool = False


Node = Constant | Made
Path = tuple[str, ...]


def key(node: Node) -> Hashable:
    """What two trees have in common that make equal objects."""
    if isinstance(node, Constant):
        literal = isinstance(node.value, _LITERALS)
        return (type(node.value), repr(node.value)) if literal else id(node.value)
    if node.whole:
        return id(node)
    return node.head, tuple((name, key(arg)) for name, arg in node.args.items())


def at(node: Node, path: Path) -> Node:
    """The part of a tree."""
    for name in path:
        assert isinstance(node, Made)
        node = node.args[name]
    return node


@dataclass
class Parameter:
    """An argument of a constructor.

    Attributes:
        name: its name.
        paths: the parts of the tree that it is.
        nodes: what these are, an object after the other.
        default: what it is where it is left out; None if it never is.
    """

    name: str
    paths: list[Path]
    nodes: list[Node]
    default: Constant | None = None


@dataclass
class Signature:
    """The arguments of a constructor.

    Attributes:
        parameters: those with defaults come last.
        texts: of the parts of a tree that are no constants, by their paths.
    """

    parameters: list[Parameter]
    texts: dict[Path, str]


def signature(trees: Sequence[Node], taken: Collection[str]) -> Signature:
    """What a constructor must take that makes each of several objects.

    Parts that are equal in each object are one argument: the channels of a convolution and of
    the normalization after it. A size that is always a multiple of another one is written so.

    Args:
        trees: of the objects.
        taken: names that mean something else.
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
    """Whether one object may be in several places: not if it has weights or random streams."""
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
    """The argument that a size is a multiple of, if it has no name of its own."""
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
    """PyTorch's default, where some object has it; None where an object lacks what others have."""
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
    """Names arguments by the layers' arguments or the attributes that they are."""
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
    """The last part of a path that is a word."""
    if "shape" in path:
        return f"{path[0]}_size"
    path = tuple(part for part in path if part != "value") or path
    words = (part.rpartition(".")[2] for part in reversed(path) if not part.isdigit())
    word = next(words, f"layer_{path[-1]}")
    return word + "_" if word in LIBRARIES else word


def _place(path: Path) -> str:
    return "_".join(part.rpartition(".")[2] for part in path[:-1]).strip("_") or path[-1]
