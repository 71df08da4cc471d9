"""The verdict of a comparison."""

import numpy as np

from jaxnets.compare.records import Comparison
from jaxnets.compare.report.wording import Scale, measured, names, p_value
from jaxnets.pages.blocks import Notice


def verdict(comparison: Comparison) -> Notice:
    """Returns a notice that says whether the scores are equivalent, different or neither."""
    found, scale = comparison.equivalence, Scale.of(comparison)
    within = f"within {scale.within(found.margin)}"
    if not np.isfinite(found.difference):
        return Notice("bad", "Not finite.", _of_diverged(comparison))
    if found.interval is None or found.p_value is None:
        text = f"{_means(comparison)}. With one seed, chance and frameworks cannot be separated."
        return Notice("open", "Not tested.", text)
    low, high = map(scale.signed, found.interval)
    by = "paired by seed" if found.paired else "Welch’s, for independent runs"
    start = f"{_means(comparison)} (95 % confidence interval {low} to {high})."
    chance = f"{p_value(found.p_value)}; two one-sided t tests, {by}"
    if not found.std:
        chance = "the differences have no variance, so no t test is needed"
    if found.equivalent:
        text = f"{start} The frameworks are equivalent {within} ({chance})."
        if found.different:
            text += " There is a significant difference, which is smaller than this margin."
        return Notice("good", "Equivalent.", text)
    text = f"{start} Equivalence {within} is not shown ({chance})"
    if found.different:
        text += ", and the interval excludes zero, so the difference is significant."
        return Notice("bad", "Different.", text)
    return Notice("open", "Inconclusive.", f"{text}, and neither is a difference: add seeds.")


def _of_diverged(comparison: Comparison) -> str:
    """Returns a sentence such as ``A score is not finite: that of jaxnets from seed 1.``."""
    faults = [
        f"that of {name} from seed {side.seed}"
        for pair in comparison.pairs
        for name, side in zip(names(comparison), (pair.ours, pair.theirs), strict=True)
        if not np.isfinite(side.score)
    ]
    return f"A score is not finite: {', '.join(faults)}. The means are therefore not compared."


def _means(comparison: Comparison) -> str:
    """Returns a clause with both means and their difference."""
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
