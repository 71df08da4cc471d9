"""Finds the arrays in a checkpoint and maps their names to a model's names."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import InputError, printable
from jaxnets.interop.computed import plain_weights
from jaxnets.interop.conversion import described, unreadable
from jaxnets.interop.naming import Naming, Rename, best_naming
from jaxnets.interop.report import listed

#: Keys under which checkpoints usually store the weights; searched before all other keys.
_NESTS = {
    *("state_dict", "model_state_dict", "model_state", "model", "module"),
    *("net", "network", "weights", "params"),
}
_DEPTH = 4  # a limit, as a mapping in a file may contain itself
_MOST_PLACES = 1000  # a limit, as a file may contain the same mapping thousands of times

#: The keys that lead to a mapping: names, and numbers within lists.
_Path = tuple[str | int, ...]
#: The keys that lead to a mapping with arrays, and the mapping.
_Place = tuple[_Path, Mapping[str, Any]]


@dataclass(frozen=True)
class StateDict:
    """The arrays of a checkpoint by name.

    Attributes:
        arrays: tensors or NumPy arrays by name.
        wrapping: removed checkpoint keys and name parts, outermost first.
        aside: checkpoint keys of values other than weights, and dropped names.
        computed: for each weight that is computed from other arrays, the names of these arrays.
    """

    arrays: dict[str, Any]
    wrapping: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    computed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Reading:
    """A candidate interpretation of a checkpoint: the path to the arrays, and their names."""

    path: _Path
    arrays: Mapping[str, Any]
    computed: Mapping[str, str]
    naming: Naming

    def rank(self, known: Collection[str]) -> tuple[int, int]:
        """Returns the number of names that match the model, then the number of arrays if zero."""
        score = self.naming.score(known) if known else 0
        return score, 0 if score else sum(map(_has_axes, self.arrays.values()))


def unwrap(
    tree: Any, origin: str, known: Collection[str] = (), rename: Rename | None = None
) -> StateDict:
    """Finds the arrays of a checkpoint and the names that fit a model best.

    Args:
        tree: the content of the checkpoint.
        origin: the file's name, or another description of the source for messages.
        known: the names of the model. If empty, the mapping with the most arrays is chosen.
        rename: applied to the names without wrappers.

    Raises:
        InputError: if there are no arrays, several mappings fit equally well, or a key of
            ``rename`` matches no name.
    """
    if isinstance(tree, Mapping) and not tree:  # the state_dict of a network without weights
        return StateDict({})
    places = _find(tree, _DEPTH, {}) if isinstance(tree, Mapping | list | tuple) else []
    readings = [_reading(place, known, rename) for place in places]
    if not readings:
        expected = "a state_dict: a mapping from names to tensors"
        raise InputError("source", expected, f"{origin}, which contains {_contents(tree)}")
    reading = _best(readings, known, origin)
    naming, arrays = reading.naming, reading.arrays
    naming.check()
    kept = {
        name: new
        for name, new in naming.names.items()
        if new is not None and (new in known or not _is_aside(new, arrays[name], known))
    }
    aside = [name for name in naming.names if name not in kept]
    computed = {kept[name]: old for name, old in reading.computed.items() if name in kept}
    return StateDict(
        {new: arrays[name] for name, new in kept.items()},
        (*map(str, reading.path), *naming.taken_off),
        (*_unused_keys(tree, reading), *aside),
        computed,
    )


def _reading(place: _Place, known: Collection[str], rename: Rename | None) -> _Reading:
    """Returns the best interpretation of one mapping: plain, or with computed weights."""
    path, mapping = place
    last = {name.rpartition(".")[2] for name in known}
    arrays = {
        name: value
        for name, value in items_of(mapping)
        if isinstance(name, str)
        and (is_array(value) or (_is_number(value) and name.rpartition(".")[2] in last))
    }
    own = best_naming(list(arrays), known, rename)
    plain, computed = plain_weights(arrays, known) if known else (arrays, {})
    if computed:
        other = best_naming(list(plain), known, rename)
        if not other.unmatched and other.score(known) > own.score(known):
            return _Reading(path, plain, computed, other)
    return _Reading(path, arrays, {}, own)


def _best(readings: list[_Reading], known: Collection[str], origin: str) -> _Reading:
    """Returns the reading with the highest rank; of nested mappings, the outermost.

    Raises:
        InputError: if several mappings that are not nested fit equally well.
    """
    ranks = [reading.rank(known) for reading in readings]
    best = [one for one, rank in zip(readings, ranks, strict=True) if rank == max(ranks)]
    first, *others = best
    if all(one.path[: len(first.path)] == first.path for one in others):
        return first
    paths = [reading.path for reading in best]
    places = listed(repr(".".join(map(str, path))) for path in paths)
    whole = "source" if origin == "state_dict" else "torch.load(path)"
    keys = "".join(f"[{key!r}]" for key in paths[0])
    expected = f"one state_dict (pass one, such as {whole}{keys})"
    raise InputError("source", expected, f"{origin}, which has state_dicts at {places}")


def _find(tree: Any, depth: int, known: dict[tuple[int, int], list[_Place]]) -> list[_Place]:
    """Returns the mappings with arrays in nested mappings and lists, outer mappings first.

    Args:
        tree: a mapping or a list.
        depth: the number of further nesting levels to search.
        known: cache of results by the id of a container and the depth.
    """
    if depth < 0:
        return []
    if (id(tree), depth) not in known:
        inner = {key: _find(value, depth - 1, known) for key, value in _containers(tree)}
        nests = [key for key in inner if key in _NESTS and inner[key]]
        own: list[_Place] = []
        if isinstance(tree, Mapping) and not nests and any(map(_is_weight, items_of(tree))):
            own = [((), tree)]
        below = (((key, *path), mapping) for key in nests or inner for path, mapping in inner[key])
        known[id(tree), depth] = list(itertools.islice(itertools.chain(own, below), _MOST_PLACES))
    return known[id(tree), depth]


def _containers(tree: Any) -> Iterator[tuple[str | int, Any]]:
    """Yields the mappings and lists directly in a mapping or list, with their keys."""
    named = isinstance(tree, Mapping)
    for key, value in items_of(tree) if named else enumerate(tree):
        # Mappings with integer keys are the states of optimizers.
        if isinstance(key, str if named else int) and isinstance(value, Mapping | list | tuple):
            yield key, value


def _unused_keys(tree: Any, reading: _Reading) -> Iterable[str]:
    """Yields the checkpoint keys that a reading does not use, outer keys first."""
    for key in reading.path:
        keys = tree if isinstance(tree, Mapping) else range(len(tree))
        yield from (shown_key(other) for other in keys if other != key)
        tree = tree[key]
    parts = {part for names in reading.computed.values() for part in names.split(" and ")}
    yield from (shown_key(key) for key in tree if key not in reading.arrays and key not in parts)


def _is_weight(item: tuple[Any, Any]) -> bool:
    name, value = item
    return isinstance(name, str) and is_array(value) and not _is_other(value)


def is_array(value: Any) -> bool:
    """Whether a value is a tensor or an array of any library."""
    if isinstance(value, np.generic):  # a number, such as the best accuracy
        return False
    # The type is checked, as reading the shape of an uninitialized tensor raises.
    return hasattr(type(value), "shape") and hasattr(type(value), "dtype")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | np.number) and not isinstance(value, bool)


def _is_other(value: Any) -> bool:
    """Whether an array contains something other than numbers: texts, dates, objects."""
    if (found := unreadable(value)) is not None:
        return not found.numbers
    if not isinstance(value, np.ndarray):
        return False
    return not any(jnp.issubdtype(value.dtype, kind) for kind in (np.number, np.bool_))


def _has_axes(value: Any) -> bool:
    try:
        return len(getattr(value, "shape", ())) > 0 and not _is_other(value)
    except RuntimeError:  # an uninitialized tensor
        return True


def _is_aside(name: str, value: Any, known: Collection[str]) -> bool:
    """Whether an array whose name the model lacks cannot be a weight."""
    if _is_other(value) or (name == "n_averaged" and not _has_axes(value)):
        return True
    dtype = getattr(value, "dtype", None)
    numbers = dtype is not None and unreadable(value) is None and "complex" not in str(dtype)
    return bool(known) and not numbers  # without a model, any numeric array may be a weight


def _contents(tree: Any) -> str:
    if not isinstance(tree, Mapping):
        hint = "; pass its state_dict()" if hasattr(tree, "state_dict") else ""
        return f"a {type(tree).__name__}{hint}"
    keys = ", ".join(map(_entry, itertools.islice(items_of(tree), 10)))
    return f"a mapping without tensors, with the keys {keys}" if keys else "nothing"


def _entry(item: tuple[Any, Any]) -> str:
    key, value = item
    kind = f" ({described(value)})" if is_array(value) else ""
    return printable(shown_key(key)) + kind


def items_of(tree: Mapping[Any, Any]) -> Iterable[tuple[Any, Any]]:
    """Returns the items of a mapping, even if a pickle has overwritten its ``items`` method."""
    return Mapping.items(tree)


def shown_key(key: Any) -> str:
    """Returns the key of a checkpoint as text."""
    # Only the type of other keys is shown: the repr of deeply shared tuples can fill the memory.
    return str(key) if isinstance(key, str | Real) else type(key).__name__
