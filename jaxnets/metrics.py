"""How good the outputs are: counts that can be added up over batches and divided once."""

import dataclasses
from typing import Any, Protocol

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
    """What one batch adds to a metric: a pytree of arrays, and how those of many are combined.

    A training step returns one of these for each name. A number stands for ``Mean``, a pair
    (total, count) for ``Ratio``.
    """

    def over(self) -> Any:
        """The metric over all batches.

        ``self`` then holds NumPy arrays with a leading axis of batches, [batches, …].

        Returns:
            A float, or an array where the metric has several numbers.
        """


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mean:
    """A mean over the examples of a batch.

    Attributes:
        value: the batch's mean, of any shape.
        count: how many examples the batch has.
    """

    value: Any
    count: Any

    def over(self) -> Any:
        """The mean over the examples of all batches."""
        return _number(_average(self.value, self.count))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ratio:
    """Two sums over a batch, the first of which is divided by the second.

    Attributes:
        total: the numerator, of any shape.
        count: the denominator, a scalar or of the numerator's shape.
    """

    total: Any
    count: Any

    def over(self) -> Any:
        """The ratio of the sums over all batches; NaN where nothing was counted."""
        total, count = (_sum(part) for part in (self.total, self.count))
        with np.errstate(divide="ignore", invalid="ignore"):
            return _number(np.asarray(total / count))


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
    """Counts the examples that are classified as labelled.

    With several outputs an example is of the class with the largest, the first of equals; so it is
    with labels that are probabilities, as augmentation by mixing makes them. With a single output,
    as of a sigmoid, it is of class 1 from the threshold up and otherwise of class 0.

    Args:
        outputs: scores [B, ..., C]; or probabilities of class 1, [B, ..., 1] or [B].
        labels: classes [B, ...], or probabilities in the outputs' shape; for a single output 0 and
            1, of any dtype and in its shape too.
        where: [B, ...], False for examples to be left out, such as padding. It may lack the
            labels' trailing axes.
        threshold: for a single output.

    Returns:
        An int32 scalar.

    Raises:
        InputError: for shapes that do not fit.

    PyTorch: ``(outputs.max(1).indices == labels).sum()``.

    Examples:
        >>> print(correct(jnp.array([[0.9, 0.1], [0.2, 0.8]]), jnp.array([0, 0])))
        1
    """
    return _count(_right(outputs, labels, threshold), where)


def _right(outputs: ArrayLike, labels: ArrayLike, threshold: float = 0.5) -> jax.Array:
    """Which examples are classified as labelled: [B, ...]."""
    outputs, labels = as_array("outputs", outputs), as_array("labels", labels)
    threshold = check_number("threshold", threshold, finite=False)
    same = outputs.shape == labels.shape and (outputs.ndim == 1 or outputs.shape[-1:] == (1,))
    if same or outputs.shape == (*labels.shape, 1):
        return (outputs.reshape(labels.shape) >= threshold).astype(labels.dtype) == labels
    if labels.shape == outputs.shape and jnp.issubdtype(labels.dtype, jnp.floating):
        labels = jnp.argmax(labels, axis=-1)
    labels = _class_labels(outputs, labels)
    return jnp.argmax(outputs, axis=-1).astype(labels.dtype) == labels


def correct_logits(
    outputs: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    """``correct`` for logits: a single output is of class 1 from 0 up, where the sigmoid is 0.5.

    Args:
        outputs: logits [B, ..., C]; or of class 1, [B, ..., 1] or [B].
        labels: as in ``correct``.
        where: as in ``correct``.

    Returns:
        An int32 scalar.

    Raises:
        InputError: for shapes that do not fit.
    """
    return correct(outputs, labels, where=where, threshold=0.0)


def top_k_correct(
    outputs: ArrayLike, labels: ArrayLike, k: int, *, where: ArrayLike | None = None
) -> jax.Array:
    """Counts the examples whose label is among the k largest outputs, the first of equals first.

    Args:
        outputs: scores [B, ..., C].
        labels: classes [B, ...].
        k: from 1 to C.
        where: as in ``correct``.

    Returns:
        An int32 scalar.

    Raises:
        InputError: for shapes that do not fit, and for k beyond the classes.
    """
    outputs = as_array("outputs", outputs)
    labels = _class_labels(outputs, labels)
    k = check_integer("k", k, least=1, most=outputs.shape[-1])
    _, classes = jax.lax.top_k(outputs, k)
    right = jnp.any(classes.astype(labels.dtype) == labels[..., None], axis=-1)
    return _count(right, where)


def accuracy(outputs: ArrayLike, labels: ArrayLike, *, where: ArrayLike | None = None) -> jax.Array:
    """The share of examples that are classified as labelled: ``correct`` over their number.

    Args:
        outputs: as in ``correct``.
        labels: as in ``correct``.
        where: as in ``correct``.

    Returns:
        A float32 scalar from 0 to 1; NaN if there are no examples.

    Raises:
        InputError: for shapes that do not fit.
    """
    right = _right(outputs, labels)
    number = _count(jnp.ones_like(right), where)
    return _count(right, where).astype(jnp.float32) / number.astype(jnp.float32)


def confusion_matrix(
    outputs: ArrayLike, labels: ArrayLike, num_classes: int, *, where: ArrayLike | None = None
) -> jax.Array:
    """Counts how often each class, the row, was taken for each class, the column.

    Args:
        outputs: scores [B, ..., C], or predicted classes in the labels' shape and of integers.
        labels: classes [B, ...].
        num_classes: how many classes there are. A label or prediction beyond them is not counted.
        where: as in ``correct``.

    Returns:
        int32 [num_classes, num_classes].

    Raises:
        InputError: for shapes that do not fit, and for num_classes that is no positive integer.
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
    """The labels, checked to be classes that these outputs are scores of."""
    labels = _integers("labels", labels)
    if outputs.ndim == 0 or outputs.shape[:-1] != labels.shape or outputs.shape[-1] == 0:
        expected = f"scores of the classes behind the labels' axes {labels.shape}"
        raise InputError("outputs", expected, describe(outputs))
    return labels


def _integers(name: str, classes: ArrayLike) -> jax.Array:
    classes = as_array(name, classes)
    if not jnp.issubdtype(classes.dtype, jnp.integer):
        raise InputError(name, "integers", describe(classes))
    # Wide enough that neither a label nor the number of a class wraps round.
    return classes if classes.dtype.itemsize == 8 else classes.astype(jnp.int32)


def _mask(shape: tuple[int, ...], where: ArrayLike | None) -> jax.Array:
    if where is None:
        return jnp.ones(shape, bool)
    where = as_array("where", where)
    if where.dtype != bool or where.shape != shape[: where.ndim]:
        raise InputError("where", f"truth values for labels of shape {shape}", describe(where))
    missing = shape[where.ndim :]
    return jnp.broadcast_to(where.reshape(where.shape + (1,) * len(missing)), shape)


def _count(right: jax.Array, where: ArrayLike | None) -> jax.Array:
    return jnp.sum(right & _mask(right.shape, where), dtype=jnp.int32)
