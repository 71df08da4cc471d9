"""The number of correct predictions, and the number of all predictions."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import losses, metrics
from jaxnets.arrays import InputError, called
from jaxnets.training.labels import (
    IGNORED,
    OF_CLASSES,
    OF_PROBABILITIES,
    OF_QUANTITIES,
    Loss,
    unwrapped,
)

#: Counts the correct predictions; see ``fit``.
Count = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class _Labels:
    """Counts correct predictions as a built-in loss interprets labels.

    Attributes:
        threshold: a single output at or above this predicts class 1.
        ignored: the label that the loss ignores; None if there is none.
        alone: whether each of several outputs has its own label.
    """

    threshold: float
    ignored: int | None
    alone: bool

    def __call__(self, outputs: jax.Array, labels: jax.Array) -> Any:
        """Returns the number of correct labels, or, if labels may be ignored, also that of all."""
        if self.alone and outputs.shape == labels.shape:
            outputs, labels = jnp.ravel(outputs), jnp.ravel(labels)
        if self.ignored is None or not jnp.issubdtype(labels.dtype, jnp.integer):
            return metrics.correct(outputs, labels, threshold=self.threshold)
        where = labels != self.ignored
        count = metrics.correct(outputs, labels, where=where, threshold=self.threshold)
        return count, jnp.sum(where, dtype=jnp.int32)


def counter(correct: Any, loss: Loss, outputs: Any, labels: Any) -> Count | None:
    """Returns the function that counts correct predictions; see ``correct`` of ``fit``.

    Args:
        correct: a function, ``"auto"`` or None.
        loss: the loss, which determines what ``"auto"`` counts.
        outputs: the model's outputs for a batch, or their shapes.
        labels: the labels of the batch.

    Returns:
        The function; None if nothing is counted.

    Raises:
        InputError: if ``correct`` is ``"auto"`` and the outputs are not a single array.
    """
    if not isinstance(correct, str):
        count: Count | None = correct
        return count
    function, options = unwrapped(loss)
    if function in OF_QUANTITIES or not _are_integers(labels):
        return None
    if not hasattr(outputs, "shape"):
        expected = "None or a function, as the model's outputs are not a single array"
        raise InputError("correct", expected, "'auto'")
    return _Labels(
        threshold=0.0 if function is losses.binary_cross_entropy_with_logits else 0.5,
        ignored=options.get("ignore_index", IGNORED) if function in OF_CLASSES else None,
        alone=function in OF_PROBABILITIES,
    )


def _are_integers(labels: Any) -> bool:
    return hasattr(labels, "dtype") and jnp.issubdtype(labels.dtype, jnp.integer)


def counted(correct: Count, outputs: Any, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Counts the correct predictions on a batch, and all predictions.

    Args:
        correct: a function; see ``fit``.
        outputs: the model's outputs.
        labels: the labels, [batch, …].

    Returns:
        The two numbers, int32.

    Raises:
        InputError: if the function returns a value of another kind than ``fit`` allows.
    """
    found = called("correct", "a function of (outputs, labels)", correct, outputs, labels)
    pair = found if isinstance(found, tuple | list) and len(found) == 2 else (found,)
    if all(_is_count(part) for part in pair):
        total = pair[1] if len(pair) == 2 else _most(correct, outputs, labels)
        return jnp.asarray(pair[0], jnp.int32), jnp.asarray(total, jnp.int32)
    if hasattr(found, "dtype") and jnp.ndim(found) and found.dtype == np.bool_:
        return jnp.sum(found, dtype=jnp.int32), jnp.int32(jnp.size(found))
    expected = (
        "a function that returns the number of correct predictions, an integer scalar, or a pair "
        "of it and the number of all, or booleans [batch, …]"
    )
    parts = [
        f"{x.dtype}{list(x.shape)}" if hasattr(x, "dtype") else type(x).__name__
        for x in jax.tree.leaves(found)
    ]
    raise InputError("correct", expected, ", ".join(parts[:3]) or repr(found))


def check_counted(measured: Mapping[str, Any]) -> None:
    """Checks that no batch has more correct predictions than predictions.

    Args:
        measured: metrics of some batches, by name, [batches].

    Raises:
        InputError: if a batch has more.
    """
    accuracy = measured.get("accuracy")
    if not isinstance(accuracy, metrics.Ratio):
        return
    correct, total = np.asarray(accuracy.total), np.asarray(accuracy.count)
    wrong = np.flatnonzero((correct < 0) | (correct > total))
    if len(wrong):
        expected = "at most as many correct predictions as predictions (a pair has both numbers)"
        raise InputError("correct", expected, f"{correct[wrong[0]]} of {total[wrong[0]]}")


def _is_count(value: Any) -> bool:
    if not isinstance(value, int | np.generic | np.ndarray | jax.Array):
        return False
    return jnp.shape(value) == () and jnp.issubdtype(jnp.result_type(value), jnp.integer)


def _most(correct: Count, outputs: Any, labels: jax.Array) -> int:
    """Returns the largest number that a function can count.

    A user's function may count examples, tokens or pixels, and returns only the count. The jaxpr
    shows how many booleans the count sums; if it does not, the number of examples is returned.
    """
    leaves, structure = jax.tree.flatten((outputs, labels))
    arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array)]

    def of_arrays(*given: jax.Array) -> Any:
        following = iter(given)
        filled = [next(following) if isinstance(x, jax.Array) else x for x in leaves]
        return correct(*jax.tree.unflatten(structure, filled))

    # Only arrays are traced: the user's function may depend on Python values among the leaves.
    traced = jax.make_jaxpr(of_arrays)(*arrays)
    (most,) = _bounds(traced.jaxpr, [math.inf] * len(traced.in_avals))  # inputs are unbounded
    return int(most) if 0 < most < math.inf else len(labels)


#: Primitives that copy or select elements without changing their values.
_MOVING = {
    *("broadcast_in_dim", "concatenate", "convert_element_type", "copy", "reduce_max"),
    *("reduce_min", "reshape", "rev", "slice", "squeeze", "stop_gradient", "transpose"),
}


def _bounds(jaxpr: Any, entering: list[float]) -> list[float]:
    """Returns an upper bound of the elements of each output of a jaxpr; infinity if unknown.

    This is interval arithmetic with a lower bound of zero: booleans are at most 1, and a sum of n
    of them at most n.

    Args:
        jaxpr: the computation, assumed to have no negative values.
        entering: upper bounds of its inputs.
    """
    known = dict(zip(jaxpr.invars, entering, strict=True))

    def of(variable: Any) -> float:
        if hasattr(variable, "val"):  # a literal
            return float(variable.val) if np.ndim(variable.val) == 0 else math.inf
        return 1.0 if variable.aval.dtype == bool else known.get(variable, math.inf)

    for equation in jaxpr.eqns:
        name, given = equation.primitive.name, [of(variable) for variable in equation.invars]
        inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        if name in ("jit", "pjit", "closed_call", "custom_jvp_call") and inner is not None:
            made = _bounds(getattr(inner, "jaxpr", inner), given)
        else:
            made = [_bound(name, equation, given)] * len(equation.outvars)
        known.update(zip(equation.outvars, made, strict=True))
    return [of(variable) for variable in jaxpr.outvars]


def _bound(name: str, equation: Any, given: list[float]) -> float:
    """Returns an upper bound of the output of one equation from the bounds of its inputs."""
    if name == "reduce_sum":
        entering, leaving = equation.invars[0].aval.size, equation.outvars[0].aval.size
        return given[0] * (entering / leaving) if leaving else 0.0
    if name == "add":
        return sum(given)
    if name == "mul":
        return math.prod(given) if all(given) else 0.0
    if name == "min":
        return min(given)
    if name == "max":
        return max(given)
    if name == "reduce_prod":
        return given[0] if given[0] <= 1 else math.inf
    if name in ("sub", "gather", "dynamic_slice"):
        return given[0]
    if name == "select_n":
        return max(given[1:])
    return max(given) if name in _MOVING else math.inf
