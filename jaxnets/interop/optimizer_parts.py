"""Maps the slots of an optimizer's state to the parameters of the model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.tree_util import KeyPath

from jaxnets.arrays import InputError, describe
from jaxnets.interop.entries import Entry, entries
from jaxnets.optimizers.groups import dotted
from jaxnets.optimizers.lbfgs import HISTORIES, OF_ALL
from jaxnets.optimizers.state import OptimizerState

#: Identifies a leaf of an ``OptimizerState``: (slot, id of the variable), or (name, 0), such as
#: ``("lr", 0)``.
Key = tuple[str, int]
STEP: Key = ("step", 0)
LR: Key = ("lr", 0)

#: Slots with one number for each parameter, which need no change of layout.
SCALARS = frozenset(("mu_product", "eta", "mu"))
#: Slots that are reduced over one axis, which has size 1.
FACTORS = frozenset(("row_var", "col_var"))


class Parameters:
    """The parameters of a model, by PyTorch's names and by paths in the model.

    Attributes:
        model: the name of the model's class.
        known: PyTorch's names of all weights, including buffers.
        entries: the entries of the parameters, by PyTorch's names.
        names: PyTorch's first name of each variable, by the variable's id.
    """

    def __init__(self, model: nnx.Module) -> None:
        found = entries(model)
        self.model = type(model).__name__
        self.known = {name for entry in found for name in entry.theirs}
        self.entries: dict[str, Entry] = {}
        self.names: dict[int, str] = {}
        self._variables: dict[str, nnx.Variable] = {}
        for entry in found:
            if entry.variables and all(isinstance(v, nnx.Param) for v in entry.variables):
                self.entries |= dict.fromkeys(entry.theirs, entry)
            for path, variable in zip(entry.ours, entry.variables, strict=True):
                self._variables[path] = variable
                self.names.setdefault(id(variable), entry.theirs[0])

    def ids(self, *names: str) -> frozenset[int]:
        """Returns the ids of the variables that correspond to some of PyTorch's parameters."""
        return frozenset(id(v) for name in names for v in self.entries[name].variables)

    def paths(self, name: str) -> list[str]:
        """Returns all paths in the model to the variables of one of PyTorch's parameters."""
        ids = self.ids(name)
        return [path for path, variable in self._variables.items() if id(variable) in ids]

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of one of PyTorch's parameters."""
        return self.entries[name].template()[name].shape

    def without_others(self, names: Iterable[str]) -> list[str]:
        """Removes the names of buffers, and all but the first name of tied parameters."""
        left: list[str] = []
        seen: set[int] = set()
        for name in names:
            if name not in self.entries:
                left += [name] if name not in self.known else []
            elif len(self.entries[name].theirs) > 1 or not self.ids(name) <= seen:
                seen |= self.ids(name)
                left.append(name)
        return left

    def key(self, path: KeyPath, leaf: Any) -> Key:
        """Returns the key of a leaf at a path within an ``OptimizerState``.

        Raises:
            InputError: if the model has no such parameter, or its shape does not fit.
        """
        attribute = path[0].name
        if attribute != "slots":
            return attribute, 0
        slot, place = path[1].key, dotted(path[2:])
        if slot in OF_ALL:
            return slot, 0
        expected = f"a state for the parameters of {self.model}"
        if place not in self._variables:
            raise InputError("optimizer_state", expected, f"one for {place or 'one array'}")
        shape = self._variables[place].shape
        if not _fits(slot, leaf.shape, shape):
            got = f"one with {slot} {describe(leaf)} for {place} {list(shape)}"
            raise InputError("optimizer_state", expected, got)
        return slot, id(self._variables[place])


@dataclass(frozen=True)
class Part:
    """One ``OptimizerState``, of all parameters or of a parameter group.

    Attributes:
        slots: the names of the slots.
        leaves: the arrays by key.
    """

    slots: frozenset[str]
    leaves: Mapping[Key, Any]

    @property
    def members(self) -> frozenset[int]:
        """The ids of the variables that have slots."""
        return frozenset(
            variable for slot, variable in self.leaves if slot in self.slots and variable
        )


def parts(optimizer_state: Any, parameters: Parameters) -> list[Part]:
    """Returns every ``OptimizerState`` in a tree, such as those of a chain or parameter groups.

    Raises:
        InputError: if the tree has no ``OptimizerState``, or its parameters are not the model's.
    """
    found = [part for part in jax.tree.leaves(optimizer_state, is_leaf=_is_part) if _is_part(part)]
    if not found:
        expected = "the state of an optimizer of jaxnets"
        raise InputError("optimizer_state", expected, type(optimizer_state).__name__)
    leaves = [jax.tree_util.tree_leaves_with_path(part) for part in found]
    return [
        Part(
            frozenset(part.slots),
            {parameters.key(path, leaf): leaf for path, leaf in own},
        )
        for part, own in zip(found, leaves, strict=True)
    ]


def replaced(
    optimizer_state: Any, parameters: Parameters, values: Iterable[Mapping[Key, np.ndarray]]
) -> Any:
    """Returns a copy of a state tree with new arrays on the same devices.

    Args:
        optimizer_state: the tree, which is not changed.
        parameters: the parameters of the model.
        values: the new arrays for each ``Part``, in the order of ``parts``.
    """
    following = iter(values)

    def change(part: Any) -> Any:
        if not _is_part(part):
            return part
        own = next(following)

        def place(path: KeyPath, leaf: Any) -> jax.Array:
            # Uncommitted arrays stay uncommitted, so that they can be combined with sharded arrays.
            sharding = leaf.sharding if getattr(leaf, "committed", False) else None
            return jax.device_put(own[parameters.key(path, leaf)], sharding)

        return jax.tree_util.tree_map_with_path(place, part)

    return jax.tree.map(change, optimizer_state, is_leaf=_is_part)


def _fits(slot: str, found: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether the shape ``found`` of a slot fits the shape of its parameter."""
    if slot in SCALARS:
        return found == ()
    if slot in HISTORIES:
        return found[1:] == shape
    if slot in FACTORS:
        pairs = zip(found, shape, strict=False)
        return len(found) == len(shape) and all(size in (1, full) for size, full in pairs)
    return found == shape


def _is_part(node: Any) -> bool:
    return isinstance(node, OptimizerState)
