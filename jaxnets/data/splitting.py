"""Split strings in the notation of TensorFlow Datasets, and random hold-out splits."""

import math
import re
from typing import Any, TypeVar

import numpy as np

from jaxnets.arrays import InputError, check_bool, check_integer, check_seed, describe, shown
from jaxnets.data.batching import epoch_plan
from jaxnets.data.dataset import Split
from jaxnets.data.source import Part, Source, join
from jaxnets.data.streaming import Examples, Joined, Range, StreamedSplit

AnySplit = TypeVar("AnySplit", Split, StreamedSplit)

_PIECE = re.compile(r"\s*(?P<name>[\w-]+)\s*(\[(?P<start>[^:\]]*):(?P<stop>[^:\]]*)\])?\s*")
_BOUND = re.compile(r"(?P<number>-?\d+(\.\d+)?)(?P<percent>%?)")
_FORM = "a split such as 'train', 'train[:90%]', 'train[-5000:]' or 'train+test[10%:20%]'"


def select(source: Source, spec: str, argument: str = "split") -> Split:
    """Reads the examples that a split string names.

    Negative numbers and percentages count from the end. A percentage is rounded to the nearest
    example, so ``train[:90%]`` and ``train[90%:]`` neither overlap nor leave out an example. The
    notation and the rounding are those of TensorFlow Datasets.

    Args:
        source: the source to read from.
        spec: a split string, such as ``train[:90%]``, ``train[-5000:]`` or
            ``train+test[10%:20%]``.
        argument: name of the split string in error messages.

    Raises:
        InputError: if the string is not valid, or names a split or range that does not exist.
    """
    pieces = _pieces(source, spec, argument)
    return join([part.read(start, stop) for part, start, stop in pieces])


def stream(source: Source, spec: str, argument: str = "split") -> Examples:
    """Returns the examples that a split string names, for streaming.

    Args:
        source: see ``select``.
        spec: see ``select``.
        argument: see ``select``.

    Raises:
        InputError: see ``select``; also if the source cannot be streamed.
    """
    ranges = []
    for part, start, stop in _pieces(source, spec, argument):
        if isinstance(part.examples, str):
            got = f"{source.origin}, which can only be read as a whole"
            raise InputError("streaming", part.examples, got)
        everything = (start, stop) == (0, part.length)
        ranges.append(part.examples if everything else Range(part.examples, start, stop))
    return ranges[0] if len(ranges) == 1 else Joined(tuple(ranges))


def _pieces(source: Source, spec: str, argument: str) -> list[tuple[Part, int, int]]:
    if not isinstance(spec, str):
        raise InputError(argument, _FORM, spec)
    return [_piece(source, piece, spec, argument) for piece in spec.split("+")]


def _piece(source: Source, piece: str, spec: str, argument: str) -> tuple[Part, int, int]:
    match = _PIECE.fullmatch(piece)
    if match is None:
        raise InputError(argument, _FORM, shown(spec))
    if match["name"] not in source.parts:
        raise InputError(argument, f"a split of {', '.join(source.parts)}", shown(spec))
    part = source.parts[match["name"]]
    start = _bound(match["start"], 0, part.length, spec, argument)
    stop = _bound(match["stop"], part.length, part.length, spec, argument)
    if not 0 <= start < stop <= part.length:
        expected = f"at least one of the {part.length} examples of {match['name']}"
        raise InputError(argument, expected, f"{spec!r}, which is {start} to {stop}")
    return part, start, stop


def _bound(text: str | None, default: int, length: int, spec: str, argument: str) -> int:
    if not text or not text.strip():
        return default
    match = _BOUND.fullmatch(text.strip())
    if match is None or ("." in match["number"] and not match["percent"]):
        raise InputError(argument, _FORM, shown(spec))
    number = float(match["number"])
    if match["percent"]:
        if abs(number) > 100:
            raise InputError(argument, "percentages from -100 to 100", shown(spec))
        number = round(number * length / 100)
    return int(number) + length if number < 0 else int(number)


def hold_out(split: AnySplit, fraction: float, seed: int = 0) -> tuple[AnySplit, AnySplit]:
    """Holds out a random part of the examples, stratified by class.

    Args:
        split: the examples, in memory or streamed. If the labels are one array of class numbers
            [N], the fraction is that of each class, to within one example.
        fraction: fraction of the examples to hold out, between 0 and 1.
        seed: seed of the selection; the result is the same on every machine.

    Returns:
        The remaining examples and the held-out examples, each in their original order.

    Raises:
        InputError: if the fraction is not between 0 and 1 or one of the two would be empty, or if
            a streamed split would have to read all its examples to find its labels.

    Examples:
        >>> split = Split(np.arange(10.0)[:, None], np.repeat(np.arange(2, dtype=np.int32), 5))
        >>> kept, held = hold_out(split, 0.4)
        >>> held.labels
        array([0, 0, 1, 1], dtype=int32)
    """
    check_seed("seed", seed)
    _check_fraction(fraction)
    if not isinstance(split, Split | StreamedSplit):
        raise InputError("split", "a Split or a StreamedSplit", split)
    labels = split.known_labels()
    if labels is None and split.spec.labels is not None:
        expected = "one whose labels can be read alone; use train='train[:80%]', test='train[80%:]'"
        raise InputError("split", expected, f"{len(split)} examples that are streamed")
    classes = _classes(labels, len(split))
    held = np.zeros(len(split), bool)
    for stream, (members, share) in enumerate(
        zip(classes, _shares(classes, fraction), strict=True)
    ):
        held[_drawn(members, share, seed, stream)] = True
    if held.all() or not held.any():
        expected = f"a fraction of {len(split)} examples that leaves both parts nonempty"
        raise InputError("fraction", expected, fraction)
    return split.chosen(np.flatnonzero(~held)), split.chosen(np.flatnonzero(held))


def keep_labels(split: Split, labels: int, seed: int = 0, *, unlabelled: bool = True) -> Split:
    """Keeps the labels of a few examples, the same number in each class, drawn at random.

    Args:
        split: the examples, with class numbers [N].
        labels: number of labels to keep, a multiple of the number of classes.
        seed: seed of the selection; the result is the same on every machine.
        unlabelled: whether to keep the other examples, with the label -1.

    Returns:
        The examples, in their original order.

    Raises:
        InputError: if the split is not in memory or has no class numbers, ``labels`` is not a
            multiple of the number of classes, or a class has too few examples.

    Examples:
        >>> split = Split(np.arange(6.0)[:, None], np.repeat(np.arange(2, dtype=np.int32), 3))
        >>> keep_labels(split, 2).labels
        array([ 0, -1, -1, -1, -1,  1], dtype=int32)
    """
    check_seed("seed", seed)
    check_bool("unlabelled", unlabelled)
    known = split.labels if isinstance(split, Split) else None
    if not isinstance(known, np.ndarray) or known.dtype.kind != "i" or known.ndim != 1:
        got = describe(known) if isinstance(known, np.ndarray) else "other data"
        raise InputError("split", "examples in memory with class numbers [N]", got)
    classes = [np.flatnonzero(known == label) for label in np.unique(known)]
    most = len(classes) * min(map(len, classes))
    count = check_integer("labels", labels, least=len(classes), most=most)
    if count % len(classes):
        raise InputError("labels", f"a multiple of the {len(classes)} classes", count)
    kept = [_drawn(each, count // len(classes), seed, place) for place, each in enumerate(classes)]
    rows = np.sort(np.concatenate(kept))
    if not unlabelled:
        return split.chosen(rows)
    hidden = np.full_like(known, -1)
    hidden[rows] = known[rows]
    return Split(split.inputs, hidden)


def _drawn(members: np.ndarray, count: int, seed: int, stream: int) -> np.ndarray:
    """Draws some of the members; each stream of a seed is another draw."""
    order = epoch_plan(len(members), len(members), seed=seed, epoch=stream).full[0]
    return members[order[:count]]


def hold_out_last(split: Split, fraction: float) -> tuple[Split, Split]:
    """Holds out the end of a series.

    Args:
        split: the steps, in the order of time.
        fraction: fraction of the steps to hold out, between 0 and 1.

    Returns:
        The first steps, and the held-out last ones.

    Raises:
        InputError: if the fraction is not between 0 and 1 or one of the two would be empty.

    Examples:
        >>> kept, held = hold_out_last(Split(np.arange(5.0)[:, None], np.arange(5.0)), 0.4)
        >>> held.labels
        array([3., 4.])
    """
    _check_fraction(fraction)
    held = math.floor(fraction * len(split) + 0.5)
    if not 0 < held < len(split):
        expected = f"a fraction of {len(split)} steps that leaves both parts nonempty"
        raise InputError("fraction", expected, fraction)
    kept = len(split) - held
    return split.between(0, kept), split.between(kept, len(split))


def _check_fraction(fraction: Any) -> None:
    if not _is_number(fraction) or not 0 < fraction < 1:
        raise InputError("fraction", "a number between 0 and 1", fraction)


def _classes(labels: Any, count: int) -> list[np.ndarray]:
    """Returns the numbers of each class's examples; of all together if there are no classes."""
    if not hasattr(labels, "dtype") or labels.dtype.kind == "f" or labels.ndim != 1:
        return [np.arange(count)]
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def _shares(classes: list[np.ndarray], fraction: float) -> np.ndarray:
    """Returns the number of examples to hold out of each class, by the largest-remainder method.

    The total is rounded; then each class is rounded up or down to give this total.
    """
    exact = fraction * np.array([len(members) for members in classes])
    shares = np.floor(exact).astype(int)
    missing = math.floor(exact.sum() + 0.5) - shares.sum()
    shares[np.argsort(shares - exact, kind="stable")[:missing]] += 1
    return shares


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
