"""Converts between an ``OptimizerState`` and PyTorch's state of the same parameters."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnets.arrays import describe, printable
from jaxnets.interop.conversion import check_kind, converted, described, to_numpy
from jaxnets.interop.entries import Entry
from jaxnets.interop.optimizer_names import Faults, Group
from jaxnets.interop.optimizer_options import plain, slots_of
from jaxnets.interop.optimizer_parts import FACTORS, LR, SCALARS, STEP, Key, Parameters, Part
from jaxnets.interop.optimizer_source import Source
from jaxnets.interop.report import listed
from jaxnets.interop.unwrapping import is_array

LARGEST_STEP = int(np.iinfo(np.int32).max)


@dataclass(frozen=True)
class Pair:
    """One ``OptimizerState`` and the param_group of its parameters.

    Attributes:
        part: the ``OptimizerState``.
        group: PyTorch's param_group.
        source: the state_dict that contains the group.
        parameters: the parameters of the model.
        faults: collects error messages; after an error the return values are unusable.
    """

    part: Part
    group: Group
    source: Source
    parameters: Parameters
    faults: Faults

    def from_torch(self, step: int | None) -> dict[Key, np.ndarray]:
        """Converts PyTorch's state to the arrays of the ``OptimizerState``.

        Args:
            step: the number of steps taken, for optimizers whose steps PyTorch does not count.
        """
        self._check_members()
        kept = {
            name: {k: v for k, v in self.source.state.get(number, {}).items() if v is not None}
            for number, name in self.group.names.items()
        }
        if not any(kept.values()):
            self.check_slots()
        values: dict[Key, np.ndarray] = {}
        counts: dict[int | str, list[str]] = defaultdict(list)
        for name, state in kept.items():
            count = _count(state, step)
            if self._is_ours(name):
                values |= self._from_torch(name, state)
                counts[count].append(name)
            elif count and self.part.slots:
                self.faults["unexpected"].append(f"{name}, for which this optimizer has no state")
            elif count:
                self._check_names(name, state.keys() - {"step"})
        if len(counts) > 1:
            counts.pop(0, None)  # count 0: parameters that have never had a gradient
        numbers = {STEP: self._step(counts, step), LR: float(self.group.options["lr"])}
        return values | {k: np.asarray(v, self.part.leaves[k].dtype) for k, v in numbers.items()}

    def to_torch(self) -> dict[Any, dict[str, np.ndarray]]:
        """Returns PyTorch's state of each parameter, by parameter number."""
        self._check_members()
        self.check_slots()
        step, slots = int(self.part.leaves[STEP]), self.part.slots
        if step == 0 and "sum" not in slots:  # only Adagrad has a state before the first step
            return {}
        # SGD does not count steps.
        counted = {} if slots <= {"momentum_buffer"} else {"step": np.asarray(step)}
        found = {
            number: counted | self._to_torch(name)
            for number, name in self.group.names.items()
            if self._is_ours(name)
        }
        if not any(map(self._stepped, found)):
            return found
        return {
            number: kept
            for number, kept in found.items()
            if self._stepped(number) or not self._is_fresh(kept)
        }

    def lr_to_torch(self) -> Any:
        """Returns the learning rate as a number, or as a tensor if PyTorch's is a tensor."""
        there, here = self.group.options["lr"], np.asarray(self.part.leaves[LR])
        if here.dtype.type(float(there)) == here:
            return there
        # 0.1 in float32 is 0.100000001490…. The shortest decimal that rounds to the float32 value
        # is most likely the number that the user wrote.
        rate = float(str(here))
        return there.new_tensor(rate) if hasattr(there, "new_tensor") else rate

    def check_slots(self) -> None:
        """Adds a fault if PyTorch's optimizer has other slots than the ``OptimizerState``."""
        slots = slots_of(self.source, self.group.options)
        if slots is not None and slots != self.part.slots:
            both = slots, self.part.slots
            there, here = (" and ".join(sorted(names)) or "none" for names in both)
            self.faults["slots"].append(f"{there} in PyTorch, {here} in JAX")

    def _stepped(self, number: Any) -> bool:
        """Whether PyTorch has taken a step with a parameter; False for frozen parameters."""
        return any(value is not None for value in self.source.state.get(number, {}).values())

    def _is_fresh(self, kept: Mapping[str, np.ndarray]) -> bool:
        """Whether all slots of a parameter have PyTorch's initial values."""
        slots = ((slot, array) for slot, array in kept.items() if slot != "step")
        return all(np.all(array == self._start(slot)) for slot, array in slots)

    def _start(self, slot: str) -> float:
        if slot in ("eta", "step_size"):
            return float(self.group.options["lr"])
        return 1.0 if slot in SCALARS else self.group.options.get("initial_accumulator_value", 0.0)

    def _check_members(self) -> None:
        lacking = self.part.members - self.parameters.ids(*self.group.names.values())
        self.faults["missing"] += sorted(self.parameters.names[variable] for variable in lacking)

    def _is_ours(self, name: str) -> bool:
        """Whether the ``OptimizerState`` has slots for a parameter."""
        return bool(self.part.slots) and self.parameters.ids(name) <= self.part.members

    def _check_names(self, name: str, there: set[str]) -> None:
        own = self._own(name)
        for kind, slots in (("unexpected", there - own), ("missing", own - there)):
            self.faults[kind] += [f"{slot} of {name}" for slot in sorted(slots)]

    def _own(self, name: str) -> frozenset[str]:
        """Returns the slots that the ``OptimizerState`` has for a parameter."""
        ids = self.parameters.ids(name)
        return frozenset(
            slot for slot in self.part.slots if all((slot, one) in self.part.leaves for one in ids)
        )

    def _leaves(self, slot: str, entry: Entry) -> dict[Key, Any]:
        keys = [(slot, id(variable)) for variable in entry.variables]
        return {key: self.part.leaves[key] for key in keys}

    def _entry(self, name: str) -> Entry | None:
        """Returns the entry of a parameter.

        Adds a fault and returns None if the state of the parameter cannot be converted.
        """
        entry = self.parameters.entries[name]
        factored = len(entry.ours) > 1 and FACTORS & self.part.slots
        if len(entry.theirs) == 1 and not factored:
            return entry
        theirs, ours = " and ".join(entry.theirs), " and ".join(entry.ours)
        reason = f"{ours} combines {theirs}, which have separate states in PyTorch"
        if factored:
            reason = f"{ours} have separate factors, {theirs} has common factors in PyTorch"
        self.faults["mismatched"].append(f"{name} ({reason})")
        return None

    def _from_torch(self, name: str, state: Mapping[str, Any]) -> dict[Key, np.ndarray]:
        """Converts the slots of one parameter from PyTorch."""
        entry, values = self._entry(name), dict[Key, np.ndarray]()
        if entry is None:
            return values
        if not state:  # PyTorch has no state before a parameter's first gradient
            for slot in self._own(name):
                for key, leaf in self._leaves(slot, entry).items():
                    values[key] = np.full(leaf.shape, self._start(slot), leaf.dtype)
            return values
        self._check_names(name, state.keys() - {"step"})
        for slot in self._own(name) & state.keys():
            leaves = self._leaves(slot, entry)
            try:
                arrays = _laid_out(slot, state[slot], entry, list(leaves.values()))
                for (key, leaf), array in zip(leaves.items(), arrays, strict=True):
                    values[key] = converted(array, leaf.dtype)
            except ValueError as error:
                self.faults["mismatched"].append(f"{slot} of {name} {error}")
        return values

    def _to_torch(self, name: str) -> dict[str, np.ndarray]:
        """Converts the slots of one parameter to PyTorch's layout."""
        entry = self._entry(name)
        if entry is None:
            return {}
        arrays = {
            slot: [np.asarray(leaf) for leaf in self._leaves(slot, entry).values()]
            for slot in self._own(name)
        }
        found = {
            slot: own[0] if slot in SCALARS else entry.link.to_torch(*own)[0]
            for slot, own in arrays.items()
        }
        return {slot: np.array(array, order="C") for slot, array in found.items()}

    def _step(self, counts: Mapping[int | str, Sequence[str]], given: int | None) -> int:
        """Returns the number of steps, which must be the same for all parameters."""
        if not counts:  # an optimizer without slots
            return given or 0
        if len(counts) > 1 or not is_count(next(iter(counts))):
            words = (f"{count} of {listed(names)}" for count, names in counts.items())
            self.faults["different numbers of steps"].append(" and ".join(words))
            return 0
        (count,) = counts
        if given is not None and count != given:
            self.faults["step"].append(f"{count} in PyTorch, {given} given")
        return int(count)


def _count(state: Mapping[str, Any], given: int | None) -> int | str:
    """Returns the number of steps of a parameter, or a description of an invalid count.

    SGD, Muon and LBFGS store no count, but a nonempty state means at least one step.
    """
    if not state:
        return 0
    count = plain(state["step"]) if "step" in state else max(given or 1, 1)
    if is_count(count):
        return int(count)
    return described(count) if is_array(count) else printable(count)


def is_count(value: Any) -> bool:
    """Whether a value is a whole number in [0, 2³¹ - 1], so that it can be a count of steps."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and value % 1 == 0 and 0 <= value <= LARGEST_STEP


def _laid_out(slot: str, value: Any, entry: Entry, leaves: Sequence[Any]) -> Sequence[np.ndarray]:
    """Converts a slot of one of PyTorch's parameters to one array for each variable."""
    array, like = to_numpy(value), [np.zeros(leaf.shape, leaf.dtype) for leaf in leaves]
    (expected,) = like[:1] if slot in SCALARS else entry.link.to_torch(*like)
    if array.shape != expected.shape:
        raise ValueError(f"is {describe(array)}, not {list(expected.shape)}")
    check_kind(array.dtype, expected.dtype)
    return [array] * len(entry.variables) if slot in SCALARS else entry.link.to_jax(array)
