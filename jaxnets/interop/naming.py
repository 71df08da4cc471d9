"""Maps the array names of a checkpoint to a model's names: removes wrappers, renames parts."""

import difflib
import fnmatch
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from jaxnets.arrays import InputError, called, check_function, printable, shown
from jaxnets.interop.report import listed

#: Maps a name to its new name, or to None if the array is dropped.
Rename = Mapping[str, str | None] | Callable[[str], str | None]

#: Name parts that torch.compile, FSDP, activation checkpointing and DataParallel add.
_WRAPPERS = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module"))


_MOST_STARTS = 20  # candidate prefixes that are tried; a large file may have any number
_MOST_PARTS = 50  # dot-separated parts of a name that are considered


@dataclass(frozen=True)
class Naming:
    """A candidate mapping from the array names of a checkpoint to new names.

    Attributes:
        names: the new name of each array, or None if the array is dropped.
        stripped: the name of each array without wrappers, before renaming.
        taken_off: the removed name parts, each with its dot.
        strangers: names without the removed prefix.
        unmatched: keys of ``rename`` that match no name.
        rivals: prefixes whose removal gives an equally good fit.
    """

    names: dict[str, str | None]
    stripped: dict[str, str]
    taken_off: tuple[str, ...] = ()
    strangers: frozenset[str] = frozenset()
    unmatched: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()

    def score(self, known: Collection[str]) -> int:
        """Counts the new names that the model has, without strangers; -1 if two names collide."""
        new = self._kept()
        if len(set(new)) < len(new):
            return -1
        if not known:
            return len(new)
        return sum(new in known for old, new in self.names.items() if old not in self.strangers)

    def check(self) -> None:
        """Checks that the new names are unique and that the choice is unambiguous.

        Raises:
            InputError: if two names collide, a key of ``rename`` matches nothing, or several
                prefixes fit equally well.
        """
        name, count = next(iter(Counter(self._kept()).most_common(1)), ("", 0))
        if count > 1:
            old = [printable(old) for old, other in self.names.items() if other == name]
            got = f"{printable(name)} for {' and '.join(old[:10])}"
            raise InputError("rename", "a unique name for each array", got)
        if self.unmatched:
            key = self.unmatched[0]
            there = listed(_nearest(key, self.stripped.values()))
            expected = "names in the source, or the first parts of such names"
            raise InputError("rename", expected, f"{key!r}; the source has {there}")
        if self.rivals:
            first, *others = self.rivals
            apart = [o for o in others if not f"{o}.".startswith(f"{first}.")]
            parts = ", ".join([f"{first!r}: ''", *(f"{other!r}: None" for other in apart[:3])])
            got = f"{', '.join(f'{rival}.' for rival in self.rivals[:10])}, which fit equally well"
            expected = f"a single best prefix of names (pass, say, rename={{{parts}}})"
            raise InputError("source", expected, got, whole=True)

    def _kept(self) -> list[str]:
        return [new for new in self.names.values() if new is not None]


def best_naming(names: Sequence[str], known: Collection[str], rename: Rename | None) -> Naming:
    """Returns the naming that matches the most names of a model and removes the least.

    Wrapper parts are removed wherever they occur. A prefix is removed if more names match without
    it, even if a few names lack it. ``rename`` is applied to every candidate, so that it can drop
    one of several equally good prefixes.

    Args:
        names: the array names of the checkpoint.
        known: the names of the model. If empty, only wrapper parts are removed.
        rename: applied to the stripped name, or else to the name with its wrappers.
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
    # With equal scores the naming that removes less is preferred; without a model the wrappers go.
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
    """Returns the prefixes whose removal makes a name match, the most frequent first."""
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
    """Returns the naming in which a prefix is removed from the names that have it."""
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
    """Returns the naming of stripped names after ``rename``.

    Args:
        split: the parts of the stripped name of each array.
        taken_off: the removed parts.
        rename: see ``best_naming``.
        bare: the parts of each name before the removal of a prefix, if one was removed.
    """
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
    """Returns the new name of an array, or None if the array is dropped.

    ``names`` are the forms of the old name, from without wrappers to with all of them. The first
    form that matches ``rename`` decides.
    """
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
    """Yields the keys that match a name, with the remaining parts; longest first, patterns last."""
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
    """Returns the ten names that are most similar to a key."""

    def likeness(name: str) -> float:
        return difflib.SequenceMatcher(None, key, name).ratio()

    return sorted(names, key=likeness, reverse=True)[:10]
