"""From the names of a checkpoint to those of a model: wrappers taken off, parts renamed."""

import difflib
import fnmatch
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from jaxnets.arrays import InputError, called, check_function, printable, shown
from jaxnets.interop.report import listed

#: Takes a name to another, or to None where the array is to be dropped.
Rename = Mapping[str, str | None] | Callable[[str], str | None]

#: The parts that compile, FSDP, activation checkpointing and parallel training add to names.
_WRAPPERS = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module"))


_MOST_STARTS = 20  # of any number in a large file; what fits equally well is refused
_MOST_PARTS = 50  # of a name


@dataclass(frozen=True)
class Naming:
    """A way to name the arrays of a checkpoint.

    Attributes:
        names: the new name of each; None for one that is dropped.
        stripped: the name of each without its wrapping, before it was renamed.
        taken_off: the parts that were removed, each with its dot.
        strangers: names that lack the first parts that were removed.
        unmatched: parts to be renamed that were not found.
        rivals: first parts that could be removed instead, with as much to be said for them.
    """

    names: dict[str, str | None]
    stripped: dict[str, str]
    taken_off: tuple[str, ...] = ()
    strangers: frozenset[str] = frozenset()
    unmatched: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()

    def score(self, known: Collection[str]) -> int:
        """How many names are known ones, not counting strangers'; -1 if two became one."""
        new = self._kept()
        if len(set(new)) < len(new):
            return -1
        if not known:
            return len(new)
        return sum(new in known for old, new in self.names.items() if old not in self.strangers)

    def check(self) -> None:
        """Raises if two names became one, or it is not certain what is meant."""
        name, count = next(iter(Counter(self._kept()).most_common(1)), ("", 0))
        if count > 1:
            old = [printable(old) for old, other in self.names.items() if other == name]
            got = f"{printable(name)} for {' and '.join(old[:10])}"
            raise InputError("rename", "a name of its own for each array", got)
        if self.unmatched:
            key = self.unmatched[0]
            there = listed(_nearest(key, self.stripped.values()))
            expected = "names that the source has, or their first parts"
            raise InputError("rename", expected, f"{key!r}, while there are {there}")
        if self.rivals:
            first, *others = self.rivals
            apart = [o for o in others if not f"{o}.".startswith(f"{first}.")]
            parts = ", ".join([f"{first!r}: ''", *(f"{other!r}: None" for other in apart[:3])])
            got = f"{', '.join(f'{rival}.' for rival in self.rivals[:10])} of equal fit"
            expected = f"one first part of names that fits best (pass, say, rename={{{parts}}})"
            raise InputError("source", expected, got, whole=True)

    def _kept(self) -> list[str]:
        return [new for new in self.names.values() if new is not None]


def best_naming(names: Sequence[str], known: Collection[str], rename: Rename | None) -> Naming:
    """The naming that gives the most names that a model knows, with as little taken off as can be.

    Wrappers' parts go wherever they are. First parts go if more names are known without them, even
    if a few strangers lack them; ``rename`` is looked at, so that it can drop a rival.

    Args:
        names: those of the checkpoint.
        known: those of the model; without them wrappers' parts go, and nothing else.
        rename: applied to what is left of each name, or else to the name with its wrapping.
    """
    if rename is not None and not isinstance(rename, Mapping):
        check_function("rename", rename, "a mapping of names or a function")
    of_model = {part for name in known for part in name.split(".")}
    parts = {name: name.split(".") for name in names}
    found = [
        p for p in dict.fromkeys(itertools.chain(*parts.values())) if p in _WRAPPERS - of_model
    ]
    bare = {name: [part for part in split if part not in found] for name, split in parts.items()}

    plain = _renamed(parts, (), rename)
    unwrapped = _renamed(bare, found, rename)
    deeper = {
        start: _without(start, bare, found, rename)
        for start in _starts(bare, frozenset(known), rename)
    }
    best = max(one.score(known) for one in (plain, unwrapped, *deeper.values()))
    for one in (plain, unwrapped) if known else (unwrapped, plain):
        if one.score(known) == best:
            return one
    starts = [start for start, one in deeper.items() if one.score(known) == best]
    rivals = tuple(".".join(start) for start in starts) if len(starts) > 1 else ()
    return replace(deeper[starts[0]], rivals=rivals)


def _starts(
    bare: Mapping[str, list[str]], known: frozenset[str], rename: Rename | None
) -> list[tuple[str, ...]]:
    """First parts of names without which a name is a known one: those of the most names."""
    found: Counter[tuple[str, ...]] = Counter()
    for split in bare.values():
        for count in range(1, min(len(split), _MOST_PARTS)):
            if _new_name([".".join(split[count:])], rename, set()) in known:
                found[tuple(split[:count])] += 1
    return [start for start, _ in found.most_common(_MOST_STARTS)]


def _without(
    start: tuple[str, ...],
    bare: Mapping[str, list[str]],
    found: Sequence[str],
    rename: Rename | None,
) -> Naming:
    """The naming in which some first parts are removed from the names that have them."""
    count = len(start)
    has = {name for name, parts in bare.items() if tuple(parts[:count]) == start}
    split = {
        k: parts[count:] if k in has and len(parts) > count else parts for k, parts in bare.items()
    }
    naming = _renamed(split, (*found, *start), rename, bare)
    return replace(naming, strangers=frozenset(bare.keys() - has))


def _renamed(
    split: Mapping[str, list[str]],
    taken_off: Sequence[str],
    rename: Rename | None,
    bare: Mapping[str, list[str]] | None = None,
) -> Naming:
    used: set[str] = set()
    names: dict[str, str | None] = {}
    stripped = {old: ".".join(parts) for old, parts in split.items()}
    for old, name in stripped.items():
        wrapped = ".".join((bare or split)[old])
        names[old] = _new_name(list(dict.fromkeys((name, wrapped, old))), rename, used)
    unmatched = [key for key in rename if key not in used] if isinstance(rename, Mapping) else []
    dots = tuple(f"{part}." for part in taken_off)
    return Naming(names, stripped, dots, unmatched=tuple(unmatched))


def _new_name(names: Sequence[str], rename: Rename | None, used: set[str]) -> str | None:
    """What a name becomes that may be given with less or more of its wrapping, the least first."""
    if rename is None:
        return names[0]
    if not isinstance(rename, Mapping):
        new = called("rename", "a function of a name", rename, names[0])
        if not isinstance(new, str | None):
            raise InputError(
                "rename", "a name or None for each name", f"{shown(new)} for {names[0]}"
            )
        return new
    for name in names:
        for key, rest in _keys(name, rename):
            used.add(key)
            new = rename[key]
            if not isinstance(new, str | None):
                raise InputError(
                    "rename", "a name or None for each name", f"{shown(new)} for {name}"
                )
            return None if new is None else ".".join([*filter(None, new.split(".")), *rest])
    return names[0]


def _keys(name: str, rename: Mapping[str, str | None]) -> Iterator[tuple[str, list[str]]]:
    """The keys that a name has, with the parts after them: the longest first, patterns last."""
    parts = name.split(".")
    for count in range(len(parts), -1, -1):
        start = ".".join(parts[:count])
        for key in (start, f"{start}."):
            if key in rename:
                yield key, parts[count:]
    for key in rename:
        if any(sign in key for sign in "*?[") and fnmatch.fnmatchcase(name, key):
            yield key, []


def _nearest(key: str, names: Iterable[str]) -> list[str]:
    def likeness(name: str) -> float:
        return difflib.SequenceMatcher(None, key, name).ratio()

    return sorted(names, key=likeness, reverse=True)[:10]
