"""Formats scores, differences and p-values."""

import math
from dataclasses import dataclass

from jaxnets.compare.records import Comparison
from jaxnets.pages.wording import minus

FRAMEWORKS = {"jaxnets": "jaxnets", "torch": "PyTorch", "flax": "Flax", "keras": "Keras"}


@dataclass(frozen=True)
class Scale:
    """The format of the scores of a comparison.

    Attributes:
        factor: the factor to multiply a score by, 100 for percent.
        decimals: the number of decimals.
        unit: the unit of a score, with a leading space.
        difference_unit: the unit of a difference, with a leading space.
    """

    factor: float
    decimals: int
    unit: str
    difference_unit: str

    @classmethod
    def of(cls, comparison: Comparison) -> "Scale":
        """Returns percent for accuracies; for losses enough decimals to show the margin."""
        if comparison.measure == "accuracy":
            return cls(100, 2, " %", " percentage points")
        decimals = (
            2 - math.floor(math.log10(comparison.margin)) if 0 < comparison.margin < math.inf else 4
        )
        return cls(1, min(max(decimals, 2), 8), "", "")

    def bare(self, score: float) -> str:
        """Formats a score without its unit."""
        return minus(f"{self.factor * score:.{self.decimals}f}")

    def score(self, score: float) -> str:
        """Formats a score, such as ``97.91 %``."""
        return self.bare(score) + self.unit

    def signed(self, difference: float) -> str:
        """Formats a difference without its unit, such as ``+0.03``; zero has no sign."""
        rounded = round(self.factor * difference, self.decimals)
        return minus(f"{rounded:+.{self.decimals}f}") if rounded else f"{0:.{self.decimals}f}"

    def difference(self, difference: float) -> str:
        """Formats a difference, such as ``+0.03 percentage points``."""
        return self.signed(difference) + self.difference_unit

    def within(self, margin: float) -> str:
        """Formats a margin, such as ``±0.30 percentage points``."""
        return f"±{self.bare(margin)}{self.difference_unit}"


def p_value(value: float) -> str:
    """Formats a p-value, such as ``p = 0.012`` or ``p < 0.001``."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def names(comparison: Comparison) -> tuple[str, str]:
    """Returns the names of the two frameworks for a reader, jaxnets first."""
    ours, theirs = comparison.frameworks
    return FRAMEWORKS[ours], FRAMEWORKS[theirs]


def measured(comparison: Comparison) -> str:
    """Returns ``accuracy`` or ``loss``, the score of the test split."""
    return comparison.measure.removeprefix("test ")


def bands(comparison: Comparison) -> str:
    """Describes the curves of a figure."""
    many = len(comparison.pairs) > 1
    return "lines are medians over seeds, bands show the range" if many else "one seed"
