"""Losses over classes, which are the last axis."""

import jax
import jax.numpy as jnp

from jaxnets.arrays import ArrayLike, InputError, as_array, check_integer, check_number
from jaxnets.kernels.marks import marked
from jaxnets.losses import arguments
from jaxnets.losses.labels import chosen, read_labels
from jaxnets.losses.logarithm import clamped_log
from jaxnets.losses.reduction import Reduction, reduce


def _shifted(outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Outputs less the largest, and the logarithm of the sum of their exponentials."""
    # log softmax is shifted - log_sum. Kept apart, the gradient of a one-hot label is softmax minus
    # one-hot without a further sum over the classes; any shift gives the same, so it is constant.
    shifted = outputs - jax.lax.stop_gradient(jnp.max(outputs, axis=-1, keepdims=True))
    return shifted, jnp.log(jnp.sum(jnp.exp(shifted), axis=-1))


@marked
def class_losses(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """The cross entropy of each example's logits [N, d1, ..., C] and label [N, d1, ...]."""
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
    """Negative log likelihood: -w[y] · outputs[y] for log-probabilities and the true class y.

    The mean is Σ losses / Σ w[y] over the labels that are not ignored; NaN if there are none.

    Args:
        outputs: log-probabilities [N, d1, ..., C] or [C], classes on the **last** axis (PyTorch
            has them on axis 1).
        labels: integers [N, d1, ...], the classes from 0 to C - 1.
        weight: [C], one weight per class.
        ignore_index: a label that adds nothing to loss and gradient.
        reduction: ``"mean"`` or ``"sum"``, scalars, or ``"none"``, the labels' shape.

    Returns:
        The loss in the outputs' dtype. Under ``jax.jit``, where labels cannot be refused, a label
        that is no class makes it NaN.

    Raises:
        InputError: for wrong shapes and dtypes, and for a label that is no class.

    PyTorch: ``torch.nn.functional.nll_loss``.
    """
    outputs = arguments.scores(outputs)
    ignore_index = check_integer("ignore_index", ignore_index)
    given, counted, weights = read_labels(labels, outputs, weight, ignore_index)
    # The mask comes last, so that a fully ignored batch has a gradient of 0, not 0 · inf.
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
    """Cross entropy of logits: -Σ_c w[c] t[c] · log softmax(outputs)[c], t one-hot or given.

    The outputs are logits. Given softmax probabilities, it takes the softmax of them once more, as
    PyTorch's criterion does in many a tutorial; the loss that these seem to mean is
    ``cross_entropy_of_probabilities``.

    The mean is Σ losses / Σ w[y] for integer labels and Σ losses / number of losses for
    probabilities; NaN if there is no loss to be averaged.

    Args:
        outputs: logits [N, d1, ..., C] or [C], classes on the **last** axis (PyTorch has them on
            axis 1).
        labels: integers [N, d1, ...], the classes from 0 to C - 1; or the probabilities of all
            classes, in the outputs' shape.
        weight: [C], one weight per class.
        ignore_index: an integer label that adds nothing to loss and gradient.
        reduction: ``"mean"`` or ``"sum"``, scalars, or ``"none"``, [N, d1, ...].
        label_smoothing: the share, from 0 to 1, of t that is spread evenly over the classes.

    Returns:
        The loss in the outputs' dtype. Under ``jax.jit``, where labels cannot be refused, a label
        that is no class makes it NaN.

    Raises:
        InputError: for wrong shapes and dtypes, and for a label that is no class.

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
    """Cross entropy of a network that ends in a softmax: -w[y] · log outputs[y].

    Tutorials that end a network in a softmax and train it by ``nn.CrossEntropyLoss`` mean this
    loss, but compute another one: that criterion takes probabilities for logits. To repeat their
    numbers use ``cross_entropy`` on the probabilities.

    The logarithm stops at -100 and the gradient at -1e12, as in PyTorch's
    ``binary_cross_entropy``, so both stay finite when a probability is 0. Where the logits are at
    hand, ``cross_entropy`` of them is the same loss, and more exact.

    Args:
        outputs: probabilities [N, d1, ..., C] or [C], classes on the **last** axis.
        labels: integers [N, d1, ...], the classes from 0 to C - 1.
        weight: [C], one weight per class.
        ignore_index: a label that adds nothing to loss and gradient.
        reduction: ``"mean"`` (divided by Σ w[y]), ``"sum"`` or ``"none"``.

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: as ``nll_loss``, and for outputs outside of [0, 1].

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
