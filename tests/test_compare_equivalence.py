"""Tests of equivalence compared with SciPy's t tests."""

import numpy as np
import pytest

from jaxnets.compare.equivalence import independent, paired

OURS = [0.9791, 0.9783, 0.9802, 0.9779, 0.9795]
THEIRS = [0.9788, 0.9790, 0.9796, 0.9781, 0.9789]


@pytest.fixture(scope="module")
def stats():
    """SciPy's statistics: 55 MB, which other workers do not need."""
    from scipy import stats

    return stats


@pytest.mark.parametrize("compare", [paired, independent])
def test_p_value_is_the_larger_of_two_one_sided_tests(compare, stats):
    ours, theirs, margin = np.array(OURS), np.array(THEIRS), 0.0005
    if compare is independent:
        above = stats.ttest_ind(ours, theirs - margin, equal_var=False, alternative="greater")
        below = stats.ttest_ind(ours, theirs + margin, equal_var=False, alternative="less")
    else:
        above = stats.ttest_rel(ours, theirs - margin, alternative="greater")
        below = stats.ttest_rel(ours, theirs + margin, alternative="less")
    found = compare(OURS, THEIRS, margin)
    assert found.p_value == pytest.approx(max(above.pvalue, below.pvalue), rel=1e-9)
    assert found.difference == pytest.approx(np.mean(ours - theirs))


def test_interval_is_scipys(stats):
    expected = stats.ttest_rel(OURS, THEIRS).confidence_interval(0.95)
    assert paired(OURS, THEIRS, 0.003).interval == pytest.approx(expected, rel=1e-9)
    expected = stats.ttest_ind(OURS, THEIRS, equal_var=False).confidence_interval(0.95)
    assert independent(OURS, THEIRS, 0.003).interval == pytest.approx(expected, rel=1e-9)


def test_equivalence_is_shown_only_within_the_margin():
    assert paired(OURS, THEIRS, 0.003).equivalent
    assert not paired(OURS, THEIRS, 0.0003).equivalent
    worse = [each - 0.01 for each in OURS]
    assert not paired(worse, THEIRS, 0.003).equivalent
    assert paired(worse, THEIRS, 0.003).different


@pytest.mark.parametrize("compare", [paired, independent])
def test_scores_without_spread_leave_nothing_to_chance(compare):
    same = compare([0.5, 0.5], [0.5, 0.5], 0.003)
    assert (same.p_value, same.interval, same.different) == (0.0, (0.0, 0.0), False)
    assert compare([0.5, 0.5], [0.4, 0.4], 0.003).p_value == 1.0


@pytest.mark.parametrize("compare", [paired, independent])
@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_a_score_that_is_not_finite_says_neither(compare, score):
    found = compare([0.5, score, 0.5], [0.5, 0.4, 0.5], 0.003)
    assert (found.equivalent, found.different, found.interval) == (None, None, None)
    assert not np.isfinite(found.difference)


@pytest.mark.parametrize("compare", [paired, independent])
def test_one_pair_says_nothing_of_other_seeds(compare):
    alone = compare([0.5], [0.4], 0.003)
    assert alone.difference == pytest.approx(0.1)
    assert (alone.equivalent, alone.different, alone.interval) == (None, None, None)
