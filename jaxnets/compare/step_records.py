"""Records of a comparison of training steps, metric by metric."""

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from jaxnets.compare.equivalence import Equivalence, paired
from jaxnets.compare.records import Finding

# Relative difference by rounding after some steps, in float32 and in TF32 or bfloat16.
_ROUNDING, _REDUCED = 1e-4, 5e-3
_BEYOND = 100  # factor by which a difference must exceed that of rounding
_LASTING = 3  # steps; a single step may differ by chance, such as at a decision boundary
_UNCONTROLLED = 3  # number of first steps, before rounding differences have grown
_MARGIN = 0.01  # relative to PyTorch's mean
_SMALLEST = 1e-3  # the least denominator of a relative difference
_SHOWN = 12  # number of metrics in the repr


@dataclass(frozen=True, kw_only=True, repr=False)
class Course:
    """One framework's training from one seed, metric by metric.

    Attributes:
        framework: ``"jaxnets"`` or ``"torch"``.
        seed: the seed.
        steps: each metric by name at each step, float [steps]; NaN where a step did not measure it.
        epochs: each metric's mean over the examples of an epoch, float [epochs].
    """

    framework: str
    seed: int
    steps: dict[str, np.ndarray]
    epochs: dict[str, np.ndarray]

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {values[-1]:.6g}" for name, values in self.epochs.items())
        return f"Course: {self.framework}, seed {self.seed}, last epoch {last}"


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """The first step at which a metric differs by more than rounding explains.

    Attributes:
        metric: the name of the metric.
        step: the step, from 0.
        seed: the seed of the pair.
        ours: the metric of jaxnets at that step; NaN if it was not measured.
        theirs: the metric of PyTorch at that step; NaN if it was not measured.
        relative_difference: the difference divided by PyTorch's value; infinite if only one is
            finite.
        explained: the largest relative difference that rounding explains.
    """

    metric: str
    step: int
    seed: int
    ours: float
    theirs: float
    relative_difference: float
    explained: float


@dataclass(frozen=True, kw_only=True, repr=False)
class StepComparison:
    """The same training steps in jaxnets and in PyTorch.

    Attributes:
        name: the name of the comparison.
        description: one line about the network and the data.
        date: the date and time of the end, ISO 8601.
        weights_from: the framework that drew the initial weights of both.
        settings: the settings that determine the results.
        ours: the training in jaxnets from each seed.
        theirs: the training in PyTorch from the same seeds, in the same order.
        control: a PyTorch training from the first seed, with initial weights that differ in their
            last bit, to show the effect of rounding; None without one.
        findings: differences that rounding does not explain; empty if there are none.
        versions: the versions of the packages.
        machine: processor, number of cores, device and system.
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
        """The names of the compared metrics, the loss first."""
        return tuple(self.theirs[0].steps)

    def in_words(self, metric: str) -> str:
        """Returns a line with a metric's means in the last epoch and its largest difference."""
        mean = [np.mean(self.last(metric, side)) for side in (self.ours, self.theirs)]
        found = self.divergence(metric)
        if found is None:
            apart = self.relative_differences(metric)
            largest = np.max(apart, where=np.isfinite(apart), initial=0.0)
            ending = f"differs by at most {largest:.1e}, which rounding explains"
        else:
            where = f"step {found.step} (seed {found.seed})"
            ending = f"diverges at {where} by {found.relative_difference:.1e}"
        return f"{mean[0]:.6g} and {mean[1]:.6g} in the last epoch; {ending}"

    def last(self, metric: str, side: tuple[Course, ...]) -> list[float]:
        """Returns a metric's mean over the last epoch, from each seed of a side."""
        return [float(course.epochs[metric][-1]) for course in side]

    def equivalence(self, metric: str) -> Equivalence:
        """Tests equivalence of a metric in the last epoch, within 1 % of PyTorch's mean."""
        ours, theirs = (self.last(metric, side) for side in (self.ours, self.theirs))
        return paired(ours, theirs, _MARGIN * float(np.mean(np.abs(theirs))))

    def relative_differences(self, metric: str) -> np.ndarray:
        """Returns the differences of a metric relative to PyTorch's values, float [seeds, steps].

        The denominator is the larger of the value at the step and the median over the steps, as a
        metric may cross zero. NaN if neither value is finite, infinity if only one is.
        """
        pairs = zip(self.ours, self.theirs, strict=True)
        return np.stack([_relative(one.steps[metric], other.steps[metric]) for one, other in pairs])

    def explained(self, metric: str) -> np.ndarray:
        """Returns the largest relative difference that rounding explains, float [steps].

        It is the larger of 1e-4 (5e-3 on an accelerator) and 100 times the largest difference so
        far between PyTorch and the control. Without a control, it is infinite from the fourth step.
        """
        theirs = self.theirs[0].steps[metric]
        least = _ROUNDING if jax.default_backend() == "cpu" else _REDUCED
        if self.control is None:
            return np.where(np.arange(len(theirs)) < _UNCONTROLLED, least, np.inf)
        chance = np.nan_to_num(_relative(self.control.steps[metric], theirs), posinf=np.inf)
        return np.maximum(least, _BEYOND * np.maximum.accumulate(chance))

    def divergence(self, metric: str) -> Divergence | None:
        """Finds the first of three successive steps at which a metric diverges; None if none."""
        explained, apart = self.explained(metric), self.relative_differences(metric)
        starts = [_start(one, explained) for one in apart]
        found = [
            (step, -apart[row, step], row) for row, step in enumerate(starts) if step is not None
        ]
        if not found:
            return None
        step, _, row = min(found)
        return Divergence(
            metric=metric,
            step=step,
            seed=self.ours[row].seed,
            ours=float(self.ours[row].steps[metric][step]),
            theirs=float(self.theirs[row].steps[metric][step]),
            relative_difference=float(apart[row, step]),
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
    """Returns the first step from which three successive (or all remaining) steps differ."""
    compared = np.flatnonzero(~np.isnan(apart))
    bad = apart[compared] > explained[compared]
    for place in np.flatnonzero(bad):
        if bad[place : place + _LASTING].all():
            return int(compared[place])
    return None
