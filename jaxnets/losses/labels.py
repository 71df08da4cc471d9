"""The labels that losses read as classes."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxnets.arrays import ArrayLike, InputError, as_array, describe
from jaxnets.losses import arguments


class ReadLabels(NamedTuple):
    """What a loss reads as classes while a program is traced.

    Attributes:
        labels: as the loss was given them; they have no values yet.
        classes: how many classes there are.
        ignored: the label that adds nothing; None if there is no such label.
    """

    labels: Any
    classes: int
    ignored: int | None


_noted: ContextVar[list[ReadLabels] | None] = ContextVar("labels", default=None)


@contextlib.contextmanager
def noted_labels() -> Iterator[list[ReadLabels]]:
    """Within it the labels that losses read as classes are noted, in the list that it yields."""
    found: list[ReadLabels] = []
    token = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(token)


def note_labels(labels: Any, classes: int, ignored: int | None) -> None:
    """Notes labels for ``noted_labels``, if anybody listens."""
    if (noted := _noted.get()) is not None:
        noted.append(ReadLabels(labels, classes, ignored))


class Labels(NamedTuple):
    """Integer labels [N, d1, ...] as the losses use them.

    Attributes:
        labels: [N, d1, ...].
        counted: [N, d1, ...], False where the label is ``ignore_index``.
        weights: [N, d1, ...], 0 where not counted, NaN where the label is no class.
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
    """Checks labels, one class for each row of outputs.

    Args:
        labels: integers [N, d1, ...].
        outputs: [N, d1, ..., C].
        weight: one weight per class, or None for 1.
        ignore_index: a label that adds nothing, or None if each label is a class.

    Raises:
        InputError: if the shapes differ, or a label that has a value is no class.
    """
    given = as_array("labels", labels)
    if not jnp.issubdtype(given.dtype, jnp.integer) or given.shape != outputs.shape[:-1]:
        expected = f"integers of shape {outputs.shape[:-1]} for outputs {describe(outputs)}"
        if outputs.ndim > 2 and given.shape == (outputs.shape[0], *outputs.shape[2:]):
            expected += " with the classes on the last axis, PyTorch's 1"
        raise InputError("labels", expected, describe(given))
    classes, allowed = outputs.shape[-1], f"classes from 0 to {outputs.shape[-1] - 1}"
    if ignore_index is not None:
        allowed += f", or ignore_index {ignore_index}"
    note_labels(labels, classes, ignore_index)
    arguments.refuse(
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
    # Traced labels cannot be refused, but neither may they pass: one that is no class has the
    # weight NaN, so that both the loss and its gradient are NaN.
    weights = jnp.where(ignored, 0, jnp.where(is_class, weights, jnp.nan))
    return Labels(labels, ~ignored, weights)


def chosen(labels: jax.Array, values: jax.Array) -> jax.Array:
    """Each label's value, of values [C] or [N, d1, ..., C]; the sum of all for one of no class."""
    # Comparing with every class beats gathering one: on a CPU, XLA's gather and the scatter that
    # is its gradient walk through the batch one element at a time.
    classes = values.shape[-1]
    is_class = (labels >= 0) & (labels < classes)
    # A selection, not a product: 0 · inf would be NaN.
    selected = one_hot(labels, classes) | ~is_class[..., None]
    return jnp.sum(jnp.where(selected, values, 0), axis=-1)


def one_hot(labels: jax.Array, classes: int) -> jax.Array:
    """Which class each label is, [N, d1, ..., C]; none of a label that is no class."""
    numbers = jnp.arange(classes, dtype=labels.dtype).reshape((1,) * labels.ndim + (classes,))
    return labels[..., None] == numbers
