"""Records of a comparison of training steps, metric by metric."""

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from jaxnets.compare.equivalence import Equivalence, paired
from jaxnets.compare.records import Finding

# Of a metric in float32 after some steps; where matrix products are in TF32 or bfloat16.
_ROUNDING, _REDUCED = 1e-4, 5e-3
_BEYOND = 100  # times what rounding alone does
_LASTING = 3  # steps: by chance one alone may differ, such as by an example on the boundary
_UNCONTROLLED = 3  # steps in which rounding has not grown yet
_MARGIN = 0.01  # of PyTorch's mean
_SMALLEST = 1e-3  # what a difference is relative to at least
_SHOWN = 12  # metrics of which a person reads the results


@dataclass(frozen=True, kw_only=True, repr=False)
class Course:
    """One framework's training from one seed, metric by metric.

    Attributes:
        framework: ``"jaxnets"`` or ``"torch"``.
        seed: the seed.
        steps: each metric by name at each step, float [steps]; NaN where a step did not measure it.
        epochs: the mean over the examples of each epoch's steps, float [epochs].
    """

    framework: str
    seed: int
    steps: dict[str, np.ndarray]
    epochs: dict[str, np.ndarray]

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {values[-1]:.6g}" for name, values in self.epochs.items())
        return f"Course: {self.framework}, seed {self.seed}, last epoch {last}"


@dataclass(frozen=True, kw_only=True)
class Departure:
    """Where a metric of the two frameworks departs by more than rounding explains.

    Attributes:
        metric: its name.
        step: the first such step, from 0.
        seed: the pair's.
        ours: the metric at that step; NaN where it was not measured.
        theirs: likewise.
        apart: the difference relative to PyTorch's; infinite where one alone is finite.
        explained: how large a difference rounding explains there.
    """

    metric: str
    step: int
    seed: int
    ours: float
    theirs: float
    apart: float
    explained: float


@dataclass(frozen=True, kw_only=True, repr=False)
class StepComparison:
    """The same training steps in jaxnets and in PyTorch.

    Attributes:
        name: of the comparison.
        description: what is trained, in a line.
        date: of its end, ISO 8601.
        weights_from: the framework that drew the initial weights of both.
        settings: what decides the numbers, as far as it has words.
        ours: our training from each seed.
        theirs: PyTorch's, of the same seeds in the same order.
        control: PyTorch's from the first seed and weights that differ in their last bit, which
            shows what rounding alone does; None if none was made.
        findings: what is not as it should be; empty if nothing is.
        versions: of the packages.
        machine: processor, cores, device.
    """

    name: str
    description: str
    date: str
    weights_from: str
    settings: dict[str, Any]
    ours: tuple[Course, ...]
    theirs: tuple[Course, ...]
    control: Course | None = None
    findings: tuple[Finding, ...] = ()
    versions: dict[str, str | None] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        count = len(self.ours)
        seeds = "1 seed" if count == 1 else f"{count} seeds"
        lines = [f"StepComparison of jaxnets and torch by {self.name}, {seeds}:"]
        lines += [f"{name}: {self.in_words(name)}" for name in self.metrics[:_SHOWN]]
        if len(self.metrics) > _SHOWN:
            lines.append(f"and {len(self.metrics) - _SHOWN} more metrics")
        return "\n  ".join([*lines, *(finding.text for finding in self.findings)])

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of what is compared, the loss first."""
        return tuple(self.theirs[0].steps)

    def in_words(self, metric: str) -> str:
        """The last value of a metric, and the difference between the two, in words."""
        mean = [np.mean(self.last(metric, side)) for side in (self.ours, self.theirs)]
        found = self.departure(metric)
        if found is None:
            apart = self.apart(metric)
            largest = np.max(apart, where=np.isfinite(apart), initial=0.0)
            ending = f"at most {largest:.1e} apart, as rounding explains"
        else:
            ending = f"departs at step {found.step} (seed {found.seed}) by {found.apart:.1e}"
        return f"{mean[0]:.6g} and {mean[1]:.6g} in the last epoch; {ending}"

    def last(self, metric: str, side: tuple[Course, ...]) -> list[float]:
        """A metric's mean over the last epoch, from each seed of a side."""
        return [float(course.epochs[metric][-1]) for course in side]

    def equivalence(self, metric: str) -> Equivalence:
        """Ours less theirs in the last epoch, over the seeds; the margin is 1 % of PyTorch's."""
        ours, theirs = (self.last(metric, side) for side in (self.ours, self.theirs))
        return paired(ours, theirs, _MARGIN * float(np.mean(np.abs(theirs))))

    def apart(self, metric: str) -> np.ndarray:
        """How far the two are apart, relative to PyTorch's, float [seeds, steps].

        A step's difference is relative to the metric's value there, or to its median over the
        steps if that is larger, as a metric may cross zero. NaN where neither is finite.
        """
        pairs = zip(self.ours, self.theirs, strict=True)
        return np.stack([_relative(one.steps[metric], other.steps[metric]) for one, other in pairs])

    def explained(self, metric: str) -> np.ndarray:
        """How large a difference rounding explains at each step, float [steps].

        That is 1e-4 (5e-3 on an accelerator), or 100 times the largest difference so far between
        PyTorch and the control. Without a control, any difference from the fourth step on.
        """
        theirs = self.theirs[0].steps[metric]
        least = _ROUNDING if jax.default_backend() == "cpu" else _REDUCED
        if self.control is None:
            return np.where(np.arange(len(theirs)) < _UNCONTROLLED, least, np.inf)
        chance = np.nan_to_num(_relative(self.control.steps[metric], theirs), posinf=np.inf)
        return np.maximum(least, _BEYOND * np.maximum.accumulate(chance))

    def departure(self, metric: str) -> Departure | None:
        """Where a metric departs for three steps or more; None if it does not."""
        explained, apart = self.explained(metric), self.apart(metric)
        starts = [_start(one, explained) for one in apart]
        found = [
            (step, -apart[row, step], row) for row, step in enumerate(starts) if step is not None
        ]
        if not found:
            return None
        step, _, row = min(found)
        return Departure(
            metric=metric,
            step=step,
            seed=self.ours[row].seed,
            ours=float(self.ours[row].steps[metric][step]),
            theirs=float(self.theirs[row].steps[metric][step]),
            apart=float(apart[row, step]),
            explained=float(explained[step]),
        )


def _relative(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    known = np.isfinite(first), np.isfinite(second)
    typical = np.median(np.abs(second[known[1]])) if known[1].any() else 0.0
    with np.errstate(invalid="ignore"):
        found = np.abs(first - second) / np.maximum(np.abs(second), max(typical, _SMALLEST))
    return np.where(known[0] & known[1], found, np.where(known[0] | known[1], np.inf, np.nan))


def _start(apart: np.ndarray, explained: np.ndarray) -> int | None:
    """The first of three steps, or of those that are left, that rounding does not explain."""
    compared = np.flatnonzero(~np.isnan(apart))
    bad = apart[compared] > explained[compared]
    for place in np.flatnonzero(bad):
        if bad[place : place + _LASTING].all():
            return int(compared[place])
    return None
