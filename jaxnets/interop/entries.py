"""Lists every weight of a model with its PyTorch names."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, describe
from jaxnets.interop import flax_layers, table
from jaxnets.interop.links import Leaf, Link
from jaxnets.layers.parametrization import Parametrized

#: Variables that are not part of PyTorch's state_dict.
_NO_WEIGHTS = (nnx.RngState, nnx.Cache, nnx.Intermediate, nnx.Perturbation)


#: Modules with an attribute that has no part in PyTorch's names: the children of the attribute
#: are named as direct children of the module.
_NAMELESS = ((nnx.Sequential, "layers"), (Parametrized, "layer"))


@dataclass(frozen=True)
class Entry:
    """The link of one layer, with full paths in the model.

    Attributes:
        link: converts between the arrays of the model and PyTorch's.
        variables: the model's variables, in the link's order.
        ours: the paths of the variables in the model, such as
            ``encoder.layers.0.linear1.kernel``.
        theirs: PyTorch's names in the state_dict of the whole model.
    """

    link: Link
    variables: tuple[nnx.Variable, ...]
    ours: tuple[str, ...]
    theirs: tuple[str, ...]

    def to_torch(self, arrays: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        """Converts the model's arrays, in the link's order, to PyTorch's arrays by name."""
        return dict(zip(self.theirs, self.link.to_torch(*arrays), strict=True))

    def template(self) -> dict[str, np.ndarray]:
        """Returns zeros with the shapes and dtypes of PyTorch's arrays, by name."""
        return self.to_torch(np.zeros(weight.shape, weight.dtype) for weight in self.variables)

    def own_shapes(self) -> str:
        """Describes the model's variables with their shapes for a message."""
        named = zip(self.ours, self.variables, strict=True)
        return ", ".join(f"{name} {describe(weight)}" for name, weight in named)


def nodes(model: nnx.Module) -> Iterator[tuple[str, str, Any]]:
    """Iterates over every module and container of a model, once for each path to it.

    PyTorch's name is the path without the attribute ``layers`` of ``nnx.Sequential`` and the
    attribute ``layer`` of ``WeightNorm`` and ``SpectralNorm``.

    Args:
        model: the module to traverse.

    Yields:
        The path of a node, its PyTorch name and the node. Path and name are empty or end in a dot.
    """
    yield from _walk(model, "", "", ())


def _walk(node: Any, path: str, name: str, above: tuple[Any, ...]) -> Iterator[tuple]:
    if any(node is parent for parent in above):
        return
    yield path, name, node
    for key, child in _items(node):
        if isinstance(child, nnx.Pytree | Mapping | list | tuple):
            dropped = any(key == k and isinstance(node, kind) for kind, k in _NAMELESS)
            inner = name if dropped else f"{name}{key}."
            yield from _walk(child, f"{path}{key}.", inner, (*above, node))


def _items(node: Any) -> list[tuple[str, Any]]:
    """Returns the (name, value) pairs of a module or a container in insertion order."""
    if isinstance(node, nnx.Pytree):
        return [(k, v) for k, v in vars(node).items() if not k.startswith("_pytree__")]
    if isinstance(node, Mapping):
        return [(str(k), v) for k, v in node.items()]
    return [(str(k), v) for k, v in enumerate(node)] if isinstance(node, list | tuple) else []


def plain_arrays(model: nnx.Module) -> dict[str, str]:
    """Returns the paths of a model's arrays that are not ``nnx.Variable``, by PyTorch's names."""
    return {
        name + key: path + key
        for path, name, node in nodes(model)
        for key, value in _items(node)
        if hasattr(value, "shape") and not isinstance(value, nnx.Variable | nnx.Pytree)
    }


def entries(model: nnx.Module) -> list[Entry]:
    """Returns an entry for every weight of a model.

    A weight of a layer without a rule, such as a user-defined parameter, has the same name and
    layout in PyTorch. A weight or a layer with several names has an entry for each name.

    Args:
        model: any ``nnx.Module``.

    Raises:
        InputError: if a layer has no counterpart in PyTorch, or a weight is neither in a module
            nor in a list, tuple or dict.
    """
    if not isinstance(model, nnx.Module):
        raise InputError("model", "an nnx.Module", type(model).__name__)
    found: list[Entry] = []
    taken: set[str] = set()  # paths with an entry, as a link may include weights of inner layers
    reached: set[int] = set()
    for path, name, node in nodes(model):
        if isinstance(node, flax_layers.WITHOUT_COUNTERPART) and _unreached(node, reached):
            got = f"{type(node).__name__} at {path.rstrip('.') or 'the top'}"
            raise InputError("model", "layers with a counterpart in PyTorch", got)
        for link in _links(node):
            ours = tuple(path + part for part in link.ours)
            if not taken.intersection(ours):
                taken.update(ours)
                variables = tuple(_value(node, part) for part in link.ours)
                reached.update(map(id, variables))
                theirs = tuple(name + part for part in link.theirs)
                found.append(Entry(link, variables, ours, theirs))
    if hidden := _unreached(model, reached):
        raise InputError("model", "weights in modules, lists, tuples and dicts", hidden)
    return found


def _links(node: Any) -> list[Link]:
    """Returns the links of one layer, without those of which the layer lacks an array."""
    links = [leaf.link(attribute) for attribute, leaf in table.leaves(node).items()]
    for kind in type(node).__mro__:
        if kind in flax_layers.LINKS:
            links += flax_layers.LINKS[kind](node)
            break
    links = [link for link in links if all(_is_weight(_value(node, part)) for part in link.ours)]
    known = {part for link in links for part in link.ours}
    own = [key for key, value in _items(node) if key not in known and _is_weight(value)]
    return links + [Leaf(key).link(key) for key in own]


def _value(node: Any, path: str) -> Any:
    """Returns the value at a dotted path within a layer, or None if the path does not exist."""
    for part in path.split("."):
        node = dict(_items(node)).get(part)
    return node


def _is_weight(value: Any) -> bool:
    weight = isinstance(value, nnx.Variable) and not isinstance(value, _NO_WEIGHTS)
    return weight and hasattr(value.get_value(), "shape")  # a variable may contain any object


def _unreached(node: Any, reached: set[int]) -> str:
    """Returns the path of a weight in ``node`` that is not in ``reached``, or an empty string."""
    for path, value in nnx.iter_graph(node):
        if _is_weight(value) and id(value) not in reached:
            return ".".join(map(str, path))
    return ""
