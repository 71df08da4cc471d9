"""Scores of predictions in NumPy, with the definitions of scikit-learn.

These functions take the predictions for a whole data set. ``jaxnets.metrics`` has metrics that are
computed batch by batch within a compiled program.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxnets.arrays import InputError, check_choice, check_number, check_positive, describe


def confusion_matrix(labels: Any, predictions: Any, num_classes: int) -> np.ndarray:
    """Counts the examples by their class (row) and predicted class (column).

    Args:
        labels: classes, integers [N].
        predictions: predicted classes, integers [N].
        num_classes: the number of classes C.

    Returns:
        int64 [C, C].

    Raises:
        InputError: if the lengths differ, or a class is not an integer in [0, num_classes).

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
        precision: the fraction of the predictions of the class that are correct, float64 [C].
        recall: the fraction of the examples of the class that are predicted correctly, float64 [C].
        f1: the harmonic mean of precision and recall, float64 [C].
        support: the number of examples of the class, int64 [C].
        predicted: the number of predictions of the class, int64 [C].
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    predicted: np.ndarray

    def average(self, kind: Literal["macro", "weighted"]) -> tuple[float, float, float]:
        """Averages precision, recall and F1 over the classes that occur in labels or predictions.

        Args:
            kind: ``"macro"`` for equal weights, ``"weighted"`` to weight each class by its support.

        Returns:
            The average precision, recall and F1.

        Raises:
            InputError: if ``kind`` is neither.
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
    """Computes precision, recall and F1 of each class.

    Args:
        confusion: counts [C, C], as ``confusion_matrix`` returns them.
        zero_division: the value of 0 / 0, in [0, 1]: of the precision of a class without
            predictions, the recall of a class without examples, and the F1 of a class without both.

    Returns:
        The scores of each class; ``ClassScores.average`` averages them.

    Raises:
        InputError: if ``confusion`` is not a square matrix of counts with at least one example.

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
    """Computes the fraction of examples whose class is among the k with the highest scores.

    Of equal scores those of the smaller class come first.

    Args:
        probabilities: probabilities or other scores, float [N, C].
        labels: classes, integers [N].
        k: an integer from 1 to C.

    Raises:
        InputError: if an argument is invalid.
    """
    values, labels = _scored(probabilities, labels)
    if check_positive("k", k) > values.shape[1]:
        raise InputError("k", f"at most {values.shape[1]}, the number of classes", k)
    own = np.take_along_axis(values, labels[:, None], 1)
    place = np.arange(values.shape[1])
    before = (values > own) | ((values == own) & (place < labels[:, None]))
    return float((before.sum(1) < k).mean())


def log_loss(probabilities: Any, labels: Any) -> float:
    """Computes the cross-entropy in nats: the mean of -log p, p the probability of the true class.

    Args:
        probabilities: float [N, C], clipped to [ε, 1 - ε] with the machine epsilon ε of their
            dtype.
        labels: classes, integers [N].

    Raises:
        InputError: if an argument is invalid.
    """
    values, labels = _scored(probabilities, labels)
    own = np.take_along_axis(values, labels[:, None], 1)[:, 0]
    smallest = np.finfo(values.dtype).eps
    return float(-np.log(np.clip(own, smallest, 1 - smallest).astype(np.float64)).mean())


def brier_score(probabilities: Any, labels: Any) -> float:
    """Computes the Brier score: the mean over examples of Σ (p - y)², y the one-hot label.

    For two classes the sum is halved, as in scikit-learn, so that it is (p - y)² of the second
    class.

    Args:
        probabilities: float [N, C].
        labels: classes, integers [N].

    Raises:
        InputError: if an argument is invalid.
    """
    values, labels = _scored(probabilities, labels)
    wide = values.astype(np.float64)
    own = np.take_along_axis(wide, labels[:, None], 1)[:, 0]
    squares = (wide**2).sum(1) - own**2 + (1 - own) ** 2
    return float(squares.mean() / (2 if values.shape[1] == 2 else 1))


@dataclass(frozen=True)
class Calibration:
    """A calibration curve: confidence and accuracy of predictions in bins of confidence.

    Attributes:
        edges: the edges of the bins, float64 [bins + 1].
        count: the number of predictions in each bin, int64 [bins].
        confidence: the mean confidence in each bin, float64 [bins]; NaN for an empty bin.
        accuracy: the fraction of correct predictions in each bin, float64 [bins]; NaN for an empty
            bin.
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
        """The mean confidence over all predictions. Above the accuracy it means overconfidence."""
        return self._average(self.confidence)

    def _average(self, values: np.ndarray) -> float:
        known = self.count > 0
        return float(np.average(values[known], weights=self.count[known]))


def calibration(probabilities: Any, labels: Any, bins: int = 15) -> Calibration:
    """Computes a calibration curve: the accuracy of predictions by their confidence.

    The confidence is the probability of the predicted class. Bins are equally wide, and each
    includes its upper edge, as in ``sklearn.calibration.calibration_curve``.

    Args:
        probabilities: float [N, C].
        labels: classes, integers [N].
        bins: the number of bins.

    Returns:
        The curve; ``Calibration.ece`` is its expected calibration error.

    Raises:
        InputError: if an argument is invalid.

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
    """Errors of a regression, for each of D columns.

    Attributes:
        rmse: the root mean squared error, in the values' units, float64 [D].
        mae: the mean absolute error, in the values' units, float64 [D].
        r2: the coefficient of determination R², at most 1, float64 [D].
    """

    rmse: np.ndarray
    mae: np.ndarray
    r2: np.ndarray


def regression_scores(predictions: Any, values: Any) -> RegressionScores:
    """Computes root mean squared error, mean absolute error and R² of each column.

    R² is that of scikit-learn's ``r2_score(…, multioutput="raw_values")``. If all values of a
    column are equal, R² is 1 for exact predictions and 0 otherwise. R² of a single value is NaN.

    Args:
        predictions: numbers [N] or [N, …]; the axes after the first are flattened to columns.
        values: the true values, of the same shape.

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
        expected = f"numbers {list(true.shape)}, the shape of the values"
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


def frechet_distance(mean1: Any, cov1: Any, mean2: Any, cov2: Any) -> float:
    """The squared Fréchet distance of two normal distributions.

    It is |μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½). For the means and covariances of features that a
    classifier computes of images and of samples, it is the FID of Heusel et al. (arXiv:1706.08500);
    theirs are features of Inception.

    Args:
        mean1: μ₁, floats [D].
        cov1: Σ₁, symmetric and positive semidefinite, floats [D, D], such as
            ``np.cov(features, rowvar=False)``.
        mean2: μ₂, floats [D].
        cov2: Σ₂, floats [D, D].

    Raises:
        InputError: if the shapes do not fit together, or a value is not finite.

    Examples:
        >>> frechet_distance([0.0], [[1.0]], [3.0], [[4.0]])  # (0 - 3)² + (1 - 2)²
        10.0
    """
    first, second = (_array(f"mean{k}", mean, "floats [D]") for k, mean in ((1, mean1), (2, mean2)))
    size = first.size
    wide = []
    for name, value, shape in (
        ("mean1", first, (size,)),
        ("mean2", second, (size,)),
        ("cov1", cov1, (size, size)),
        ("cov2", cov2, (size, size)),
    ):
        expected = f"finite numbers {list(shape)}" if size else "numbers [D]"
        found = _array(name, value, expected)
        numbers = found.dtype.kind in "uif" and found.shape == shape and found.size
        if not numbers or not np.isfinite(found).all():
            raise InputError(name, expected, describe(found))
        wide.append(found.astype(np.float64))
    first, second, left, right = wide
    # The eigenvalues of Σ₁ Σ₂ are those of the symmetric Σ₁^½ Σ₂ Σ₁^½, which is easier to factor.
    values, vectors = np.linalg.eigh((left + left.T) / 2)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    product = np.linalg.eigvalsh(root @ ((right + right.T) / 2) @ root)
    common = 2 * np.sqrt(np.maximum(product, 0)).sum()
    return float(((first - second) ** 2).sum() + np.trace(left) + np.trace(right) - common)


def _checked_places(places: Any) -> np.ndarray:
    found = _array("places", places, "integers [N] from 0 on")
    if found.dtype.kind not in "ui" or found.ndim != 1 or not found.size or found.min() < 0:
        raise InputError("places", "integers [N] from 0 on", describe(found))
    return found


def clustering_accuracy(labels: Any, clusters: Any) -> float:
    """Computes the fraction of examples in the right cluster, if each cluster stands for a class.

    The classes of the clusters are chosen so that the fraction is the largest possible, with no
    class for two clusters (Kuhn and Munkres). Examples in clusters beyond the number of classes
    count as wrong.

    Args:
        labels: classes, integers [N].
        clusters: the number of each example's cluster, integers [N].

    Raises:
        InputError: if the lengths differ, or the values are not integers [N].

    Examples:
        >>> clustering_accuracy([0, 0, 1, 1, 2], [7, 7, 4, 4, 4])
        0.8
    """
    from scipy.optimize import linear_sum_assignment

    table = _contingency(labels, clusters)
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / table.sum())


def adjusted_rand_score(labels: Any, clusters: Any) -> float:
    """Computes the adjusted Rand index: agreement on pairs of examples, corrected for chance.

    A pair of examples agrees if it is in one class and one cluster, or in two classes and two
    clusters. The index is (R - E) / (max - E), where E is the expectation of R for random
    clusters of the same sizes: 1 for equal partitions, about 0 for random ones (Hubert and
    Arabie, 1985).

    Args:
        labels: see ``clustering_accuracy``.
        clusters: see ``clustering_accuracy``.

    Raises:
        InputError: see ``clustering_accuracy``.

    scikit-learn: ``adjusted_rand_score(labels, clusters)``.

    Examples:
        >>> round(adjusted_rand_score([0, 0, 1, 1], [0, 0, 1, 2]), 4)
        0.5714
    """
    table = _contingency(labels, clusters)
    total = int(table.sum()) ** 2  # Python's integers, as the products exceed 64 bits
    both, rows, columns = (
        sum(count**2 for count in counts.ravel().tolist())
        for counts in (table, table.sum(axis=1), table.sum(axis=0))
    )
    together = both - int(table.sum())
    only_class, only_cluster, apart = rows - both, columns - both, total - rows - columns + both
    if not only_class and not only_cluster:
        return 1.0
    excess = 2 * (together * apart - only_class * only_cluster)
    chance = (together + only_class) * (only_class + apart)
    return excess / (chance + (together + only_cluster) * (only_cluster + apart))


def normalized_mutual_info_score(labels: Any, clusters: Any) -> float:
    """Computes the mutual information of labels and clusters, divided by their mean entropy.

    NMI = I(L; C) / ((H(L) + H(C)) / 2), from 0 for independent partitions to 1 for equal ones.

    Args:
        labels: see ``clustering_accuracy``.
        clusters: see ``clustering_accuracy``.

    Raises:
        InputError: see ``clustering_accuracy``.

    scikit-learn: ``normalized_mutual_info_score(labels, clusters)``.

    Examples:
        >>> round(normalized_mutual_info_score([0, 0, 1, 1], [0, 0, 1, 2]), 4)
        0.8
    """
    table = _contingency(labels, clusters)
    shares = table / table.sum()
    of_class, of_cluster = shares.sum(axis=1), shares.sum(axis=0)
    if table.shape == (1, 1):
        return 1.0
    if 1 in table.shape:
        return 0.0
    found = shares > 0
    independent = np.outer(of_class, of_cluster)[found]
    information = np.sum(shares[found] * np.log(shares[found] / independent))
    entropies = [-np.sum(each * np.log(each)) for each in (of_class, of_cluster)]
    if information <= np.finfo(np.float64).eps:
        return 0.0
    return float(information / np.mean(entropies))


def _contingency(labels: Any, clusters: Any) -> np.ndarray:
    """Counts the examples by class (row) and cluster (column) that occur, int64."""
    rows, columns = _numbers("labels", labels), _numbers("clusters", clusters)
    _check_lengths(rows, columns, "clusters")
    (kinds, row), (groups, column) = (
        np.unique(each, return_inverse=True) for each in (rows, columns)
    )
    counts = np.bincount(row * len(groups) + column, minlength=len(kinds) * len(groups))
    return counts.reshape(len(kinds), len(groups))


def _numbers(name: str, value: Any) -> np.ndarray:
    found = _array(name, value, "integers [N]")
    if found.ndim != 1 or found.dtype.kind not in "ui" or not found.size:
        raise InputError(name, "integers [N]", describe(found))
    return found


def _scored(probabilities: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Checks scores [N, C] and labels [N], and returns them as arrays."""
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
        raise InputError(name, f"length {len(first)}, the number of examples", len(second))


def _array(name: str, value: Any, expected: str) -> np.ndarray:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(name, expected, value) from error
