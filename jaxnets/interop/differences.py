"""The outputs of two models' layers, compared one by one."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jaxnets.arrays import printable

_SCALE = 1e-3  # values below are compared by their absolute difference

#: The outputs of one call of a layer: its name ("" for the whole model) and its arrays.
Call = tuple[str, list[np.ndarray]]


@dataclass(frozen=True)
class Step:
    """One call of one layer in both frameworks.

    Attributes:
        name: PyTorch's name of the layer; empty for the whole model.
        call: which call of this layer it is, from 0.
        kind: PyTorch's kind of the layer.
        shape: of PyTorch's output, or of the first of several.
        absolute: the largest absolute difference; infinite if the shapes do not match, or a value
            is finite in one alone.
        relative: the same, relative to the largest of PyTorch's values (or 0.001, if that is more).
        note: what differs where the difference is infinite: the two shapes, say.
    """

    name: str
    call: int
    kind: str
    shape: tuple[int, ...]
    absolute: float
    relative: float
    note: str = ""


@dataclass(frozen=True)
class Trace:
    """The layers of a model against PyTorch's, in the order in which PyTorch finished them.

    Attributes:
        steps: the calls that both made.
        tolerance: the largest relative difference that is not a departure.
        unmatched: layers that only one of the two called, or one called more often, and those
            whose outputs have no common layout although the next layer agrees.
    """

    steps: tuple[Step, ...]
    tolerance: float
    unmatched: tuple[str, ...] = ()

    @property
    def first(self) -> Step | None:
        """The first layer that departs; None if none does.

        A layer is finished before the one that it is part of: where the first departure is a
        block, the layers within it agree, and what the block does between them differs.
        """
        return next((step for step in self.steps if not step.relative <= self.tolerance), None)

    def __str__(self) -> str:
        head = ("layer", "kind", "shape", "absolute", "relative")
        rows = [head] + [
            (
                _label(step.name) + (f" (call {step.call + 1})" if step.call else ""),
                step.kind,
                str(list(step.shape)),
                *_numbers(step),
            )
            for step in self.steps
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        for place, step in enumerate(self.steps, start=1):
            parts = [step.note, "<- first" if step is self.first else ""]
            lines[place] = "  ".join([lines[place], *filter(None, parts)])
        if self.unmatched:
            lines.append(f"not compared: {', '.join(map(_label, self.unmatched))}")
        if self.first is None:
            lines.append(f"no layer departs by more than {self.tolerance:g}")
        else:
            lines.append(self.departure)
        return "\n".join(lines)

    @property
    def departure(self) -> str:
        """The first layer that departs in a sentence; empty if none does."""
        if self.first is None:
            return ""
        note = f": {self.first.note}" if self.first.note else ""
        return f"{_label(self.first.name)} is the first to depart{note}"


def _label(name: str) -> str:
    return printable(name) or "(model)"


def _numbers(step: Step) -> tuple[str, str]:
    """The two differences; nothing where a note says more."""
    return ("", "") if step.note else (f"{step.absolute:.1e}", f"{step.relative:.1e}")


def compared(
    theirs: list[Call], ours: list[Call], kinds: Mapping[str, str], tolerance: float
) -> Trace:
    """Pairs the calls of two models by name and number, and compares what they returned.

    Args:
        theirs: PyTorch's calls, in the order in which they ended.
        ours: our calls.
        kinds: PyTorch's kinds of layers by name.
        tolerance: see ``Trace``.
    """
    left = _by_name(ours)
    unmatched = []
    counts: Counter[str] = Counter()
    steps: list[Step] = []
    strange: list[Step] = []  # the last steps, as long as there was nothing to compare in them
    for name, wanted in theirs:
        if not left.get(name):
            unmatched.append(name)
            continue
        given = left[name].pop(0)
        found = _difference(given, wanted)
        shape = wanted[0].shape if wanted else ()
        absolute, relative = found or (np.inf, np.inf)
        note = "" if np.isfinite(relative) else _note(given, wanted)
        step = Step(name, counts[name], kinds[name], shape, absolute, relative, note)
        steps.append(step)
        counts[name] += 1
        if found is None:
            strange.append(step)
            continue
        if step.relative <= tolerance:  # so what went into it was right
            unmatched += [one.name for one in strange]
            steps = [one for one in steps if one not in strange]
        strange = []
    unmatched += [name for name, calls in left.items() if calls]
    return Trace(tuple(steps), tolerance, tuple(dict.fromkeys(unmatched)))


def _note(ours: list[np.ndarray], theirs: list[np.ndarray]) -> str:
    """What differs between outputs whose difference is infinite."""
    for mine, array in zip(ours, theirs, strict=False):
        if not _layouts(mine, array):
            return f"{list(mine.shape)} here, {list(array.shape)} there"
    here, there = (all(np.isfinite(array).all() for array in arrays) for arrays in (ours, theirs))
    if here == there:
        return "not finite in both, and not the same"
    return f"not finite {'there' if here else 'here'}"


def _by_name(calls: list[Call]) -> dict[str, list[list[np.ndarray]]]:
    found: dict[str, list[list[np.ndarray]]] = {}
    for name, arrays in calls:
        found.setdefault(name, []).append(arrays)
    return found


def _difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> tuple[float, float] | None:
    """The largest absolute and relative difference between outputs in any layout that fits.

    None if nothing that can be compared differs and something has no common layout.
    """
    absolute = relative = 0.0
    strange = False
    # Some layers give less than PyTorch's, such as nnx.RNN, which gives no final state.
    for mine, array in zip(ours, theirs, strict=False):
        pairs = [distance(*pair) for pair in _layouts(mine, array)]
        best = min(pairs, key=lambda pair: pair[1], default=(0.0, 0.0))
        strange = strange or not pairs
        absolute, relative = max(absolute, best[0]), max(relative, best[1])
    return None if strange and not relative else (absolute, relative)


def _layouts(ours: np.ndarray, theirs: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Both outputs in the ways in which PyTorch's may be laid out here, where the shapes match."""
    own, layouts = [ours], [theirs]
    if theirs.ndim >= 3:
        layouts.append(np.moveaxis(theirs, 1, -1))  # channels last
    if theirs.ndim == 3:
        layouts.append(np.swapaxes(theirs, 0, 1))  # batch first
    if ours.ndim == theirs.ndim == 3 and not ours[:, theirs.shape[1] :].any():
        # PyTorch pads packed sequences only as far as the longest goes.
        own.append(ours[:, : theirs.shape[1]])
    return [(mine, layout) for mine in own for layout in layouts if layout.shape == mine.shape]


def distance(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """The largest absolute and relative difference of two arrays; NaN equals NaN.

    The latter is relative to the largest of theirs, or 0.001, if that is more. Both are infinite
    where a value is finite in one alone.
    """
    mine, other = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    same = (mine == other) | (np.isnan(mine) & np.isnan(other))  # equal infinities too
    finite = np.isfinite(mine) & np.isfinite(other)
    if not (same | finite).all():
        return np.inf, np.inf
    if same.all():
        return 0.0, 0.0
    absolute = float(np.abs(mine[~same] - other[~same]).max())
    return absolute, absolute / max(float(np.abs(other[finite]).max()), _SCALE)
