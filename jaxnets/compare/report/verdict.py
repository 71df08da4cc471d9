"""What the seeds show, in words."""

import numpy as np

from jaxnets.compare.records import Comparison
from jaxnets.compare.report.wording import Scale, measured, names, p_value
from jaxnets.pages.blocks import Notice


def verdict(comparison: Comparison) -> Notice:
    """What the seeds show of equivalence, in words."""
    found, scale = comparison.equivalence, Scale.of(comparison)
    within = f"within {scale.within(found.margin)}"
    if not np.isfinite(found.difference):
        return Notice("bad", "Not finite.", _of_diverged(comparison))
    if found.interval is None or found.p_value is None:
        text = f"{_means(comparison)}. One seed cannot tell the frameworks from chance."
        return Notice("open", "One seed cannot say.", text)
    low, high = map(scale.signed, found.interval)
    by = "paired by seed" if found.paired else "Welch’s, of independent runs"
    start = f"{_means(comparison)} (95 % confidence interval {low} to {high})."
    chance = f"{p_value(found.p_value)}; two one-sided t tests, {by}"
    if not found.std:
        chance = "scores without spread, which leave a t test nothing to measure"
    if found.equivalent:
        text = f"{start} The frameworks are equivalent {within} ({chance})."
        if found.different:
            text += " A difference is shown too, one that is smaller than this margin."
        return Notice("good", "Equivalent.", text)
    text = f"{start} Equivalence {within} is not shown ({chance})"
    if found.different:
        text += ", and the interval leaves zero out: seeds alone do not explain the difference."
        return Notice("bad", "Different.", text)
    return Notice("open", "Inconclusive.", f"{text}, and no difference either: add seeds.")


def _of_diverged(comparison: Comparison) -> str:
    """``A score is not finite: that of jaxnets from seed 1; …``."""
    faults = [
        f"that of {name} from seed {side.seed}"
        for pair in comparison.pairs
        for name, side in zip(names(comparison), (pair.ours, pair.theirs), strict=True)
        if not np.isfinite(side.score)
    ]
    return f"A score is not finite: {', '.join(faults)}. Means of such scores say nothing."


def _means(comparison: Comparison) -> str:
    """``Over 5 seeds jaxnets ends at …, a difference of …``."""
    scale, (ours, theirs) = Scale.of(comparison), names(comparison)
    first, second = np.mean(
        [[pair.ours.score, pair.theirs.score] for pair in comparison.pairs], axis=0
    )
    seeds = comparison.pairs[0].seed if len(comparison.pairs) == 1 else None
    runs = f"Over {len(comparison.pairs)} seeds" if seeds is None else f"From seed {seeds}"
    return (
        f"{runs}, the test {measured(comparison)} is {scale.score(first)} with {ours} and "
        f"{scale.score(second)} with {theirs}, a difference of "
        f"{scale.difference(comparison.equivalence.difference)}"
    )
