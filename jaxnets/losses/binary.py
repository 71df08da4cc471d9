"""Binary cross entropy, of probabilities and of logits."""

import jax
import jax.numpy as jnp

from jaxnets.arrays import ArrayLike
from jaxnets.losses import arguments
from jaxnets.losses.logarithm import LEAST_LOGARITHM, least_divisor
from jaxnets.losses.reduction import Reduction, reduce


def binary_cross_entropy(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    """Computes binary cross entropy of probabilities: -w (y log p + (1 - y) log(1 - p)).

    As in PyTorch, the logarithms are at least -100, and the divisor in the gradient
    (p - y) / (p (1 - p)) is at least 1e-12. If you have logits,
    ``binary_cross_entropy_with_logits`` is more accurate.

    Args:
        outputs: probabilities p of any shape, usually [B] or [B, 1].
        labels: y, from 0 to 1, in the outputs' shape; or [B] for outputs [B, 1]. Integers and
            booleans are converted.
        weight: w, an array that broadcasts to the outputs' shape.
        reduction: ``"mean"`` (divided by the number of elements), ``"sum"`` or ``"none"``.

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: if the shapes do not match, or outputs or labels are outside of [0, 1]. Values
            are not checked under ``jax.jit``; such outputs then make the loss NaN.

    PyTorch: ``torch.nn.functional.binary_cross_entropy``.
    """
    arguments.probabilities("outputs", outputs)
    arguments.probabilities("labels", labels)
    outputs = arguments.floating("outputs", outputs)
    labels = arguments.aligned("labels", labels, outputs)
    losses = _binary_cross_entropy(outputs, labels)
    if weight is not None:
        losses = losses * arguments.broadcast("weight", weight, outputs)
    return reduce(losses, reduction)


def _clamped_logs(outputs: jax.Array) -> tuple[jax.Array, jax.Array]:
    no, yes = jnp.log1p(-outputs), jnp.log(outputs)
    return jnp.maximum(no, LEAST_LOGARITHM), jnp.maximum(yes, LEAST_LOGARITHM)


@jax.custom_jvp
def _binary_cross_entropy(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    no, yes = _clamped_logs(outputs)
    return (labels - 1) * no - labels * yes


@_binary_cross_entropy.defjvp
def _derivative(
    primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (outputs, labels), (outputs_tangent, labels_tangent) = primals, tangents
    no, yes = _clamped_logs(outputs)
    divisor = jnp.maximum(outputs * (1 - outputs), least_divisor(outputs.dtype))
    tangent = (outputs - labels) / divisor * outputs_tangent + (no - yes) * labels_tangent
    return (labels - 1) * no - labels * yes, tangent


def binary_cross_entropy_with_logits(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    pos_weight: ArrayLike | None = None,
) -> jax.Array:
    """Computes binary cross entropy of logits: -w (v y log σ(x) + (1 - y) log(1 - σ(x))).

    Args:
        outputs: logits x of any shape, usually [B] or [B, 1].
        labels: y, from 0 to 1, in the outputs' shape; or [B] for outputs [B, 1]. Integers and
            booleans are converted.
        weight: w, an array that broadcasts to the outputs' shape.
        reduction: ``"mean"`` (divided by the number of elements), ``"sum"`` or ``"none"``.
        pos_weight: v, the weight of the positive class, an array that broadcasts to the outputs'
            shape, such as [C] for C independent labels on the last axis.

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: if the shapes do not match.

    PyTorch: ``torch.nn.functional.binary_cross_entropy_with_logits``.
    """
    outputs = arguments.floating("outputs", outputs)
    labels = arguments.aligned("labels", labels, outputs)
    positive = labels
    if pos_weight is not None:
        positive = labels * arguments.broadcast("pos_weight", pos_weight, outputs)
    # -log σ(x) = softplus(-x) and -log(1 - σ(x)) = softplus(x), without cancellation.
    losses = positive * jax.nn.softplus(-outputs) + (1 - labels) * jax.nn.softplus(outputs)
    if weight is not None:
        losses = losses * arguments.broadcast("weight", weight, outputs)
    return reduce(losses, reduction)
