"""Scores of whole arrays of predictions, in NumPy, as scikit-learn defines them.

``jaxnets.metrics`` measures batches within a compiled program; these functions take whole arrays.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxnets.arrays import InputError, check_choice, check_number, check_positive, describe


def confusion_matrix(labels: Any, predictions: Any, num_classes: int) -> np.ndarray:
    """Counts the examples by their class and the predicted class.

    Args:
        labels: classes, integers [N].
        predictions: the classes that are predicted, integers [N].
        num_classes: C.

    Returns:
        int64 [C, C], a row for each class and a column for each predicted one.

    Raises:
        InputError: if the arrays do not fit together, or hold what is no class.

    Examples:
        >>> confusion_matrix([0, 0, 1, 2], [0, 1, 1, 2], 3)
        array([[1, 1, 0],
               [0, 1, 0],
               [0, 0, 1]])
    """
    classes = check_positive("num_classes", num_classes)
    labels = _classes("labels", labels, classes)
    predictions = _classes("predictions", predictions, classes)
    _check_lengths(labels, predictions, "predictions")
    pairs = np.bincount(labels * classes + predictions, minlength=classes**2)
    return pairs.reshape(classes, classes)


class ClassScores(NamedTuple):
    """Precision, recall and F1 of each class.

    Attributes:
        precision: the share of the predictions of the class that are right, float64 [C].
        recall: the share of the examples of the class that are predicted as it, float64 [C].
        f1: the harmonic mean of the two, float64 [C].
        support: the number of examples of the class, int64 [C].
        predicted: the number of predictions of the class, int64 [C].
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    predicted: np.ndarray

    def average(self, kind: Literal["macro", "weighted"]) -> tuple[float, float, float]:
        """Precision, recall and F1 over the classes that occur in labels or predictions.

        Args:
            kind: ``"macro"`` counts each class alike, ``"weighted"`` each by its support.

        Raises:
            InputError: if the kind is another.
        """
        check_choice("kind", kind, ("macro", "weighted"))
        occurs = (self.support + self.predicted) > 0
        weights = occurs.astype(float) if kind == "macro" else self.support
        precision, recall, f1 = (
            float(np.average(np.where(weights > 0, values, 0), weights=weights))
            for values in (self.precision, self.recall, self.f1)
        )
        return precision, recall, f1


def precision_recall_f1(confusion: Any, *, zero_division: float = 0.0) -> ClassScores:
    """Precision, recall and F1 of each class.

    Args:
        confusion: counts [C, C], as ``confusion_matrix`` returns them.
        zero_division: in place of a ratio of nothing to nothing: a precision of a class that is
            never predicted, a recall of one that no example has, the F1 of a class that is neither.

    Returns:
        The scores; their ``average`` is that over the classes.

    Raises:
        InputError: if the counts are none.

    Examples:
        >>> scores = precision_recall_f1([[1, 1, 0], [0, 1, 0], [0, 0, 1]])
        >>> scores.precision, scores.recall
        (array([1. , 0.5, 1. ]), array([0.5, 1. , 1. ]))
    """
    counts = _array("confusion", confusion, "counts [C, C]")
    square = counts.ndim == 2 and counts.shape[0] == counts.shape[1] > 0
    if counts.dtype.kind not in "ui" or not square or counts.min() < 0 or not counts.any():
        raise InputError("confusion", "counts [C, C] of at least one example", describe(counts))
    zero = check_number("zero_division", zero_division, least=0, most=1)
    right, support, predicted = np.diag(counts), counts.sum(1), counts.sum(0)
    return ClassScores(
        _ratio(right, predicted, zero),
        _ratio(right, support, zero),
        _ratio(2 * right, support + predicted, zero),
        support,
        predicted,
    )


def _ratio(part: np.ndarray, whole: np.ndarray, zero: float) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), zero), where=whole > 0)


def top_k_accuracy(probabilities: Any, labels: Any, k: int) -> float:
    """The share of examples whose class is among the k likeliest, the first of equals first.

    Args:
        probabilities: or any scores, float [N, C].
        labels: classes, integers [N].
        k: from 1 to C.

    Raises:
        InputError: if an argument is bad.
    """
    values, labels = _scored(probabilities, labels)
    if check_positive("k", k) > values.shape[1]:
        raise InputError("k", f"at most {values.shape[1]}, the number of classes", k)
    own = np.take_along_axis(values, labels[:, None], 1)
    place = np.arange(values.shape[1])
    before = (values > own) | ((values == own) & (place < labels[:, None]))
    return float((before.sum(1) < k).mean())


def log_loss(probabilities: Any, labels: Any) -> float:
    """The mean of -log p of each example's class: the cross-entropy, in nats.

    Args:
        probabilities: float [N, C]; those below the smallest step of their dtype count as it.
        labels: classes, integers [N].

    Raises:
        InputError: if an argument is bad.
    """
    values, labels = _scored(probabilities, labels)
    own = np.take_along_axis(values, labels[:, None], 1)[:, 0]
    smallest = np.finfo(values.dtype).eps
    return float(-np.log(np.clip(own, smallest, 1 - smallest).astype(np.float64)).mean())


def brier_score(probabilities: Any, labels: Any) -> float:
    """The mean squared distance of the probabilities from 1 for the class, 0 for all others.

    Of two classes it is half of that, as scikit-learn and Brier have it: (p - y)² of the second.

    Args:
        probabilities: float [N, C].
        labels: classes, integers [N].

    Raises:
        InputError: if an argument is bad.
    """
    values, labels = _scored(probabilities, labels)
    wide = values.astype(np.float64)
    own = np.take_along_axis(wide, labels[:, None], 1)[:, 0]
    squares = (wide**2).sum(1) - own**2 + (1 - own) ** 2
    return float(squares.mean() / (2 if values.shape[1] == 2 else 1))


@dataclass(frozen=True)
class Calibration:
    """Whether predictions are right as often as they say.

    Attributes:
        edges: of the bins of confidence, float64 [bins + 1].
        count: predictions in each bin, int64 [bins].
        confidence: their mean confidence, float64 [bins]; NaN of an empty bin.
        accuracy: the share of them that is right, likewise.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def ece(self) -> float:
        """The expected calibration error: the mean of |accuracy - confidence| over predictions."""
        return self._average(np.abs(self.accuracy - self.confidence))

    @property
    def mean_confidence(self) -> float:
        """The mean over predictions; above the accuracy the network is overconfident."""
        return self._average(self.confidence)

    def _average(self, values: np.ndarray) -> float:
        known = self.count > 0
        return float(np.average(values[known], weights=self.count[known]))


def calibration(probabilities: Any, labels: Any, bins: int = 15) -> Calibration:
    """Compares the confidence of predictions with how often they are right.

    The confidence is the probability of the predicted class. Bins are equally wide; each holds its
    upper edge, as those of ``sklearn.calibration.calibration_curve``.

    Args:
        probabilities: float [N, C].
        labels: classes, integers [N].
        bins: their number.

    Returns:
        The bins. Their ``ece`` is the expected calibration error.

    Raises:
        InputError: if an argument is bad.

    Examples:
        >>> found = calibration(np.array([[0.9, 0.1], [0.7, 0.3]]), [0, 1], bins=2)
        >>> found.count, round(found.ece, 3)
        (array([0, 2]), 0.3)
    """
    values, labels = _scored(probabilities, labels)
    confidence = values.max(1).astype(np.float64)
    if confidence.max() > 1 + 1e-5 or values.min() < 0:
        got = f"{values.min():.3g} to {values.max():.3g}"
        raise InputError("probabilities", "probabilities from 0 to 1", got)
    right = values.argmax(1) == labels
    edges = np.linspace(0, 1, check_positive("bins", bins) + 1)
    place = np.searchsorted(edges[1:-1], confidence)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [
            np.bincount(place, weights=each, minlength=bins) / count for each in (confidence, right)
        ]
    return Calibration(edges, count, *means)


class RegressionScores(NamedTuple):
    """How far predictions are from the values, for each of D columns.

    Attributes:
        rmse: the root of the mean squared error, in the values' units, float64 [D].
        mae: the mean absolute error, likewise.
        r2: the share of the variance that is explained, at most 1, float64 [D].
    """

    rmse: np.ndarray
    mae: np.ndarray
    r2: np.ndarray


def regression_scores(predictions: Any, values: Any) -> RegressionScores:
    """Root mean squared error, mean absolute error and R² of each column.

    Of values that are all the same R² is 1 where they are predicted exactly, and else 0; of a
    single value it is NaN. This is ``r2_score(…, multioutput="raw_values")``.

    Args:
        predictions: numbers [N] or [N, …], where what follows N are the columns.
        values: the true ones, in the same shape.

    Raises:
        InputError: if the arrays are empty or differ in shape.
    """
    found, true = (
        _array(name, each, "numbers [N] or [N, …]")
        for name, each in (("predictions", predictions), ("values", values))
    )
    if true.dtype.kind not in "buif" or not true.size or not true.ndim:
        raise InputError("values", "numbers [N] or [N, …]", describe(true))
    if found.dtype.kind not in "buif" or found.shape != true.shape:
        expected = f"numbers {list(true.shape)}, as the values are"
        raise InputError("predictions", expected, describe(found))
    found, true = (each.reshape(len(each), -1).astype(np.float64) for each in (found, true))
    apart = found - true
    squares, spread = (apart**2).sum(0), ((true - true.mean(0)) ** 2).sum(0)
    known = np.where(spread > 0, spread, 1)
    r2 = np.where(spread > 0, 1 - squares / known, np.where(squares > 0, 0.0, 1.0))
    r2 = np.full_like(r2, np.nan) if len(true) < 2 else r2
    return RegressionScores(np.sqrt(squares / len(true)), np.abs(apart).mean(0), r2)


def places(scores: Any, chosen: Any) -> np.ndarray:
    """How many items of each example are scored at least as high as the chosen one.

    Args:
        scores: of each item for each example, floats [N, items].
        chosen: the number of the chosen item, integers [N].

    Returns:
        int64 [N]; 0 if the chosen item is the best one.

    Raises:
        InputError: if the arrays do not fit together, or a number is not an item.

    Examples:
        >>> places([[0.9, 0.2, 0.5], [0.1, 0.4, 0.1]], [2, 0])
        array([1, 2])
    """
    values = _array("scores", scores, "floats [N, items]")
    if values.ndim != 2 or values.dtype.kind != "f" or not values.size:
        raise InputError("scores", "floats [N, items]", describe(values))
    own = _classes("chosen", chosen, values.shape[1])
    _check_lengths(values, own, "chosen")
    best = np.take_along_axis(values, own[:, None], 1)
    return (~(best > values)).sum(1) - 1  # not the chosen one itself


def hit_rate(places: Any, k: int) -> float:
    """The share of examples whose chosen item is among the k best scored.

    Args:
        places: what ``places`` returns.
        k: from 1 on.

    Raises:
        InputError: if there is no example, or k is not a positive integer.
    """
    check_positive("k", k)
    return float((_checked_places(places) < k).mean())


def ndcg(places: Any, k: int) -> float:
    """The normalized discounted cumulative gain at k, if each example has one chosen item.

    This is scikit-learn's ``ndcg_score(chosen, scores, k=k)``, where ``chosen`` is 1 for the chosen
    item and 0 for the others: 1 / log₂(place + 2) for a place below k, else 0; the mean of these.

    Args:
        places: what ``places`` returns.
        k: from 1 on.

    Raises:
        InputError: see ``hit_rate``.
    """
    check_positive("k", k)
    found = _checked_places(places)
    return float(np.where(found < k, 1 / np.log2(found + 2.0), 0).mean())


def _checked_places(places: Any) -> np.ndarray:
    found = _array("places", places, "integers [N] from 0 on")
    if found.dtype.kind not in "ui" or found.ndim != 1 or not found.size or found.min() < 0:
        raise InputError("places", "integers [N] from 0 on", describe(found))
    return found


def _scored(probabilities: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """A score of each class for each example, and its class."""
    values = _array("probabilities", probabilities, "floats [N, C]")
    if values.ndim != 2 or values.dtype.kind != "f" or not values.size:
        raise InputError("probabilities", "floats [N, C]", describe(values))
    found = _classes("labels", labels, values.shape[1])
    _check_lengths(values, found, "labels")
    return values, found


def _classes(name: str, classes: Any, number: int) -> np.ndarray:
    expected = f"classes [N] from 0 to {number - 1}"
    found = _array(name, classes, expected)
    if found.ndim != 1 or found.dtype.kind not in "ui" or not found.size:
        raise InputError(name, expected, describe(found))
    if found.min() < 0 or found.max() >= number:
        raise InputError(name, expected, f"{found.min()} to {found.max()}")
    return found.astype(np.int64)


def _check_lengths(first: np.ndarray, second: np.ndarray, name: str) -> None:
    if len(first) != len(second):
        raise InputError(name, f"{len(first)} of them, one for each example", len(second))


def _array(name: str, value: Any, expected: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(name, expected, value) from error
