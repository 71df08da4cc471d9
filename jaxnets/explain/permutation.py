"""Permutation importance: the decrease of a score when a column is permuted."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from jaxnets import metrics
from jaxnets.arrays import (
    ArrayLike,
    InputError,
    as_host_array,
    called,
    check_function,
    check_positive,
    check_seed,
    describe,
    entries,
    shown,
)
from jaxnets.data.transforms import Transform
from jaxnets.training import predict

#: A function (outputs, labels) → score, where larger is better; or a ``metrics.Metric``.
Score = Callable[[Any, Any], Any]


class PermutationImportance(NamedTuple):
    """The decrease of the score when a column is permuted.

    Attributes:
        importances_mean: the mean over the repeats, [columns].
        importances_std: the standard deviation over the repeats, [columns].
        importances: the decrease for each repeat, [columns, n_repeats].
        score: the score without permutation.
    """

    importances_mean: np.ndarray
    importances_std: np.ndarray
    importances: np.ndarray
    score: float


def permutation_importance(
    model: nnx.Module,
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    metric: Score | None = None,
    columns: Sequence[Sequence[int]] | None = None,
    n_repeats: int = 5,
    seed: int = 0,
    transform: Transform | None = None,
) -> PermutationImportance:
    """Computes the permutation importance of the columns of a table.

    It is score(inputs) - score(inputs with one column permuted), repeated for each column. Like
    scikit-learn's ``permutation_importance``, with the same permutations for ``random_state=seed``.

    Args:
        model: see ``saliency``.
        inputs: a table [examples, columns]; or series [examples, time, columns], whose steps are
            permuted together.
        labels: the labels, [examples] or [examples, outputs].
        metric: a function (outputs, labels) → number, where larger is better. None for the
            accuracy if the labels are integers, and for R² otherwise.
        columns: groups of columns that are permuted together, such as those of one category; None
            for each column separately.
        n_repeats: the number of permutations of each column.
        seed: the seed of the permutations.
        transform: see ``saliency``.

    Returns:
        The importances, in the unit of the metric.

    Raises:
        InputError: if the examples do not fit the model or the metric, or a setting is invalid.

    Examples:
        >>> model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        >>> model.kernel[...] = np.array([[1.0], [0.0]])
        >>> table = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
        >>> found = permutation_importance(model, table, table[:, :1])
        >>> [round(float(each)) for each in found.importances_mean]
        [2, 0]
    """
    check_positive("n_repeats", n_repeats)
    check_seed("seed", seed)
    if metric is not None:
        check_function("metric", metric, "a function of (outputs, labels) to a number")
    table, labels = as_host_array("inputs", inputs), as_host_array("labels", labels)
    if table.ndim not in (2, 3):
        raise InputError(
            "inputs", "[examples, columns] or [examples, time, columns]", describe(table)
        )
    if not labels.ndim or len(labels) != len(table):
        raise InputError("labels", f"a label for each of {len(table)} examples", describe(labels))
    groups = _groups(columns, table.shape[-1])
    score = _scorer(metric, labels)

    def measured(table: np.ndarray) -> float:
        return score(predict(model, table, transform=transform))

    whole = measured(table)
    state = np.random.RandomState(seed)  # scikit-learn's generator, so that it draws the same
    column_seed = state.randint(np.iinfo(np.int32).max + 1)
    falls = [
        [whole - measured(permuted) for permuted in _permuted(table, group, column_seed, n_repeats)]
        for group in groups
    ]
    found = np.array(falls)
    return PermutationImportance(found.mean(axis=1), found.std(axis=1), found, whole)


def _permuted(table: np.ndarray, group: list[int], seed: int, repeats: int) -> Any:
    """Yields the table with some columns permuted, once for each repeat.

    As in scikit-learn, each permutation is applied to the result of the one before.
    """
    state, rows, changed = np.random.RandomState(seed), np.arange(len(table)), table.copy()
    for _ in range(repeats):
        state.shuffle(rows)
        changed[..., group] = changed[rows][..., group]
        yield changed


def _groups(columns: Any, count: int) -> list[list[int]]:
    expected = f"a sequence of sequences of column numbers below {count}"
    if columns is None:
        return [[number] for number in range(count)]
    groups = [entries(group) for group in entries(columns) or ()]
    numbers = [number for group in groups for number in group or (None,)]
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in numbers)
    if not groups or not whole or any(not 0 <= number < count for number in numbers):
        raise InputError("columns", expected, shown(columns))
    return [[int(number) for number in group or ()] for group in groups]


def _scorer(metric: Score | None, labels: np.ndarray) -> Callable[[Any], float]:
    if metric is None:
        metric = metrics.accuracy if labels.dtype.kind in "iub" else metrics.r_squared()
    expected = "a function of (outputs, labels) to a number"

    def score(outputs: Any) -> float:
        made = called("metric", expected, metric, outputs, labels)
        made = made.over() if hasattr(made, "over") else made
        try:
            return float(made)
        except TypeError as error:
            raise InputError("metric", expected, f"one that returns {shown(made)}") from error

    return score
