"""Converts the state of LBFGS: PyTorch's flat vectors of all parameters are trees in JAX."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxnets.arrays import describe
from jaxnets.interop.conversion import converted, to_numpy
from jaxnets.interop.entries import Entry
from jaxnets.interop.optimizer_options import plain
from jaxnets.interop.optimizer_pairs import Pair, is_count
from jaxnets.interop.optimizer_parts import LR, STEP, Key
from jaxnets.interop.report import listed
from jaxnets.optimizers.lbfgs import HISTORIES, VECTORS

_COUNTS, _NUMBERS = ("n_iter", "func_evals"), ("t", "H_diag", "prev_loss")
_PARTS = (*_COUNTS, *_NUMBERS, *VECTORS, *HISTORIES, "ro")


class VectorPair(Pair):
    """The ``OptimizerState`` of LBFGS and its one param_group.

    PyTorch stores the whole state under the first parameter. PyTorch's history is a list from the
    oldest to the newest pair. The history in JAX is a ring buffer: pair n is at index n modulo the
    size.
    """

    def from_torch(self, step: int | None) -> dict[Key, np.ndarray]:
        """See ``Pair``."""
        self._check_members()
        self.check_slots()
        numbers = self.group.options["params"]
        state = self.source.state.get(numbers[0], {}) if numbers else {}
        kept = {slot: value for slot, value in state.items() if value is not None}
        values = {key: np.zeros_like(leaf) for key, leaf in self.part.leaves.items()}
        values[LR] += float(self.group.options["lr"])
        values["H_diag", 0] += 1
        try:
            self._fill(values, kept)
        except (TypeError, ValueError) as error:
            self.faults["mismatched"].append(f"the state of LBFGS ({error})")
            return values
        values[STEP] += (step or 0) if not values["n_iter", 0] else max(step or 1, 1)
        return values

    def to_torch(self) -> dict[Any, dict[str, Any]]:
        """See ``Pair``."""
        self._check_members()
        self.check_slots()
        of_all = {slot: np.array(leaf) for (slot, one), leaf in self.part.leaves.items() if not one}
        counts = {slot: int(of_all[slot]) for slot in _COUNTS}
        entries = self._entries()
        if entries is None or not counts["func_evals"]:
            return {}
        found: dict[str, Any] = dict(counts)
        if counts["n_iter"]:
            size, pairs = len(of_all["ro"]), int(of_all["pairs"])
            order = [n % size for n in range(max(pairs - size, 0), pairs)]
            found |= {slot: self._vector(slot, entries) for slot in VECTORS}
            found |= {slot: [self._vector(slot, entries, i) for i in order] for slot in HISTORIES}
            found["ro"] = [np.array(of_all["ro"][i]) for i in order]
            found |= {slot: of_all[slot] for slot in ("t", "H_diag")}
            found["prev_loss"] = float(of_all["prev_loss"])
        return {self.group.options["params"][0]: found}

    def _fill(self, values: dict[Key, np.ndarray], kept: Mapping[str, Any]) -> None:
        """Writes PyTorch's state into ``values``.

        Raises:
            TypeError: if a slot has a value of the wrong type.
            ValueError: if a slot is missing, or its shape or length does not fit.
        """
        entries = self._entries()
        if not kept or entries is None:
            return
        # PyTorch stores only the counts if the first gradient was below the tolerance.
        parts = _COUNTS if kept.keys() <= {*_COUNTS} else _PARTS
        if lacking := [slot for slot in parts if slot not in kept]:
            raise ValueError(f"without {listed(lacking)}")
        for slot in _COUNTS:
            if not is_count(plain(kept[slot])):
                raise ValueError(f"{slot} is not a count")
            values[slot, 0] += int(plain(kept[slot]))
        if parts is _COUNTS:
            return
        for slot in _NUMBERS:
            values[slot, 0] = np.asarray(float(kept[slot]), values[slot, 0].dtype)
        for slot in VECTORS:
            for key, array in _cut(to_numpy(kept[slot]), slot, entries).items():
                values[key] = converted(array, values[key].dtype)
        room = len(values["ro", 0])
        counts = [len(kept[slot]) for slot in ("ro", *HISTORIES)]
        count = counts[0]
        if max(counts) > room or set(counts) != {count}:
            sizes = " and ".join(map(str, counts))
            raise ValueError(f"histories of {sizes} pairs, for a history size of {room}")
        values["pairs", 0] += count
        for i in range(count):
            values["ro", 0][i] = float(kept["ro"][i])
            for slot in HISTORIES:
                for key, array in _cut(to_numpy(kept[slot][i]), slot, entries).items():
                    values[key][i] = converted(array, values[key].dtype)

    def _entries(self) -> list[Entry] | None:
        """Returns the parameters in PyTorch's order.

        Adds a fault and returns None if the state of a parameter cannot be converted.
        """
        numbers = self.group.options["params"]
        if lacking := [number for number in numbers if number not in self.group.names]:
            self.faults["unexpected"].append(f"{len(lacking)} parameters in the vectors of LBFGS")
            return None
        found = [self._entry(self.group.names[number]) for number in numbers]
        entries = [entry for entry in found if entry is not None]
        return entries if len(entries) == len(found) else None

    def _vector(self, slot: str, entries: Sequence[Entry], *place: int) -> np.ndarray:
        """Returns a slot as PyTorch's flat vector; for a history, the vector at an index."""
        parts = []
        for entry in entries:
            own = [np.asarray(leaf)[place] for leaf in self._leaves(slot, entry).values()]
            parts.append(np.ravel(entry.link.to_torch(*own)[0]))
        return np.concatenate(parts)


def _cut(vector: np.ndarray, slot: str, entries: Sequence[Entry]) -> dict[Key, np.ndarray]:
    """Splits a flat vector of all parameters into one array for each variable of the model."""
    shapes = [next(iter(entry.template().values())).shape for entry in entries]
    sizes = [int(np.prod(shape)) for shape in shapes]
    if vector.shape != (sum(sizes),):
        raise ValueError(f"{slot} is {describe(vector)}, not [{sum(sizes)}]")
    parts = np.split(vector, np.cumsum(sizes)[:-1])
    found: dict[Key, np.ndarray] = {}
    for entry, part, shape in zip(entries, parts, shapes, strict=True):
        arrays = entry.link.to_jax(part.reshape(shape))
        pairs = zip(entry.variables, arrays, strict=True)
        found |= {(slot, id(variable)): array for variable, array in pairs}
    return found
