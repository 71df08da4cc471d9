"""From the names of a checkpoint to those of a model: wrappers taken off, parts renamed."""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from jaxnets.arrays import InputError

#: Takes a name to another, or to None where the array is to be dropped.
Rename = Mapping[str, str | None] | Callable[[str], str | None]

#: The parts that compile, FSDP, activation checkpointing and parallel training add to names.
_WRAPPERS = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module"))


@dataclass(frozen=True)
class Naming:
    """A way to name the arrays of a checkpoint.

    Attributes:
        names: the new name of each; None for one that is dropped.
        taken_off: the parts that were removed, each with its dot.
        unmatched: parts to be renamed that were not found.
    """

    names: dict[str, str | None]
    taken_off: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()

    def score(self, known: Collection[str]) -> int:
        """How many names are known ones; -1 if two became one."""
        new = self._kept()
        if len(set(new)) < len(new):
            return -1
        return len(set(known).intersection(new)) if known else len(new)

    def check(self) -> None:
        """Raises if two names became one, or a part to be renamed was not found."""
        new = self._kept()
        for name in dict.fromkeys(new):
            if new.count(name) > 1:
                old = " and ".join(old for old, other in self.names.items() if other == name)
                raise InputError("rename", "a name of its own for each array", f"{name} for {old}")
        if self.unmatched:
            there = ", ".join(itertools.islice(self.names, 10))
            got = f"{self.unmatched[0]!r}, while there are {there}"
            raise InputError("rename", "names that the source has, or their first parts", got)

    def _kept(self) -> list[str]:
        return [new for new in self.names.values() if new is not None]


def best_naming(names: Sequence[str], known: Collection[str], rename: Rename | None) -> Naming:
    """The naming that gives the most names that a model knows, with as little taken off as can be.

    Wrappers' parts go wherever they are. Leading parts that all names share go if that helps, and
    no other number of them would help as much.

    Args:
        names: those of the checkpoint.
        known: those of the model; without them wrappers' parts go, and nothing else.
        rename: applied to what is left of each name.
    """
    if rename is not None and not isinstance(rename, Mapping) and not callable(rename):
        raise InputError("rename", "a mapping of names or a function", repr(rename))
    of_model = {part for name in known for part in name.split(".")}
    parts = [name.split(".") for name in names]
    found = [p for p in dict.fromkeys(itertools.chain(*parts)) if p in _WRAPPERS - of_model]
    bare = [[part for part in split if part not in found] for split in parts]
    shared = _shared(bare) if known else []

    def naming(removed: Sequence[str], split: list[list[str]]) -> Naming:
        stripped = dict(zip(names, map(".".join, split), strict=True))
        return _renamed(stripped, tuple(f"{part}." for part in removed), rename)

    plain = naming((), parts)
    unwrapped = naming(found, bare)
    deeper = [
        naming((*found, *shared[:count]), [split[count:] for split in bare])
        for count in range(1, len(shared) + 1)
    ]
    best = max(one.score(known) for one in (plain, unwrapped, *deeper))
    for one in (plain, unwrapped) if known else (unwrapped, plain):
        if one.score(known) == best:
            return one
    candidates = [one for one in deeper if one.score(known) == best]
    return candidates[0] if len(candidates) == 1 else plain


def _shared(names: list[list[str]]) -> list[str]:
    """The leading parts that all names share, which leave a part of each."""
    shared = []
    for column in zip(*(parts[:-1] for parts in names), strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return shared


def _renamed(stripped: dict[str, str], taken_off: tuple[str, ...], rename: Rename | None) -> Naming:
    used: set[str] = set()
    names: dict[str, str | None] = {}
    for old, name in stripped.items():
        if isinstance(rename, Mapping):
            names[old] = _replaced(name, rename, used)
        else:
            names[old] = name if rename is None else rename(name)
        if not isinstance(names[old], str | None):
            raise InputError("rename", "a name or None for each name", f"{names[old]!r} for {name}")
    unmatched = [key for key in rename if key not in used] if isinstance(rename, Mapping) else []
    return Naming(names, taken_off, tuple(unmatched))


def _replaced(name: str, rename: Mapping[str, str | None], used: set[str]) -> str | None:
    """The name with its longest leading part that ``rename`` has replaced; notes which it was."""
    parts = name.split(".")
    for count in range(len(parts), -1, -1):
        start = ".".join(parts[:count])
        for key in (start, f"{start}."):
            if key in rename:
                used.add(key)
                new = rename[key]
                if new is None:
                    return None
                return ".".join([*filter(None, new.split(".")), *parts[count:]])
    return name
