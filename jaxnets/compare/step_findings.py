"""Findings of a comparison of training steps: where the frameworks diverge, and why."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jaxnets.compare.records import Finding
from jaxnets.compare.step_records import Divergence, StepComparison

_OF_UPDATES = 1e-4  # least relative difference of an update that counts
_ALONE = 1e-2  # the same if no metric diverges
_BEYOND = 100  # factor by which a difference must exceed that of rounding
_PARALLEL = 0.9999  # cosine above which two updates count as parallel

_NAMES = {"jaxnets": "jaxnets", "torch": "PyTorch"}

Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class FirstStep:
    """The changes of the weights by the first step from the first seed.

    Attributes:
        ours: the change of each weight in jaxnets, by PyTorch's names.
        theirs: the change of each weight in PyTorch.
        control: the change in PyTorch from weights that differ in their last bit; None without a
            control run.
        draws: the frameworks in which the step drew random numbers.
    """

    ours: Weights
    theirs: Weights
    control: Weights | None
    draws: tuple[str, ...] = ()

    def worst(self, least: float = _OF_UPDATES) -> tuple[str, int] | None:
        """Finds the weight whose update differs most, and counts those that differ.

        Args:
            least: the least relative difference that counts.

        Returns:
            The name and the count; None if no update differs, or without a control run.
        """
        if self.control is None:
            return None
        apart = {}
        for name, theirs in self.theirs.items():
            chance = _apart(self.control[name], theirs)
            far = _apart(self.ours[name], theirs)
            if far > max(least, _BEYOND * chance):
                apart[name] = round(far, 3)  # so that the first of similar ones is chosen
        return (max(apart, key=lambda name: apart[name]), len(apart)) if apart else None

    def in_words(self) -> str:
        """Returns a sentence on the differences of the first updates."""
        found = self.worst()
        if found is None:
            return (
                "The first updates of the weights agree, so the difference is in the state between "
                "steps, such as momentum or gradients that are not reset, or it is random."
            )
        name, count = found
        changed = f"{count} of {len(self.theirs)} weights"
        return f"The first updates of {changed} differ, most in {name}: {self._difference(name)}"

    def _difference(self, name: str) -> str:
        ours, theirs = (np.ravel(side[name]) for side in (self.ours, self.theirs))
        lengths = np.linalg.norm(ours), np.linalg.norm(theirs)
        if not all(lengths):
            return f"{'PyTorch' if lengths[0] else 'jaxnets'} does not change it."
        cosine = ours @ theirs / (lengths[0] * lengths[1])
        if cosine > _PARALLEL:
            ratio = lengths[1] / lengths[0]
            return (
                f"PyTorch's update is {ratio:.5g} times that of jaxnets. The learning rate may "
                "differ."
            )
        return f"the directions of the updates differ, with a cosine of {cosine:.4g}."


def findings(comparison: StepComparison, first: FirstStep) -> tuple[Finding, ...]:
    """Returns the findings of a comparison.

    Args:
        comparison: the comparison, as yet without findings.
        first: the changes by the first step.
    """
    found = _not_finite(comparison)
    divergences = [comparison.divergence(metric) for metric in comparison.metrics]
    known = [one for one in divergences if one is not None]
    known.sort(key=lambda one: (one.step, -one.relative_difference))
    if known:
        return (*found, _of_divergences(known, first))
    differing = first.worst(_ALONE)
    if differing is not None:
        text = f"The metrics agree, but the weights do not. {first.in_words()}"
        found.append(_finding("weights after the first step", 0, text, differing[0]))
    return (*found, *_of_means(comparison))


def _finding(statistic: str, step: int | None, text: str, weight: str = "") -> Finding:
    layer = weight.rpartition(".")[0] or None
    return Finding(statistic=statistic, step=step, layer=layer, text=text)


def _not_finite(comparison: StepComparison) -> list[Finding]:
    found = []
    for course in (*comparison.ours, *comparison.theirs):
        bad = np.flatnonzero(~np.isfinite(course.steps["loss"]))
        if len(bad):
            name = _NAMES[course.framework]
            text = f"The loss of {name} is not finite from step {bad[0]} on, seed {course.seed}."
            found.append(_finding("loss", int(bad[0]), text))
    return found


def _of_divergences(known: list[Divergence], first: FirstStep) -> Finding:
    """Makes a finding of the metrics that diverge first, as the others may follow from them."""
    one, *others = known
    also = [other.metric for other in others if other.step == one.step]
    later = [f"{other.metric} at step {other.step}" for other in others if other.step > one.step]
    where = f"{one.metric}{', together with ' + _listed(also) if also else ''}"
    sentences = [
        f"The first metric to diverge is {where}, at step {one.step} (seed {one.seed}): "
        f"{one.metric} is {one.ours:.6g} in jaxnets and {one.theirs:.6g} in PyTorch. The relative "
        f"difference is {one.relative_difference:.1e}; rounding explains up to {one.explained:.0e}."
    ]
    sentences += [f"Other metrics diverge later: {_listed(later)}."] if later else []
    if first.draws:
        drawing = " and ".join(_NAMES[framework] for framework in first.draws)
        sentences.append(
            f"The step draws random numbers in {drawing}: make them a column of the data."
        )
    differing = first.worst()
    if differing or (one.step and first.control is not None):
        sentences.append(first.in_words())
    return _finding(one.metric, one.step, " ".join(sentences), differing[0] if differing else "")


def _of_means(comparison: StepComparison) -> list[Finding]:
    found = []
    for metric in comparison.metrics:
        mean = comparison.equivalence(metric)
        if not mean.different or mean.equivalent or mean.interval is None:
            continue
        low, high = mean.interval
        text = (
            f"The mean {metric} of the last epoch differs by {mean.difference:.3g} over "
            f"{len(comparison.ours)} seeds (95 % confidence interval {low:.3g} to {high:.3g}), and "
            f"equivalence within ±{mean.margin:.3g} is not shown."
        )
        found.append(_finding(metric, None, text))
    return found


def _apart(first: np.ndarray, second: np.ndarray) -> float:
    """Returns the difference of two updates, relative to the longer one.

    The tenth of the numbers that differ most is excluded: where the gradient is almost zero, an
    optimizer that divides by it, such as Adam, amplifies its rounding.
    """
    apart = np.abs(first - second).ravel()
    kept = np.argsort(apart)[: apart.size - apart.size // 10]
    length = max(np.linalg.norm(np.ravel(side)[kept]) for side in (first, second))
    return float(np.linalg.norm(apart[kept]) / length) if length else 0.0


def _listed(names: list[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
