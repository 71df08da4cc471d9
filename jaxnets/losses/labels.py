"""Checks of labels that are classes."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnets.arrays import ArrayLike, InputError, as_array, describe
from jaxnets.losses import arguments


class ReadLabels(NamedTuple):
    """Labels that a loss used as classes, recorded while a function is traced.

    Attributes:
        labels: the labels that the loss received, traced and without values.
        classes: the number of classes.
        ignored: the label that is ignored, or None.
    """

    labels: Any
    classes: int
    ignored: int | None


_noted: ContextVar[list[ReadLabels] | None] = ContextVar("labels", default=None)


@contextlib.contextmanager
def noted_labels() -> Iterator[list[ReadLabels]]:
    """Records the labels that losses use as classes within the context.

    Traced labels have no values to check. A caller traces a loss once with this context, and then
    checks the values of the recorded labels outside of jit.

    Yields:
        The list to which each ``ReadLabels`` is appended.
    """
    found: list[ReadLabels] = []
    token = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(token)


def note_labels(labels: Any, classes: int, ignored: int | None) -> None:
    """Records labels for ``noted_labels``, if its context is active."""
    if (noted := _noted.get()) is not None:
        noted.append(ReadLabels(labels, classes, ignored))


class Labels(NamedTuple):
    """Checked integer labels with their weights.

    Attributes:
        labels: the labels, [N, d1, ...].
        counted: [N, d1, ...], False where the label is ``ignore_index``.
        weights: [N, d1, ...], 0 where the label is ``ignore_index``, NaN where it is invalid.
    """

    labels: jax.Array
    counted: jax.Array
    weights: jax.Array


def read_labels(
    labels: ArrayLike,
    outputs: jax.Array,
    weight: ArrayLike | None,
    ignore_index: int | None = None,
) -> Labels:
    """Checks labels that are classes, and computes their weights.

    Args:
        labels: integers [N, d1, ...].
        outputs: [N, d1, ..., C].
        weight: one weight per class, or None for 1.
        ignore_index: a label that is ignored, or None.

    Raises:
        InputError: if the shapes do not match or, outside of ``jax.jit``, a label is not a class.
    """
    given = as_array("labels", labels)
    if not jnp.issubdtype(given.dtype, jnp.integer) or given.shape != outputs.shape[:-1]:
        expected = f"integers of shape {outputs.shape[:-1]} for outputs {describe(outputs)}"
        if outputs.ndim > 2 and given.shape == (outputs.shape[0], *outputs.shape[2:]):
            expected += " with the classes on the last axis (axis 1 in PyTorch)"
        raise InputError("labels", expected, describe(given))
    classes, allowed = outputs.shape[-1], f"classes from 0 to {outputs.shape[-1] - 1}"
    if ignore_index is not None:
        allowed += f", or ignore_index {ignore_index}"
    note_labels(labels, classes, ignore_index)
    arguments.check_values(
        "labels",
        labels,
        allowed,
        lambda values: (values != ignore_index) & ((values < 0) | (values >= classes)),
    )
    labels = arguments.integers("labels", labels)
    is_class = (labels >= 0) & (labels < classes)
    ignored = jnp.zeros(labels.shape, bool) if ignore_index is None else labels == ignore_index

    if weight is None:
        weights = jnp.ones(labels.shape, outputs.dtype)
    else:
        weights = chosen(labels, arguments.class_weights(weight, outputs))
    # Traced labels cannot be checked. An invalid label has the weight NaN instead, so that the loss
    # and its gradient are NaN.
    weights = jnp.where(ignored, 0, jnp.where(is_class, weights, jnp.nan))
    return Labels(labels, ~ignored, weights)


def chosen(labels: jax.Array, values: jax.Array) -> jax.Array:
    """Takes the value of each label from [C] or [N, d1, ..., C]; their sum for an invalid label."""
    # A comparison with all classes is faster than a gather: on a CPU, XLA runs a gather, and the
    # scatter in its gradient, one element at a time.
    classes = values.shape[-1]
    is_class = (labels >= 0) & (labels < classes)
    # This uses where instead of a product, because 0 · inf would be NaN.
    selected = one_hot(labels, classes) | ~is_class[..., None]
    return jnp.sum(jnp.where(selected, values, 0), axis=-1)


def one_hot(labels: jax.Array, classes: int) -> jax.Array:
    """Returns one-hot booleans [N, d1, ..., C]; all False for an invalid label."""
    numbers = jnp.arange(classes, dtype=labels.dtype).reshape((1,) * labels.ndim + (classes,))
    return labels[..., None] == numbers
