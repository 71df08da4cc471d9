"""Compares the outputs of two models layer by layer."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jaxnets.arrays import printable

_SCALE = 1e-3  # smallest denominator of a relative difference

#: The outputs of one call of a layer: its name ("" for the whole model) and its arrays.
Call = tuple[str, list[np.ndarray]]


@dataclass(frozen=True)
class Step:
    """The comparison of one call of one layer in both frameworks.

    Attributes:
        name: PyTorch's name of the layer; empty for the whole model.
        call: the index of the call of this layer, from 0.
        kind: the name of PyTorch's layer class.
        shape: the shape of PyTorch's output, or of the first of several outputs.
        absolute: the largest absolute difference; infinite if the shapes do not match, or a value
            is finite in only one framework.
        relative: ``absolute`` divided by the largest absolute value of PyTorch's output, or by
            0.001 if that is larger.
        note: the reason for an infinite difference, such as the two shapes; empty otherwise.
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
    """The layer-by-layer comparison of a model with PyTorch, in the order PyTorch finished layers.

    Attributes:
        steps: the calls that were made in both frameworks.
        tolerance: the largest relative difference that counts as equal.
        unmatched: the names of layers that are not compared: layers that only one framework
            called, or called more often, and layers whose outputs have no common layout although
            the next layer agrees.
    """

    steps: tuple[Step, ...]
    tolerance: float
    unmatched: tuple[str, ...] = ()

    @property
    def first(self) -> Step | None:
        """The first layer whose outputs differ, or None if all layers agree.

        Inner layers finish before the block that contains them. If the first difference is in a
        block, its inner layers agree and the computation between them differs.
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
            lines.append(f"no layer differs by more than {self.tolerance:g}")
        else:
            lines.append(self.divergence)
        return "\n".join(lines)

    @property
    def divergence(self) -> str:
        """A sentence that names the first layer whose outputs differ; empty if all agree."""
        if self.first is None:
            return ""
        note = f": {self.first.note}" if self.first.note else ""
        return f"{_label(self.first.name)} is the first layer that differs{note}"


def _label(name: str) -> str:
    return printable(name) or "(model)"


def _numbers(step: Step) -> tuple[str, str]:
    """Formats the two differences; empty texts if the step has a note."""
    return ("", "") if step.note else (f"{step.absolute:.1e}", f"{step.relative:.1e}")


def compared(
    theirs: list[Call], ours: list[Call], kinds: Mapping[str, str], tolerance: float
) -> Trace:
    """Pairs the calls of two models by name and call number, and compares their outputs.

    Args:
        theirs: PyTorch's calls, in the order in which they finished.
        ours: the JAX model's calls.
        kinds: the names of PyTorch's layer classes, by layer name.
        tolerance: see ``Trace``.
    """
    left = _by_name(ours)
    unmatched = []
    counts: Counter[str] = Counter()
    steps: list[Step] = []
    strange: list[Step] = []  # the steps without a common layout since the last comparison
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
        if step.relative <= tolerance:  # its inputs, the outputs of ``strange``, were right
            unmatched += [one.name for one in strange]
            steps = [one for one in steps if one not in strange]
        strange = []
    unmatched += [name for name, calls in left.items() if calls]
    return Trace(tuple(steps), tolerance, tuple(dict.fromkeys(unmatched)))


def _note(ours: list[np.ndarray], theirs: list[np.ndarray]) -> str:
    """Describes why the difference between outputs is infinite."""
    for mine, array in zip(ours, theirs, strict=False):
        if not _layouts(mine, array):
            return f"{list(mine.shape)} in JAX, {list(array.shape)} in PyTorch"
    here, there = (all(np.isfinite(array).all() for array in arrays) for arrays in (ours, theirs))
    if here == there:
        return "not finite in both, and not equal"
    return f"not finite in {'PyTorch' if here else 'JAX'}"


def _by_name(calls: list[Call]) -> dict[str, list[list[np.ndarray]]]:
    found: dict[str, list[list[np.ndarray]]] = {}
    for name, arrays in calls:
        found.setdefault(name, []).append(arrays)
    return found


def _difference(ours: list[np.ndarray], theirs: list[np.ndarray]) -> tuple[float, float] | None:
    """Returns the largest absolute and relative difference between outputs in the best layout.

    Returns None if some outputs have no common layout and all others agree.
    """
    absolute = relative = 0.0
    strange = False
    # Some layers return fewer outputs than PyTorch's: nnx.RNN returns no final state.
    for mine, array in zip(ours, theirs, strict=False):
        pairs = [distance(*pair) for pair in _layouts(mine, array)]
        best = min(pairs, key=lambda pair: pair[1], default=(0.0, 0.0))
        strange = strange or not pairs
        absolute, relative = max(absolute, best[0]), max(relative, best[1])
    return None if strange and not relative else (absolute, relative)


def _layouts(ours: np.ndarray, theirs: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns pairs of both outputs with equal shapes, in all plausible layouts of PyTorch's."""
    own, layouts = [ours], [theirs]
    if theirs.ndim >= 3:
        layouts.append(np.moveaxis(theirs, 1, -1))  # channels last
    if theirs.ndim == 3:
        layouts.append(np.swapaxes(theirs, 0, 1))  # batch first
    if ours.ndim == theirs.ndim == 3 and not ours[:, theirs.shape[1] :].any():
        # PyTorch pads packed sequences only to the length of the longest sequence.
        own.append(ours[:, : theirs.shape[1]])
    return [(mine, layout) for mine in own for layout in layouts if layout.shape == mine.shape]


def distance(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """Returns the largest absolute and relative difference of two arrays; NaN equals NaN.

    The relative difference is divided by the largest absolute value of ``theirs``, or by 0.001 if
    that is larger. Both differences are infinite if a value is finite in only one array.
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
