"""Finds the state_dict of a torch optimizer in a checkpoint."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxnets.arrays import InputError
from jaxnets.interop import files
from jaxnets.interop.report import listed
from jaxnets.interop.unwrapping import items_of, shown_key

#: A torch optimizer, its state_dict, a checkpoint around one, or the path of a file with either.
OptimizerSource = Any

_DEPTH = 4  # a limit, as a mapping in a file may contain itself


@dataclass(frozen=True)
class Source:
    """The state_dict of a torch optimizer.

    Attributes:
        origin: the name of the file or of the argument, for messages.
        tree: the whole checkpoint.
        path: the keys that lead from ``tree`` to the state_dict.
        state: the slots of each parameter, by parameter number.
        groups: the param_groups: hyperparameters and parameter numbers.
        optimizer: the name of the optimizer's class; empty if the source is not an optimizer.
        shapes: the parameter shapes by number; empty if the source is not an optimizer.
    """

    origin: str
    tree: Any
    path: tuple[str, ...]
    state: Mapping[Any, Mapping[str, Any]]
    groups: Sequence[Mapping[str, Any]]
    optimizer: str = ""
    shapes: Mapping[Any, tuple[int, ...]] = field(default_factory=dict)

    @property
    def slots(self) -> set[str]:
        """The names of the slots of all parameters."""
        return {slot for kept in self.state.values() for slot in kept}


def read(source: OptimizerSource, argument: str = "source") -> Source:
    """Finds the optimizer's state_dict in a source by its keys ``state`` and ``param_groups``.

    Raises:
        InputError: if the source has no such state_dict, has several, or it is malformed.
    """
    optimizer, shapes = "", dict[Any, tuple[int, ...]]()
    tree, origin = source, argument
    if isinstance(source, str | os.PathLike):
        tree, origin = files.read(source), str(source)
    elif hasattr(source, "param_groups") and hasattr(type(source), "state_dict"):
        optimizer, tree = type(source).__name__, source.state_dict()
        for own, packed in zip(source.param_groups, tree["param_groups"], strict=True):
            sizes = (tuple(parameter.shape) for parameter in own["params"])
            shapes.update(zip(packed["params"], sizes, strict=True))
    found = list(_find(tree, (), set()))
    if len(found) != 1:
        expected = "the state_dict of one torch optimizer, with state and param_groups"
        places = listed(repr(".".join(path)) for path, _ in found)
        got = f"{origin}, which has several at {places}" if found else _contents(tree, origin)
        raise InputError(argument, expected, got)
    ((path, state_dict),) = found
    state, groups = state_dict["state"], state_dict["param_groups"]
    if not _is_state(state) or not _are_groups(groups):
        expected = "param_groups with params and lr, and a state for each parameter"
        raise InputError(argument, expected, f"{origin} without them")
    return Source(origin, tree, path, state, groups, optimizer, shapes)


def _find(
    tree: Any, path: tuple[str, ...], seen: set[tuple[int, int]]
) -> Iterator[tuple[tuple[str, ...], Mapping]]:
    """Yields the mappings with the keys of an optimizer's state_dict, and the keys to them.

    Shared containers are searched once at each depth.
    """
    if not isinstance(tree, Mapping | list | tuple) or (id(tree), len(path)) in seen:
        return
    seen.add((id(tree), len(path)))
    if isinstance(tree, Mapping) and {"state", "param_groups"} <= set(tree):
        yield path, tree
        return
    if len(path) <= _DEPTH:
        items = items_of(tree) if isinstance(tree, Mapping) else enumerate(tree)
        for key, value in items:
            yield from _find(value, (*path, shown_key(key)), seen)


def _is_state(state: Any) -> bool:
    return isinstance(state, Mapping) and all(isinstance(v, Mapping) for v in state.values())


def _are_groups(groups: Any) -> bool:
    def is_group(group: Any) -> bool:
        return (
            isinstance(group, Mapping)
            and hasattr(group.get("lr"), "__float__")
            and isinstance(group.get("params"), list)
        )

    return isinstance(groups, list | tuple) and bool(groups) and all(map(is_group, groups))


def _contents(tree: Any, origin: str) -> str:
    if not isinstance(tree, Mapping):
        return f"{origin}, a {type(tree).__name__}"
    return f"{origin}, which has {listed(map(shown_key, tree)) or 'nothing'}"
