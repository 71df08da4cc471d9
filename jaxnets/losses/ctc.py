"""Connectionist temporal classification (CTC): the loss of a sequence without an alignment."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    as_array,
    check_bool,
    check_choice,
    check_integer,
    describe,
)
from jaxnets.losses import arguments
from jaxnets.losses.alignments import negative_log_likelihood
from jaxnets.losses.reduction import Reduction, reduce


def ctc_loss(
    log_probs: ArrayLike,
    targets: ArrayLike,
    input_lengths: ArrayLike | Sequence[int],
    target_lengths: ArrayLike | Sequence[int],
    *,
    blank: int = 0,
    reduction: Reduction = "mean",
    zero_infinity: bool = False,
) -> jax.Array:
    """Computes the CTC loss: -log of the total probability of all alignments of the target.

    An alignment is a sequence of a class or the blank at each time step that results in the target
    when repeated classes are merged and then blanks are removed. The loss is infinite if the input
    is too short for an alignment.

    Args:
        log_probs: log-probabilities [T, N, C], as from ``jax.nn.log_softmax``; or [T, C].
        targets: classes, integers [N, S]; values after the length of a target are ignored. Or the
            concatenated targets, [Σ target_lengths]; under ``jax.jit`` each target is then padded
            to the total length. Or [S] for log_probs [T, C].
        input_lengths: integers [N] from 0 to T; one integer for log_probs [T, C].
        target_lengths: integers [N] from 0 to S; one integer for log_probs [T, C].
        blank: the class of the blank, which no target may contain.
        reduction: ``"mean"`` divides each loss by the length of its target (at least 1) and takes
            the mean over the batch; ``"sum"``; or ``"none"``, [N].
        zero_infinity: whether to replace infinite losses by 0, with a gradient of 0.

    Returns:
        The loss in the dtype of log_probs. Lengths and targets are not checked under ``jax.jit``,
        and invalid ones then make the loss NaN. The gradient with respect to log_probs is exact; in
        PyTorch only the gradient with respect to the input of log_softmax is. Only first
        derivatives in reverse mode are supported.

    Raises:
        InputError: if a shape or dtype is invalid, a length exceeds its array, or a target is not a
            class or is the blank.

    PyTorch: ``torch.nn.functional.ctc_loss``.
    """
    log_probs = arguments.floating("log_probs", log_probs)
    if log_probs.ndim not in (2, 3) or 0 in log_probs.shape:
        raise InputError("log_probs", "[T, N, C] or [T, C], not empty", describe(log_probs))
    batched = log_probs.ndim == 3
    if not batched:
        log_probs, targets = log_probs[:, None], as_array("targets", targets)[None]
    times, batch, classes = log_probs.shape
    blank = check_integer("blank", blank, least=0, most=classes - 1)
    check_bool("zero_infinity", zero_infinity)
    check_choice("reduction", reduction, ("mean", "sum", "none"))
    labels, target_lengths = _read_targets(targets, target_lengths, batch, classes, blank)
    input_lengths = _read_lengths("input_lengths", input_lengths, batch, times)

    losses = negative_log_likelihood(blank, log_probs, labels, input_lengths, target_lengths)
    losses = losses * _one_or_nan(labels, input_lengths, target_lengths, log_probs, blank)
    if zero_infinity:
        losses = jnp.where(jnp.isinf(losses), 0, losses)
    if reduction == "mean":
        losses = losses / jnp.maximum(target_lengths, 1).astype(losses.dtype)
    return reduce(losses if batched or reduction != "none" else losses[0], reduction)


def _read_lengths(
    name: str, lengths: ArrayLike | Sequence[int], batch: int, longest: int
) -> jax.Array:
    array = jnp.atleast_1d(arguments.integers(name, lengths))
    arguments.check_values(
        name,
        lengths,
        f"lengths from 0 to {longest}",
        lambda values: (values < 0) | (values > longest),
    )
    if array.shape != (batch,):
        raise InputError(name, f"one length for each of {batch} examples", describe(array))
    return array


def _read_targets(
    targets: ArrayLike,
    target_lengths: ArrayLike | Sequence[int],
    batch: int,
    classes: int,
    blank: int,
) -> tuple[jax.Array, jax.Array]:
    """Checks targets and their lengths, and returns them as arrays [N, S] and [N]."""
    labels = arguments.integers("targets", targets)
    if labels.ndim not in (1, 2) or (labels.ndim == 2 and labels.shape[0] != batch):
        expected = f"[{batch}, S], or [Σ target_lengths]"
        raise InputError("targets", expected, describe(labels))
    lengths = _read_lengths("target_lengths", target_lengths, batch, labels.shape[-1])
    known = not isinstance(target_lengths, jax.core.Tracer)

    def invalid(values: np.ndarray) -> np.ndarray:
        ends = np.asarray(target_lengths).reshape(-1, 1) if values.ndim == 2 else values.size
        used = np.arange(values.shape[-1]) < ends
        return used & ((values < 0) | (values >= classes) | (values == blank))

    if known:
        expected = f"classes from 0 to {classes - 1} except for the blank {blank}"
        arguments.check_values("targets", targets, expected, invalid)
    if labels.ndim == 2:
        return labels, lengths

    longest = labels.size
    if known:
        longest = int(np.max(target_lengths, initial=0))
        if np.sum(target_lengths) != labels.size:
            expected = f"{np.sum(target_lengths)} labels, the sum of target_lengths"
            raise InputError("targets", expected, describe(labels))
    return _padded(labels, lengths, longest), lengths


def _padded(labels: jax.Array, lengths: jax.Array, longest: int) -> jax.Array:
    """Converts concatenated labels to padded ones, [N, S]."""
    if labels.size == 0:
        return jnp.zeros((lengths.size, 0), labels.dtype)
    starts = jnp.cumsum(lengths) - lengths
    index = starts[:, None] + jnp.arange(longest, dtype=lengths.dtype)[None, :]
    padded = jnp.take(labels, index, mode="clip")
    # If the lengths do not add up to the number of labels, -1 marks all labels as invalid.
    return jnp.where(jnp.sum(lengths) == labels.size, padded, -1)


def _one_or_nan(
    labels: jax.Array,
    input_lengths: jax.Array,
    target_lengths: jax.Array,
    log_probs: jax.Array,
    blank: int,
) -> jax.Array:
    """Returns NaN for each example with an invalid target or length, and 1 for the others."""
    times, _, classes = log_probs.shape
    beyond = jnp.arange(labels.shape[1])[None, :] >= target_lengths[:, None]
    possible = jnp.all(beyond | ((labels >= 0) & (labels < classes) & (labels != blank)), axis=1)
    for lengths, longest in ((input_lengths, times), (target_lengths, labels.shape[1])):
        possible &= (lengths >= 0) & (lengths <= longest)
    return jnp.where(possible, 1, jnp.nan).astype(log_probs.dtype)
