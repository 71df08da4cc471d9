"""Scores compared with those of scikit-learn 1.9.1 for the same predictions."""

import numpy as np
import pytest

from jaxnets import scores

LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 0])
SHARES = np.array(
    [
        [0.7, 0.2, 0.1, 0],
        [0.4, 0.5, 0.1, 0],
        [0.6, 0.1, 0.2, 0.1],
        [0.2, 0.6, 0.2, 0],
        [0.1, 0.3, 0.2, 0.4],
        [0, 0.1, 0.9, 0],
        [0.3, 0.3, 0.3, 0.1],
        [0.05, 0.15, 0.8, 0],
        [0.45, 0.1, 0.4, 0.05],
        [1, 0, 0, 0],
    ]
)
CONFUSION = [[3, 1, 0, 0], [0, 1, 0, 1], [2, 0, 2, 0], [0, 0, 0, 0]]


def test_the_confusion_matrix():
    found = scores.confusion_matrix(LABELS, SHARES.argmax(1), 4)
    assert found.tolist() == CONFUSION


@pytest.mark.parametrize(("zero_division", "recall", "macro"), [(0, 0.0, 0.4375), (1, 1.0, 0.6875)])
def test_each_class_and_their_averages(zero_division, recall, macro):
    found = scores.precision_recall_f1(CONFUSION, zero_division=zero_division)
    np.testing.assert_allclose(found.precision, [0.6, 0.5, 1, 0], rtol=1e-15)
    np.testing.assert_allclose(found.recall, [0.75, 0.5, 0.5, recall], rtol=1e-15)
    np.testing.assert_allclose(found.f1, [2 / 3, 0.5, 2 / 3, 0], rtol=1e-15)
    assert found.support.tolist() == [4, 2, 4, 0]
    assert found.average("macro") == pytest.approx((0.525, macro, 0.45833333333333326), rel=1e-14)
    assert found.average("weighted") == pytest.approx((0.74, 0.6, 0.6333333333333333), rel=1e-14)


def test_a_class_that_does_not_occur_is_in_no_average():
    found = scores.precision_recall_f1(scores.confusion_matrix([0, 0, 1], [0, 1, 1], 3))
    assert found.average("macro") == pytest.approx((0.75, 0.75, 2 / 3))


def test_scores_of_probabilities():
    assert scores.log_loss(SHARES, LABELS) == pytest.approx(0.5947357330842933, rel=1e-14)
    assert scores.brier_score(SHARES, LABELS) == pytest.approx(0.326, rel=1e-14)
    second = np.array([0.2, 0.7, 0.4])
    two = np.stack([1 - second, second], 1)
    assert scores.brier_score(two, [0, 1, 1]) == pytest.approx(0.16333333333333333, rel=1e-14)
    assert scores.log_loss(two, [0, 1, 1]) == pytest.approx(0.49870307570903244, rel=1e-14)


def test_the_first_of_equals_comes_first():
    assert [scores.top_k_accuracy(SHARES, LABELS, k) for k in (1, 2, 3, 4)] == [0.6, 0.9, 1, 1]


def test_calibration_counts_in_bins_that_hold_their_upper_edge():
    found = scores.calibration(SHARES, LABELS, bins=5)
    known = found.count > 0
    assert found.count.tolist() == [0, 2, 4, 2, 2]
    np.testing.assert_allclose(found.accuracy[known], [0, 0.5, 1, 1], atol=1e-15)
    np.testing.assert_allclose(found.confidence[known], [0.35, 0.5375, 0.75, 0.95], rtol=1e-14)
    assert np.isnan(found.accuracy[0])
    assert found.ece == pytest.approx((2 * 0.35 + 4 * 0.0375 + 2 * 0.25 + 2 * 0.05) / 10)


def test_regression_also_of_values_that_are_all_the_same():
    values = np.array([[1.0, 5, 2], [2, 5, 2], [4, 5, 2]])
    found = scores.regression_scores([[1.5, 5, 2], [1, 6, 2], [5, 4, 2]], values)
    np.testing.assert_allclose(found.rmse, [0.8660254037844386, 0.816496580927726, 0], rtol=1e-15)
    np.testing.assert_allclose(found.mae, [0.8333333333333334, 2 / 3, 0], rtol=1e-15)
    np.testing.assert_allclose(found.r2, [0.5178571428571428, 0, 1], rtol=1e-14)
    assert np.isnan(scores.regression_scores([1.0], [2.0]).r2[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scores.confusion_matrix([0, 3], [0, 1], 3), r"labels: .* 0 to 2, got 0 to 3"),
        (lambda: scores.confusion_matrix([0], [0, 1], 3), "predictions: expected length 1, "),
        (lambda: scores.precision_recall_f1(np.zeros((2, 2), int)), "confusion: expected counts"),
        (lambda: scores.precision_recall_f1(CONFUSION, zero_division=2), "zero_division: expected"),
        (lambda: scores.top_k_accuracy(SHARES, LABELS, 5), "k: expected at most 4, .* got 5"),
        (lambda: scores.log_loss(SHARES[0], LABELS), r"probabilities: expected floats \[N, C\]"),
        (lambda: scores.calibration(9 * SHARES, LABELS), "probabilities: .* got 0 to 9"),
        (lambda: scores.brier_score(SHARES, LABELS[:3]), "labels: expected length 10, .* got 3"),
        (lambda: scores.regression_scores([1.0, 2], [1.0]), r"predictions: expected numbers \[1\]"),
        (lambda: scores.regression_scores([1.0], ["a"]), "values: expected numbers"),
        (
            lambda: scores.precision_recall_f1(CONFUSION).average("micro"),
            "kind: expected one of macro, weighted, got micro",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
