"""From what lies in a checkpoint to arrays by the names that a model knows."""

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnets.arrays import InputError
from jaxnets.interop.naming import Rename, best_naming

#: Under which keys checkpoints keep the weights; looked into before all others.
_NESTS = {
    *("state_dict", "model_state_dict", "model_state", "model", "module"),
    *("net", "network", "weights", "params"),
}
_DEPTH = 4  # a file may hold a mapping that holds itself


@dataclass(frozen=True)
class StateDict:
    """The arrays of a checkpoint by name.

    Attributes:
        arrays: tensors or NumPy arrays.
        wrapping: what was taken off the names and from around them, outermost first.
        aside: keys of the checkpoint that hold something else, and names that were dropped.
    """

    arrays: dict[str, Any]
    wrapping: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()


def unwrap(
    tree: Any, origin: str, known: Collection[str] = (), rename: Rename | None = None
) -> StateDict:
    """Finds the arrays of a checkpoint and the names that fit best.

    Args:
        tree: what the checkpoint holds.
        origin: the file's name, or another word for it in messages.
        known: the names that the model knows; without them, the place with the most arrays counts.
        rename: applied to the names that are left when the wrapping is off.

    Raises:
        InputError: if there are no arrays, several places have them and fit equally well, or a
            part of ``rename`` matches no name.
    """
    found = list(_find(tree, ()))
    if isinstance(tree, Mapping) and not tree:  # that of a network without weights
        return StateDict({})
    if not found:
        expected = "a state_dict: a mapping from names to tensors"
        raise InputError("source", expected, f"{origin}, which holds {_contents(tree)}")
    namings = [best_naming(list(state.arrays), known, rename) for state in found]
    scores = [naming.score(known) for naming in namings]
    best = [number for number, score in enumerate(scores) if score == max(scores)]
    if len(best) > 1:
        paths = [found[number].wrapping for number in best]
        places = ", ".join(repr(".".join(path)) for path in paths)
        whole = "source" if origin == "state_dict" else "torch.load(path)"
        keys = "".join(f"[{key!r}]" for key in paths[0])
        expected = f"one state_dict (pass one, such as {whole}{keys})"
        raise InputError("source", expected, f"{origin}, which has them at {places}")
    state, naming = found[best[0]], namings[best[0]]
    naming.check()
    kept = {
        name: new
        for name, new in naming.names.items()
        if new is not None and (new in known or not _is_count(new, state.arrays[name]))
    }
    dropped = tuple(name for name in naming.names if name not in kept)
    arrays = {new: state.arrays[name] for name, new in kept.items()}
    return StateDict(arrays, state.wrapping + naming.taken_off, state.aside + dropped)


def _find(tree: Any, path: tuple[str, ...]) -> Iterator[StateDict]:
    """The mappings that hold arrays, with the keys that lead to them."""
    if not isinstance(tree, Mapping) or len(path) > _DEPTH:
        return
    inner = {k: v for k, v in tree.items() if isinstance(k, str) and isinstance(v, Mapping)}
    nests = [key for key in inner if key in _NESTS and any(_find(inner[key], (*path, key)))]
    arrays = {k: v for k, v in tree.items() if isinstance(k, str) and is_array(v)}
    # Numbers alone, such as a loss, are no weights if there are others further in.
    numbers = not any(_has_axes(value) for value in arrays.values())
    if (
        numbers
        and not nests
        and any(True for key in inner for _ in _find(inner[key], (*path, key)))
    ):
        arrays = {}
    if arrays and not nests:
        aside = tuple(str(key) for key in tree if key not in arrays)
        yield StateDict(arrays, path, aside)
        return
    for key in nests or inner:
        aside = tuple(str(other) for other in tree if other != key)
        for state in _find(inner[key], (*path, key)):
            yield StateDict(state.arrays, state.wrapping, aside + state.aside)


def is_array(value: Any) -> bool:
    """Whether a value is a tensor or an array of whatever library."""
    if isinstance(value, np.generic):  # a number, such as the best accuracy
        return False
    # Of the kind, as the shape of a tensor that is not initialised yet raises.
    return hasattr(type(value), "shape") and hasattr(type(value), "dtype")


def _has_axes(value: Any) -> bool:
    try:
        return len(value.shape) > 0
    except RuntimeError:  # not initialised yet
        return True


def _is_count(name: str, value: Any) -> bool:
    """Whether it is the count that PyTorch's AveragedModel keeps beside the weights."""
    return name == "n_averaged" and not _has_axes(value)


def _contents(tree: Any) -> str:
    if not isinstance(tree, Mapping):
        hint = "; pass its state_dict()" if hasattr(tree, "state_dict") else ""
        return f"a {type(tree).__name__}{hint}"
    keys = ", ".join(map(str, itertools.islice(tree, 10)))
    return f"a mapping without tensors, with the keys {keys}" if keys else "nothing"
