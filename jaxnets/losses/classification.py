"""Classification losses, with classes on the last axis."""

import jax
import jax.numpy as jnp

from jaxnets.arrays import ArrayLike, InputError, as_array, check_integer, check_number
from jaxnets.kernels.marks import marked
from jaxnets.losses import arguments
from jaxnets.losses.labels import chosen, read_labels
from jaxnets.losses.logarithm import clamped_log
from jaxnets.losses.reduction import Reduction, reduce


def _shifted(outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns outputs minus their maximum, and the logarithm of the sum of their exponentials."""
    # log softmax is shifted - log_sum. With two separate terms, the gradient for a one-hot label is
    # softmax - one-hot without another sum over the classes. The result does not depend on the
    # shift, so the shift has no gradient.
    shifted = outputs - jax.lax.stop_gradient(jnp.max(outputs, axis=-1, keepdims=True))
    return shifted, jnp.log(jnp.sum(jnp.exp(shifted), axis=-1))


@marked
def class_losses(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Computes the cross entropy of each example: logits [N, d1, ..., C], labels [N, d1, ...]."""
    shifted, log_sum = _shifted(outputs)
    return log_sum - chosen(labels, shifted)


def nll_loss(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> jax.Array:
    """Computes the negative log likelihood: -w[y] · outputs[y] for the true class y.

    The mean is Σ losses / Σ w[y] over the labels that are not ignored; NaN if there are none.

    Args:
        outputs: log-probabilities [N, d1, ..., C] or [C], with classes on the **last** axis (axis 1
            in PyTorch).
        labels: classes, integers [N, d1, ...] from 0 to C - 1.
        weight: [C], one weight per class.
        ignore_index: a label that does not contribute to loss and gradient.
        reduction: ``"mean"`` or ``"sum"``, scalars, or ``"none"``, the labels' shape.

    Returns:
        The loss in the outputs' dtype. Labels are not checked under ``jax.jit``, and an invalid
        label then makes the loss NaN.

    Raises:
        InputError: if a shape or dtype is invalid, or a label is not a class.

    PyTorch: ``torch.nn.functional.nll_loss``.
    """
    outputs = arguments.scores(outputs)
    ignore_index = check_integer("ignore_index", ignore_index)
    given, counted, weights = read_labels(labels, outputs, weight, ignore_index)
    # The mask is applied last, so that the gradient of an ignored label is 0, not 0 · inf.
    losses = jnp.where(counted, -weights * chosen(given, outputs), 0)
    return reduce(losses, reduction, jnp.sum(weights))


def cross_entropy(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> jax.Array:
    """Computes the cross entropy of logits: -Σ_c w[c] t[c] · log softmax(outputs)[c].

    The target t is the one-hot vector of an integer label, or the given probabilities. The outputs
    must be logits. For the outputs of a softmax use ``cross_entropy_of_probabilities``; this
    function, like PyTorch's, would apply the softmax a second time.

    The mean is Σ losses / Σ w[y] for integer labels, and Σ losses / number of losses for
    probabilities; NaN if there are no losses.

    Args:
        outputs: logits [N, d1, ..., C] or [C], with classes on the **last** axis (axis 1 in
            PyTorch).
        labels: classes, integers [N, d1, ...] from 0 to C - 1; or the probabilities of all classes,
            in the outputs' shape.
        weight: [C], one weight per class.
        ignore_index: an integer label that does not contribute to loss and gradient.
        reduction: ``"mean"`` or ``"sum"``, scalars, or ``"none"``, [N, d1, ...].
        label_smoothing: the fraction, from 0 to 1, of t that is distributed evenly over the
            classes.

    Returns:
        The loss in the outputs' dtype. Labels are not checked under ``jax.jit``, and an invalid
        label then makes the loss NaN.

    Raises:
        InputError: if a shape or dtype is invalid, or a label is not a class.

    PyTorch: ``torch.nn.functional.cross_entropy``.

    Examples:
        >>> logits = jnp.array([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
        >>> print(cross_entropy(logits, jnp.array([0, 2]), reduction="none").round(4))
        [0.4076 1.0986]
    """
    outputs = arguments.scores(outputs)
    given = as_array("labels", labels)
    ignore_index = check_integer("ignore_index", ignore_index)
    smoothing = check_number("label_smoothing", label_smoothing, least=0, most=1)
    scale = 1 if weight is None else arguments.class_weights(weight, outputs)

    if given.shape == outputs.shape:
        shifted, log_sum = _shifted(outputs)
        targets = _read_probabilities(labels, outputs, ignore_index)
        targets = targets * (1 - smoothing) + smoothing / outputs.shape[-1]
        losses = jnp.sum(scale * targets * (log_sum[..., None] - shifted), axis=-1)
        return reduce(losses, reduction)

    classes, counted, weights = read_labels(labels, outputs, weight, ignore_index)
    if smoothing:
        shifted, log_sum = _shifted(outputs)
        losses = weights * (log_sum - chosen(classes, shifted))
        even = jnp.mean(scale * (log_sum[..., None] - shifted), axis=-1)
        losses = losses * (1 - smoothing) + even * smoothing
    else:
        losses = weights * class_losses(outputs, classes)
    return reduce(jnp.where(counted, losses, 0), reduction, jnp.sum(weights))


def _read_probabilities(labels: ArrayLike, outputs: jax.Array, ignore_index: int) -> jax.Array:
    if ignore_index >= 0:
        raise InputError("ignore_index", "a negative number with probabilities", ignore_index)
    return arguments.floating("labels", labels).astype(outputs.dtype)


def cross_entropy_of_probabilities(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> jax.Array:
    """Computes the cross entropy of softmax probabilities: -w[y] · log outputs[y].

    This is the loss for a network that ends in a softmax. Some tutorials train such a network with
    ``nn.CrossEntropyLoss``, which computes another loss, because it treats the probabilities as
    logits. To reproduce those results, use ``cross_entropy`` on the probabilities.

    The logarithm is at least -100 and the gradient at least -1e12, as in PyTorch's
    ``binary_cross_entropy``, so both are finite when a probability is 0. If you have the logits,
    ``cross_entropy`` computes the same loss more accurately.

    Args:
        outputs: probabilities [N, d1, ..., C] or [C], with classes on the **last** axis.
        labels: classes, integers [N, d1, ...] from 0 to C - 1.
        weight: [C], one weight per class.
        ignore_index: a label that does not contribute to loss and gradient.
        reduction: ``"mean"`` (divided by Σ w[y]), ``"sum"`` or ``"none"``.

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: see ``nll_loss``; also if outputs are outside of [0, 1].

    PyTorch: ``nll_loss(outputs.log().clamp(min=-100), labels)``.

    Examples:
        >>> probabilities = jnp.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]])
        >>> labels = jnp.array([0, 2])
        >>> print(cross_entropy_of_probabilities(probabilities, labels, reduction="none"))
        [  0.35667497 100.        ]
    """
    arguments.probabilities("outputs", outputs)
    log_probs = clamped_log(arguments.scores(outputs))
    return nll_loss(
        log_probs, labels, weight=weight, ignore_index=ignore_index, reduction=reduction
    )
