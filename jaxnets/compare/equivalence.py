"""Tests whether two samples of scores differ, and whether they are equivalent."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
_LEVEL = 1 - CONFIDENCE


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """The mean difference of two samples, and a test of equivalence within a margin.

    The test is TOST (Schuirmann, 1987): two one-sided t tests, against a difference of the margin
    below zero and of the margin above it. Its p-value is the larger of the two.

    Attributes:
        difference: the mean of the first sample minus that of the second.
        std: the standard deviation of the paired differences, or the pooled one of both samples.
            None for a single pair, or if a score is not finite.
        interval: the 95 % confidence interval of the difference by Student's t; None if ``std`` is.
        p_value: the p-value of the equivalence test; None if ``std`` is.
        margin: the largest difference that counts as equivalent.
        degrees: the degrees of freedom; None if ``std`` is.
        paired: whether the samples were compared pair by pair.
    """

    difference: float
    std: float | None
    interval: tuple[float, float] | None
    p_value: float | None
    margin: float
    degrees: float | None
    paired: bool

    @property
    def equivalent(self) -> bool | None:
        """Whether equivalence is shown at the 5 % level; None if it cannot be tested."""
        return None if self.p_value is None else self.p_value < _LEVEL

    @property
    def different(self) -> bool | None:
        """Whether the confidence interval excludes zero; None if there is no interval."""
        return None if self.interval is None else not self.interval[0] <= 0 <= self.interval[1]


def paired(first: Sequence[float], second: Sequence[float], margin: float) -> Equivalence:
    """Compares two samples pair by pair, such as scores from the same seeds.

    Args:
        first: the first sample.
        second: the second sample, of the same length.
        margin: the largest difference that counts as equivalent.
    """
    differences = np.subtract(first, second, dtype=np.float64)
    count = len(differences)
    if count == 1 or not np.isfinite(differences).all():
        return _untested(float(differences.mean()), margin, paired=True)
    std = float(differences.std(ddof=1))
    return _tested(float(differences.mean()), std, std / math.sqrt(count), margin, count - 1, True)


def independent(first: Sequence[float], second: Sequence[float], margin: float) -> Equivalence:
    """Compares two independent samples by Welch's t test.

    Args:
        first: the first sample.
        second: the second sample.
        margin: the largest difference that counts as equivalent.
    """
    difference = float(np.mean(first, dtype=np.float64) - np.mean(second, dtype=np.float64))
    if min(len(first), len(second)) == 1 or not np.isfinite(difference):
        return _untested(difference, margin, paired=False)
    variances = [float(np.var(sample, ddof=1)) for sample in (first, second)]
    shares = [v / len(sample) for v, sample in zip(variances, (first, second), strict=True)]
    below = sum(
        share**2 / (len(sample) - 1) for share, sample in zip(shares, (first, second), strict=True)
    )
    degrees = sum(shares) ** 2 / below if below else float(len(first) + len(second) - 2)
    std = math.sqrt(sum(variances) / 2)
    return _tested(difference, std, math.sqrt(sum(shares)), margin, degrees, False)


def _untested(difference: float, margin: float, *, paired: bool) -> Equivalence:
    return Equivalence(
        difference=difference,
        std=None,
        interval=None,
        p_value=None,
        margin=margin,
        degrees=None,
        paired=paired,
    )


def _tested(
    difference: float, std: float, error: float, margin: float, degrees: float, paired: bool
) -> Equivalence:
    from scipy.special import stdtr, stdtrit

    half = float(stdtrit(degrees, (1 + CONFIDENCE) / 2)) * error
    nearest = margin - abs(difference)  # the distance of the difference from the nearer bound
    p_value = 0.0 if nearest > 0 else 1.0  # without variance, the t statistic is ±infinity
    if error:
        p_value = float(stdtr(degrees, -nearest / error))
    return Equivalence(
        difference=difference,
        std=std,
        interval=(difference - half, difference + half),
        p_value=p_value,
        margin=margin,
        degrees=degrees,
        paired=paired,
    )
