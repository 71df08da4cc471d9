"""Losses over two classes, one output for both."""

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
    """Binary cross entropy of probabilities: -w (y log p + (1 - y) log(1 - p)).

    As in PyTorch, the logarithms stop at -100 and the gradient (p - y) / (p (1 - p)) divides by
    1e-12 at least. Where logits are at hand, ``binary_cross_entropy_with_logits`` is more exact.

    Args:
        outputs: probabilities p of any shape, mostly [B] or [B, 1].
        labels: y, from 0 to 1, in the outputs' shape; or [B] for outputs [B, 1]. Integers and
            truth values are converted.
        weight: of a shape that broadcasts to the outputs'.
        reduction: ``"mean"`` (divided by the number of elements), ``"sum"`` or ``"none"``.

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: for shapes that do not fit, and for outputs or labels outside of [0, 1] (under
            ``jax.jit`` such outputs make the loss NaN, and labels cannot be checked).

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
    """Binary cross entropy of logits: -w (v y log σ(x) + (1 - y) log(1 - σ(x))).

    Args:
        outputs: logits x of any shape, mostly [B] or [B, 1].
        labels: y, from 0 to 1, in the outputs' shape; or [B] for outputs [B, 1]. Integers and
            truth values are converted.
        weight: w, of a shape that broadcasts to the outputs'.
        reduction: ``"mean"`` (divided by the number of elements), ``"sum"`` or ``"none"``.
        pos_weight: v, the weight of the positive class, of a shape that broadcasts to the
            outputs': [C] for C independent labels on the last axis.

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: for shapes that do not fit.

    PyTorch: ``torch.nn.functional.binary_cross_entropy_with_logits``.
    """
    outputs = arguments.floating("outputs", outputs)
    labels = arguments.aligned("labels", labels, outputs)
    positive = labels
    if pos_weight is not None:
        positive = labels * arguments.broadcast("pos_weight", pos_weight, outputs)
    # -log σ(x) is softplus(-x) and -log(1 - σ(x)) softplus(x): no difference of large numbers.
    losses = positive * jax.nn.softplus(-outputs) + (1 - labels) * jax.nn.softplus(outputs)
    if weight is not None:
        losses = losses * arguments.broadcast("weight", weight, outputs)
    return reduce(losses, reduction)
