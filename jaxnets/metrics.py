"""Metrics of outputs: sums and counts that are added over batches and divided at the end."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    as_array,
    check_integer,
    check_number,
    check_positive,
    describe,
)


class Metric(Protocol):
    """The contribution of one batch to a metric: a pytree of arrays with a method to combine them.

    A training step returns one contribution for each metric name. Instead of a ``Metric``, the step
    may return a number, which means ``Mean``, or a pair (total, count), which means ``Ratio``. If a
    batch is processed in parts, the arrays of the parts are added up. A metric that cannot be added
    up has a method ``combined``, which is called with arrays [parts, …] and returns one metric.
    """

    def over(self) -> Any:
        """Computes the metric over all batches.

        When this method is called, the arrays are NumPy arrays with a leading axis of batches,
        [batches, …].

        Returns:
            A float, or an array for a metric with several numbers.
        """


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mean:
    """A mean over the examples of a batch.

    Attributes:
        value: the mean over the batch, of any shape.
        count: the number of examples in the batch.
    """

    value: Any
    count: Any

    def over(self) -> Any:
        """Computes the mean over the examples of all batches."""
        return _number(_average(self.value, self.count))

    def combined(self) -> "Mean":
        """Combines the means of several parts of a batch, arrays [parts, …], to one mean."""
        value, count = jnp.asarray(self.value), jnp.asarray(self.count)
        shares = (count / count.sum()).astype(value.dtype)
        return Mean((value * _alongside(shares, value)).sum(axis=0), count.sum())


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ratio:
    """A ratio of two sums over a batch.

    Attributes:
        total: the numerator, of any shape.
        count: the denominator, a scalar or of the numerator's shape.
    """

    total: Any
    count: Any

    def over(self) -> Any:
        """Computes the ratio of the sums over all batches; NaN where the count is 0."""
        total, count = (_sum(part) for part in (self.total, self.count))
        with np.errstate(divide="ignore", invalid="ignore"):
            return _number(np.asarray(total / count))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FromSums:
    """A function of sums over all batches, such as a precision.

    Attributes:
        sums: the sums over the batch, arrays of any shape.
        function: computes the metric from the sums over all batches, which are NumPy arrays. It is
            a static field, so a function at module level avoids a new compilation for each call.
    """

    sums: tuple[Any, ...]
    function: Callable[..., Any] = dataclasses.field(metadata={"static": True})

    def over(self) -> Any:
        """Applies the function to the sums over all batches."""
        with np.errstate(all="ignore"):
            return _number(np.asarray(self.function(*map(_sum, self.sums))))


def _alongside(weights: Any, values: Any) -> Any:
    """Reshapes weights [batches] to broadcast with values [batches, …]."""
    return weights.reshape(-1, *(1,) * (values.ndim - 1))


def _sum(array: Any) -> Any:
    array = np.asarray(array)
    wide = np.int64 if array.dtype.kind in "biu" else np.float64
    return array.sum(axis=0, dtype=wide)


def _average(values: Any, weights: Any) -> np.ndarray:
    values, weights = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    if not weights.sum():
        return np.full(values.shape[1:], np.nan)
    return np.average(values, axis=0, weights=weights)


def _number(array: Any) -> Any:
    return array if np.ndim(array) else float(array)


def correct(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    where: ArrayLike | None = None,
    threshold: float = 0.5,
) -> jax.Array:
    """Counts the examples that are classified correctly.

    With several outputs, the predicted class is that of the largest output, the first of equal
    ones. Labels that are probabilities, as mixing augmentations make them, are converted to classes
    in the same way. With a single output, such as a sigmoid, the predicted class is 1 if the output
    is at least ``threshold``, and 0 otherwise.

    Args:
        outputs: scores [B, ..., C]; or probabilities of class 1, [B, ..., 1] or [B].
        labels: classes [B, ...], or probabilities in the outputs' shape. For a single output,
            labels 0 and 1 of any dtype, [B, ...] or in the outputs' shape.
        where: [B, ...], False for examples to leave out, such as padding. Trailing axes of the
            labels may be missing.
        threshold: the threshold for a single output.

    Returns:
        An int32 scalar.

    Raises:
        InputError: if the shapes do not match.

    PyTorch: ``(outputs.max(1).indices == labels).sum()``.

    Examples:
        >>> print(correct(jnp.array([[0.9, 0.1], [0.2, 0.8]]), jnp.array([0, 0])))
        1
    """
    return _count(_right(outputs, labels, threshold), where)


def _right(outputs: ArrayLike, labels: ArrayLike, threshold: float = 0.5) -> jax.Array:
    """Returns which examples are classified correctly, bool [B, ...]."""
    outputs, labels = as_array("outputs", outputs), as_array("labels", labels)
    threshold = check_number("threshold", threshold, finite=False)
    if _is_single(outputs, labels):
        return (outputs.reshape(labels.shape) >= threshold).astype(labels.dtype) == labels
    labels = _class_labels(outputs, _most_likely(outputs, labels))
    return jnp.argmax(outputs, axis=-1).astype(labels.dtype) == labels


def correct_logits(
    outputs: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """Counts the examples that are classified correctly by logits.

    With a single output, the predicted class is 1 if the logit is at least 0, where the sigmoid is
    0.5. Otherwise like ``correct``.

    Args:
        outputs: logits [B, ..., C]; or logits of class 1, [B, ..., 1] or [B].
        labels: see ``correct``.
        where: see ``correct``.

    Returns:
        An int32 scalar.

    Raises:
        InputError: if the shapes do not match.
    """
    return correct(outputs, labels, where=where, threshold=0.0)


def top_k_correct(
    outputs: ArrayLike, labels: ArrayLike, k: int, *, where: ArrayLike | None = None
) -> jax.Array:
    """Counts the examples whose label is among the classes of the k largest outputs.

    Of equal outputs those with the smaller index come first.

    Args:
        outputs: scores [B, ..., C].
        labels: classes [B, ...].
        k: an integer from 1 to C.
        where: see ``correct``.

    Returns:
        An int32 scalar.

    Raises:
        InputError: if the shapes do not match, or k is out of range.
    """
    outputs = as_array("outputs", outputs)
    labels = _class_labels(outputs, labels)
    k = check_integer("k", k, least=1, most=outputs.shape[-1])
    _, classes = jax.lax.top_k(outputs, k)
    right = jnp.any(classes.astype(labels.dtype) == labels[..., None], axis=-1)
    return _count(right, where)


def accuracy(outputs: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    """Computes the fraction of examples that are classified correctly.

    Args:
        outputs: see ``correct``.
        labels: see ``correct``.
        where: see ``correct``.

    Returns:
        A float32 scalar from 0 to 1; NaN if there are no examples.

    Raises:
        InputError: if the shapes do not match.
    """
    right = _right(outputs, labels)
    number = _count(jnp.ones_like(right), where)
    return _count(right, where).astype(jnp.float32) / number.astype(jnp.float32)


def confusion_matrix(
    outputs: ArrayLike, labels: ArrayLike, num_classes: int, *, where: ArrayLike | None = None
) -> jax.Array:
    """Counts the examples by their class (row) and predicted class (column).

    Args:
        outputs: scores [B, ..., C], or predicted classes, integers [B, ...].
        labels: classes [B, ...].
        num_classes: the number of classes. Labels and predictions outside of [0, num_classes) are
            not counted.
        where: see ``correct``.

    Returns:
        int32 [num_classes, num_classes].

    Raises:
        InputError: if the shapes do not match, or num_classes is not a positive integer.
    """
    num_classes = check_positive("num_classes", num_classes)
    predicted = outputs = as_array("outputs", outputs)
    if jnp.issubdtype(outputs.dtype, jnp.floating):
        labels, predicted = _class_labels(outputs, labels), jnp.argmax(outputs, axis=-1)
    elif outputs.shape == jnp.shape(labels):
        labels, predicted = _integers("labels", labels), _integers("outputs", outputs)
    else:
        expected = f"scores, or classes of the labels' shape {jnp.shape(labels)}"
        raise InputError("outputs", expected, describe(outputs))
    rows, columns = (
        jax.nn.one_hot(classes.reshape(-1), num_classes, dtype=jnp.int32)
        for classes in (labels, predicted)
    )
    rows = jnp.where(_mask(labels.shape, where).reshape(-1, 1), rows, 0)
    return rows.T @ columns


def _class_labels(outputs: jax.Array, labels: ArrayLike) -> jax.Array:
    """Checks that labels are classes [B, ...] for scores [B, ..., C], and returns them."""
    labels = _integers("labels", labels)
    if outputs.ndim == 0 or outputs.shape[:-1] != labels.shape or outputs.shape[-1] == 0:
        expected = f"scores [..., C] for labels of shape {labels.shape}"
        raise InputError("outputs", expected, describe(outputs))
    return labels


def _integers(name: str, classes: ArrayLike) -> jax.Array:
    classes = as_array(name, classes)
    if not jnp.issubdtype(classes.dtype, jnp.integer):
        raise InputError(name, "integers", describe(classes))
    # Small dtypes could overflow when labels are compared with class indices.
    return classes if classes.dtype.itemsize == 8 else classes.astype(jnp.int32)


def _mask(shape: tuple[int, ...], where: ArrayLike | None) -> jax.Array:
    if where is None:
        return jnp.ones(shape, bool)
    where = as_array("where", where)
    if where.dtype != bool or where.shape != shape[: where.ndim]:
        raise InputError("where", f"booleans for labels of shape {shape}", describe(where))
    missing = shape[where.ndim :]
    return jnp.broadcast_to(where.reshape(where.shape + (1,) * len(missing)), shape)


def _count(right: jax.Array, where: ArrayLike | None) -> jax.Array:
    return jnp.sum(right & _mask(right.shape, where), dtype=jnp.int32)


@dataclasses.dataclass(frozen=True)
class _Measure:
    """A metric function of (outputs, labels) with its settings.

    Functions with equal settings compare equal, so that jit does not compile them again.
    """

    function: Callable[..., Metric]
    settings: tuple[tuple[str, Any], ...]

    def __call__(self, outputs: ArrayLike, labels: ArrayLike) -> Metric:
        """Computes the contribution of one batch to the metric."""
        return self.function(outputs, labels, **dict(self.settings))

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings)
        return f"{self.function.__name__.lstrip('_')}({settings})"


def _measure(function: Callable[..., Metric], **settings: Any) -> _Measure:
    if "num_classes" in settings and settings["num_classes"] is not None:
        settings["num_classes"] = check_positive("num_classes", settings["num_classes"])
    if "threshold" in settings and settings["threshold"] is not None:
        settings["threshold"] = check_number("threshold", settings["threshold"])
    if "ignore_index" in settings:
        settings["ignore_index"] = check_integer("ignore_index", settings["ignore_index"])
    return _Measure(function, tuple(settings.items()))


#: A metric function for ``fit``, ``supervised`` and ``evaluate``: (outputs, labels) → ``Metric``.
Measure = Callable[[Any, Any], Metric]


def top_k(k: int, *, ignore_index: int = -100) -> Measure:
    """Returns a metric function for the top-k accuracy.

    The top-k accuracy is the fraction of examples whose label is among the k largest outputs.

    Args:
        k: an integer from 1 to the number of classes.
        ignore_index: a label that is not counted.

    Returns:
        A function of outputs, scores [B, ..., C], and labels, classes [B, ...] or probabilities
        [B, ..., C], of which the largest is the class.

    Raises:
        InputError: if an argument is invalid; when the function is called, if the shapes do not
            match.

    Examples:
        >>> measure = top_k(2)
        >>> measure(jnp.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1]]), jnp.array([1, 2])).total
        Array(1, dtype=int32)
        >>> measure == top_k(2)
        True
    """
    return _measure(_top_k, k=check_positive("k", k), ignore_index=ignore_index)


def _top_k(outputs: ArrayLike, labels: ArrayLike, k: int, ignore_index: int) -> Metric:
    outputs = as_array("outputs", outputs)
    labels = _class_labels(outputs, _most_likely(outputs, labels))
    where = labels != ignore_index
    return Ratio(top_k_correct(outputs, labels, k, where=where), jnp.sum(where, dtype=jnp.int32))


def per_class_accuracy(
    num_classes: int, *, threshold: float | None = None, ignore_index: int = -100
) -> Measure:
    """Returns a metric function for the accuracy of each class, which is its recall.

    Args:
        num_classes: the number of classes.
        threshold: see ``precision``.
        ignore_index: a label that is not counted.

    Returns:
        A metric function, as ``precision`` returns. The metric is an array [num_classes], NaN for a
        class without examples.

    Raises:
        InputError: see ``precision``.
    """
    return _measure(
        _per_class_accuracy,
        num_classes=check_positive("num_classes", num_classes),
        threshold=threshold,
        ignore_index=ignore_index,
    )


def _per_class_accuracy(outputs: ArrayLike, labels: ArrayLike, **settings: Any) -> Metric:
    right, _, labelled = _counts_by_class(outputs, labels, **settings)
    return Ratio(right, labelled)


def confusion(
    num_classes: int, *, threshold: float | None = None, ignore_index: int = -100
) -> Measure:
    """Returns a metric function for the confusion matrix.

    Args:
        num_classes: the number of classes.
        threshold: see ``precision``.
        ignore_index: a label that is not counted.

    Returns:
        A metric function, as ``precision`` returns. The metric is an array
        [num_classes, num_classes]: the number of examples by class (row) and predicted class
        (column).

    Raises:
        InputError: see ``precision``.
    """
    return _measure(
        _confusion,
        num_classes=check_positive("num_classes", num_classes),
        threshold=threshold,
        ignore_index=ignore_index,
    )


def _confusion(outputs: ArrayLike, labels: ArrayLike, num_classes: int, **settings: Any) -> Metric:
    decided = _decided(outputs, labels, num_classes, **settings)
    counts = confusion_matrix(decided.predicted, decided.labels, num_classes, where=decided.where)
    return FromSums((counts,), _itself)


def _itself(counts: np.ndarray) -> np.ndarray:
    return counts


def precision(
    num_classes: int | None = None, *, threshold: float | None = None, ignore_index: int = -100
) -> Measure:
    """Returns a metric function for the precision.

    The precision of a class is the fraction of its predictions that are correct, or 0 without
    predictions.

    Args:
        num_classes: None for binary classification, where the metric is the precision of class 1.
            For a number of classes, the metric is the mean precision over the classes that occur
            among the labels or the predictions.
        threshold: the smallest output that predicts class 1, for a single output: 0.0 for logits,
            0.5 for probabilities. With several outputs the predicted class is that of the largest,
            and ``threshold`` is not used.
        ignore_index: a label that is not counted.

    Returns:
        A function of outputs and labels. Outputs are scores [B, ..., C], or [B] or [B, ..., 1] for
        a single output. Labels are classes [B, ...], or probabilities [B, ..., C], of which the
        largest is the class.

    Raises:
        InputError: if an argument is invalid; when the function is called, if the shapes do not
            match, the number of classes differs, or a single output has no threshold.

    scikit-learn: ``precision_score(labels, predictions, zero_division=0)``, with
    ``average="macro"`` for several classes.
    """
    return _score(_precision, num_classes, threshold, ignore_index)


def recall(
    num_classes: int | None = None, *, threshold: float | None = None, ignore_index: int = -100
) -> Measure:
    """Returns a metric function for the recall.

    The recall of a class is the fraction of its examples that are classified correctly, or 0
    without examples.

    Args:
        num_classes: see ``precision``.
        threshold: see ``precision``.
        ignore_index: a label that is not counted.

    Returns:
        A metric function, as ``precision`` returns.

    Raises:
        InputError: see ``precision``.

    scikit-learn: ``recall_score``, with the arguments given in ``precision``.
    """
    return _score(_recall, num_classes, threshold, ignore_index)


def f1(
    num_classes: int | None = None, *, threshold: float | None = None, ignore_index: int = -100
) -> Measure:
    """Returns a metric function for the F1 score.

    The F1 score of a class is the harmonic mean of its precision and recall, or 0 if both are 0.

    Args:
        num_classes: see ``precision``.
        threshold: see ``precision``.
        ignore_index: a label that is not counted.

    Returns:
        A metric function, as ``precision`` returns.

    Raises:
        InputError: see ``precision``.

    scikit-learn: ``f1_score``, with the arguments given in ``precision``.
    """
    return _score(_f1, num_classes, threshold, ignore_index)


def _score(
    function: Callable[..., Metric],
    num_classes: int | None,
    threshold: float | None,
    ignore_index: int,
) -> Measure:
    return _measure(
        function, num_classes=num_classes, threshold=threshold, ignore_index=ignore_index
    )


def _precision(outputs: ArrayLike, labels: ArrayLike, **settings: Any) -> Metric:
    return FromSums(_counts_by_class(outputs, labels, **settings), _precision_of)


def _recall(outputs: ArrayLike, labels: ArrayLike, **settings: Any) -> Metric:
    return FromSums(_counts_by_class(outputs, labels, **settings), _recall_of)


def _f1(outputs: ArrayLike, labels: ArrayLike, **settings: Any) -> Metric:
    return FromSums(_counts_by_class(outputs, labels, **settings), _f1_of)


def _precision_of(right: Any, predicted: Any, labelled: Any) -> Any:
    return _macro(right, predicted, predicted + labelled)


def _recall_of(right: Any, predicted: Any, labelled: Any) -> Any:
    return _macro(right, labelled, predicted + labelled)


def _f1_of(right: Any, predicted: Any, labelled: Any) -> Any:
    return _macro(2 * right, predicted + labelled, predicted + labelled)


def _macro(part: np.ndarray, whole: np.ndarray, occurring: np.ndarray) -> np.ndarray:
    """Computes part / whole, or 0 for whole 0; of several classes the mean over occurring ones."""
    ratios = np.where(whole == 0, 0.0, part / np.maximum(whole, 1))
    if not ratios.ndim:
        return ratios
    return np.asarray(ratios[occurring > 0].mean() if occurring.any() else 0.0)


class _Decided(NamedTuple):
    """Predicted and true classes of examples.

    Attributes:
        predicted: the predicted classes, int32 [B, ...].
        labels: the true classes, integers [B, ...].
        where: False for examples whose label is ignored, bool [B, ...].
    """

    predicted: jax.Array
    labels: jax.Array
    where: jax.Array


def _decided(
    outputs: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    threshold: float | None,
    ignore_index: int,
) -> _Decided:
    outputs, labels = as_array("outputs", outputs), as_array("labels", labels)
    if _is_single(outputs, labels):
        if threshold is None:
            expected = "0.0 for logits or 0.5 for probabilities, for a single output"
            raise InputError("threshold", expected, threshold)
        scores = outputs.reshape(labels.shape)
        classes, predicted = 2, (scores >= threshold).astype(jnp.int32)
        labels = labels.astype(jnp.int32)
    else:
        labels = _class_labels(outputs, _most_likely(outputs, labels))
        classes, predicted = outputs.shape[-1], jnp.argmax(outputs, axis=-1).astype(jnp.int32)
    if classes != num_classes:
        given = None if num_classes == 2 else num_classes
        raise InputError("num_classes", f"{classes}, the number of classes of the model", given)
    return _Decided(predicted, labels, labels != ignore_index)


def _counts_by_class(
    outputs: ArrayLike, labels: ArrayLike, num_classes: int | None, **settings: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Counts correct predictions, predictions and labels of each class, int32 [num_classes].

    If ``num_classes`` is None, the counts are scalars for class 1 of two classes.
    """
    predicted, labels, where = _decided(outputs, labels, num_classes or 2, **settings)
    right = where & (predicted == labels)
    classes = jnp.arange(num_classes or 2)[None]

    def count(found: jax.Array, among: jax.Array) -> jax.Array:
        of_class = (found.reshape(-1, 1) == classes) & among.reshape(-1, 1)
        counts = jnp.sum(of_class, axis=0, dtype=jnp.int32)
        return counts if num_classes else counts[1]

    return count(labels, right), count(predicted, where), count(labels, where)


def _is_single(outputs: jax.Array, labels: jax.Array) -> bool:
    """Whether the outputs are one score for two classes, judging by the shapes."""
    same = outputs.shape == labels.shape and (outputs.ndim == 1 or outputs.shape[-1:] == (1,))
    return same or outputs.shape == (*labels.shape, 1)


def _most_likely(outputs: jax.Array, labels: ArrayLike) -> jax.Array:
    """Converts labels that are probabilities in the outputs' shape to the most likely class."""
    labels = as_array("labels", labels)
    probabilities = jnp.issubdtype(labels.dtype, jnp.floating)
    if probabilities and labels.shape == outputs.shape and outputs.ndim:
        return jnp.argmax(labels, axis=-1)
    return labels


def perplexity(*, ignore_index: int = -100) -> Measure:
    """Returns a metric function for the perplexity, exp(mean cross-entropy over all labels).

    Args:
        ignore_index: a label that is not counted.

    Returns:
        A function of outputs, logits [B, ..., C], and labels, classes [B, ...] or probabilities
        [B, ..., C].

    Raises:
        InputError: if an argument is invalid; when the function is called, if the shapes do not
            match.
    """
    return _measure(_perplexity, ignore_index=ignore_index)


def _perplexity(outputs: ArrayLike, labels: ArrayLike, ignore_index: int) -> Metric:
    outputs, labels = as_array("outputs", outputs), as_array("labels", labels)
    logs = jax.nn.log_softmax(outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32)))
    if jnp.issubdtype(labels.dtype, jnp.floating) and labels.shape == outputs.shape:
        total, count = -jnp.sum(labels * logs), jnp.int32(labels.size // labels.shape[-1])
        return FromSums((total, count), _exponential_of_mean)
    labels = _class_labels(outputs, labels)
    where = labels != ignore_index
    chosen = jax.nn.one_hot(labels, outputs.shape[-1], dtype=bool)
    # an invalid label selects no output, so its entropy is NaN, as in the loss
    entropies = jnp.where(chosen.any(-1), -jnp.sum(jnp.where(chosen, logs, 0), -1), jnp.nan)
    total = jnp.sum(jnp.where(where, entropies, 0))
    return FromSums((total, jnp.sum(where, dtype=jnp.int32)), _exponential_of_mean)


def _exponential_of_mean(total: Any, count: Any) -> Any:
    return np.exp(total / count)


def mean_absolute_error() -> Measure:
    """Returns a metric function for the mean absolute error |output - label| over all elements.

    Returns:
        A function of outputs [B, ...] and labels of the same shape, or [B] for outputs [B, 1].

    Raises:
        InputError: when the function is called, if the shapes differ.

    scikit-learn: ``mean_absolute_error(labels, outputs)``.
    """
    return _measure(_mean_absolute_error)


def _mean_absolute_error(outputs: ArrayLike, labels: ArrayLike) -> Metric:
    outputs, labels = _values(outputs, labels)
    return Ratio(jnp.sum(jnp.abs(outputs - labels)), jnp.int32(labels.size))


def r_squared() -> Measure:
    """Returns a metric function for R², the coefficient of determination.

    R² = 1 - Σ(y - ŷ)² / Σ(y - mean of y)² over all examples. For several outputs the metric is the
    mean over the outputs. If all labels are equal, R² is 1 for outputs that equal them and 0
    otherwise. R² of fewer than two examples is NaN.

    Returns:
        A function of outputs ŷ [B, ...] and labels y of the same shape, or [B] for outputs [B, 1].

    Raises:
        InputError: when the function is called, if the shapes differ.

    scikit-learn: ``r2_score(labels, outputs)``.
    """
    return _measure(_r_squared)


def _r_squared(outputs: ArrayLike, labels: ArrayLike) -> Metric:
    outputs, labels = (x.reshape(len(x), -1) for x in _values(outputs, labels))
    mean = labels.mean(axis=0, keepdims=True)
    squares = (jnp.sum(jnp.square(x), axis=0) for x in (labels - mean, outputs - labels))
    return _Determination(jnp.int32(len(labels)), mean[0], *squares)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Determination:
    """The sums of a batch from which ``r_squared`` is computed.

    Sums of squares about the mean of the batch lose less precision in float32 than sums of
    squares about 0.

    Attributes:
        count: the number of examples.
        mean: the mean of the labels, [outputs].
        spread: the sum of squared differences of the labels from their mean, [outputs].
        residual: the sum of squared errors, [outputs].
    """

    count: Any
    mean: Any
    spread: Any
    residual: Any

    def combined(self) -> "_Determination":
        """Combines the sums of several batches, arrays [batches, …], to those of all examples."""
        weights = _alongside(self.count.astype(self.mean.dtype), self.mean)
        total = self.count.sum()
        mean = (weights * self.mean).sum(axis=0) / weights.sum().clip(1)
        between = (weights * (self.mean - mean[None]) ** 2).sum(axis=0)
        spread = self.spread.sum(axis=0) + between
        return _Determination(total, mean, spread, self.residual.sum(axis=0))

    def over(self) -> float:
        """Computes R² over all batches, the mean over the outputs."""
        whole = jax.tree.map(np.float64, self).combined()
        if whole.count < 2:
            return float("nan")
        alike = np.where(whole.residual == 0, 1.0, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            each = np.where(whole.spread == 0, alike, 1 - whole.residual / whole.spread)
        return float(each.mean())


def _values(outputs: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Converts outputs and labels to the same shape, in float32 or wider."""
    outputs, labels = as_array("outputs", outputs), as_array("labels", labels)
    if outputs.shape == (*labels.shape, 1):
        labels = labels[..., None]
    if not outputs.ndim or outputs.shape != labels.shape:
        raise InputError("labels", f"the outputs' shape {outputs.shape}", describe(labels))
    wide = jnp.promote_types(jnp.result_type(outputs, labels), jnp.float32)
    return outputs.astype(wide), labels.astype(wide)


def sequence_error_rate() -> Measure:
    """Returns a metric function for the error rate of sequences that are decoded from CTC outputs.

    It is the edit distance to the true sequences divided by their length: the word error rate if
    the classes are words, the character error rate if they are characters. Outputs are decoded
    greedily, as by ``jaxnets.sampling.ctc_greedy``.

    Returns:
        A function of (outputs, labels). Outputs are logits [batch, time, classes + 1], whose last
        class is CTC's blank, and their lengths [batch]; labels are class numbers [batch, longest],
        padded with -1.

    Examples:
        >>> logits = jnp.log(jnp.array([[[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]]]))
        >>> measure = sequence_error_rate()
        >>> measure((logits, jnp.array([3])), jnp.array([[0, 1]]))  # 0 0 in place of 0 1
        Ratio(total=Array(1, dtype=int32), count=Array(2, dtype=int32))
    """
    return _measure(_sequence_error_rate)


def _sequence_error_rate(outputs: Any, labels: ArrayLike) -> Metric:
    logits, lengths = outputs
    labels = _integers("labels", labels)
    distance = functools.partial(_edit_distance, logits.shape[-1] - 1)
    distances = jax.vmap(distance)(jnp.argmax(logits, -1), lengths, labels)
    count = jnp.sum(labels >= 0, dtype=jnp.int32)
    return Ratio(jnp.sum(distances, dtype=jnp.int32), count)


def _edit_distance(blank: int, path: jax.Array, length: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the edit distance of a path of classes and blanks [time] to labels [longest]."""
    places = jnp.arange(len(labels) + 1, dtype=jnp.int32)

    def step(row: jax.Array, frame: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        # row[j] is the distance of the sequence decoded so far to the first j labels
        symbol, emitted = frame
        wrong = (labels != symbol).astype(jnp.int32)
        best = jnp.minimum(row + 1, jnp.append(row[0] + 1, row[:-1] + wrong))
        inserted = jax.lax.cummin(best - places) + places
        return jnp.where(emitted, inserted, row), None

    before = jnp.append(blank, path[:-1])
    emitted = (path != blank) & (path != before) & (jnp.arange(len(path)) < length)
    row, _ = jax.lax.scan(step, places, (path, emitted))
    return row[jnp.sum(labels >= 0)]


def hit_rate(k: int, candidates: int) -> Measure:
    """Returns a metric function for the hit rate at k of a recommender.

    It is the fraction of test examples whose chosen item is among the k items with the highest
    scores. An example consists of the scores of ``candidates`` consecutive items, one of which the
    user chose. Items with the same score as the chosen one count as better.

    Args:
        k: the number of items, a positive integer.
        candidates: the number of items in an example.

    Returns:
        A function of outputs, scores [B · candidates], and labels of that shape, 1 for the chosen
        item of each example and 0 for the others.

    Raises:
        InputError: if an argument is not a positive integer; when the function is called, if the
            number of outputs is not a multiple of ``candidates``.

    Examples:
        >>> scores = jnp.array([0.9, 0.3, 0.2, 0.1, 0.5, 0.4])
        >>> hit_rate(1, candidates=3)(scores, jnp.array([1, 0, 0, 1, 0, 0])).total
        Array(1, dtype=int32)
    """
    check_positive("candidates", candidates)
    return _measure(_hit_rate, k=check_positive("k", k), candidates=candidates)


def _hit_rate(outputs: ArrayLike, labels: ArrayLike, k: int, candidates: int) -> Metric:
    places = _places(outputs, labels, candidates)
    return Ratio(jnp.sum(places < k, dtype=jnp.int32), jnp.int32(len(places)))


def ndcg(k: int, candidates: int) -> Measure:
    """Returns a metric function for the normalized discounted cumulative gain of a recommender.

    For an example whose chosen item has the r-th highest score, it is 1 / log₂(r + 1), or 0 if
    r > k. The metric is the mean over the examples.

    Args:
        k: the number of items, a positive integer.
        candidates: see ``hit_rate``.

    Returns:
        A metric function, as ``hit_rate`` returns.

    Raises:
        InputError: see ``hit_rate``.

    scikit-learn: ``ndcg_score(labels, scores, k=k)`` with arrays [B, candidates].
    """
    check_positive("candidates", candidates)
    return _measure(_ndcg, k=check_positive("k", k), candidates=candidates)


def _ndcg(outputs: ArrayLike, labels: ArrayLike, k: int, candidates: int) -> Metric:
    places = _places(outputs, labels, candidates)
    gains = jnp.where(places < k, 1 / jnp.log2(places.astype(jnp.float32) + 2), 0)
    return Ratio(jnp.sum(gains), jnp.int32(len(places)))


def _places(outputs: ArrayLike, labels: ArrayLike, candidates: int) -> jax.Array:
    """Returns how many other items score at least as high as the chosen one, int32 [examples]."""
    outputs, labels = as_array("outputs", outputs), as_array("labels", labels)
    if outputs.size % candidates or outputs.size != labels.size:
        expected = f"scores and labels of examples of {candidates} items each"
        raise InputError("outputs", expected, f"{describe(outputs)} and {describe(labels)}")
    scores, chosen = outputs.reshape(-1, candidates), labels.reshape(-1, candidates) > 0
    own = jnp.sum(jnp.where(chosen, scores, 0), axis=1, keepdims=True)
    return jnp.sum(~(own > scores) & ~chosen, axis=1, dtype=jnp.int32)
