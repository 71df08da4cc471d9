"""Numbers in words: one way to write each kind."""

import math
from dataclasses import dataclass

from jaxnets.compare.records import Comparison
from jaxnets.pages.wording import minus

FRAMEWORKS = {"jaxnets": "jaxnets", "torch": "PyTorch", "flax": "Flax", "keras": "Keras"}


@dataclass(frozen=True)
class Scale:
    """How the scores of a comparison are written.

    Attributes:
        factor: by which a score is multiplied first.
        decimals: after the point.
        unit: of a score, with its space.
        difference_unit: of a difference, likewise.
    """

    factor: float
    decimals: int
    unit: str
    difference_unit: str

    @classmethod
    def of(cls, comparison: Comparison) -> "Scale":
        """Percent for accuracies; for losses as many decimals as show the margin."""
        if comparison.measure == "accuracy":
            return cls(100, 2, " %", " percentage points")
        decimals = (
            2 - math.floor(math.log10(comparison.margin)) if 0 < comparison.margin < math.inf else 4
        )
        return cls(1, min(max(decimals, 2), 8), "", "")

    def bare(self, score: float) -> str:
        """A score without its unit."""
        return minus(f"{self.factor * score:.{self.decimals}f}")

    def score(self, score: float) -> str:
        """``97.91 %``."""
        return self.bare(score) + self.unit

    def signed(self, difference: float) -> str:
        """``+0.03``, without its unit; nothing before a zero."""
        rounded = round(self.factor * difference, self.decimals)
        return minus(f"{rounded:+.{self.decimals}f}") if rounded else f"{0:.{self.decimals}f}"

    def difference(self, difference: float) -> str:
        """``+0.03 percentage points``."""
        return self.signed(difference) + self.difference_unit

    def within(self, margin: float) -> str:
        """``±0.30 percentage points``."""
        return f"±{self.bare(margin)}{self.difference_unit}"


def p_value(value: float) -> str:
    """``p = 0.012``, or ``p < 0.001``."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def names(comparison: Comparison) -> tuple[str, str]:
    """Of ours and of theirs."""
    ours, theirs = comparison.frameworks
    return FRAMEWORKS[ours], FRAMEWORKS[theirs]


def measured(comparison: Comparison) -> str:
    """``accuracy``, or ``loss``: of the test split."""
    return comparison.measure.removeprefix("test ")


def bands(comparison: Comparison) -> str:
    """What the curves of a figure are."""
    many = len(comparison.pairs) > 1
    return "lines are medians over seeds, bands their range" if many else "one seed"
