"""Regression losses: squared and absolute errors, and combinations of both."""

import jax
import jax.numpy as jnp

from jaxnets.arrays import ArrayLike, check_number
from jaxnets.losses import arguments
from jaxnets.losses.reduction import Reduction, reduce


def mse_loss(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    """Computes the squared error (L2): w (x - y)².

    Args:
        outputs: x, of any shape.
        labels: y, in the outputs' shape; or [B] for outputs [B, 1]. Integers are converted.
        weight: w, one weight per element, in the shape of the labels.
        reduction: ``"mean"`` (divided by Σ w, or by the number of elements), ``"sum"`` or
            ``"none"``.

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: if the shapes differ. Unlike in PyTorch, labels are not broadcast.

    PyTorch: ``torch.nn.functional.mse_loss``.

    Examples:
        >>> weight = jnp.array([3.0, 1.0])
        >>> print(mse_loss(jnp.array([1.0, 2.0]), jnp.array([0.0, 0.0]), weight=weight))
        1.75
    """
    return _weighted(jnp.square(_errors(outputs, labels)), weight, reduction)


def l1_loss(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
) -> jax.Array:
    """Computes the absolute error (L1): w |x - y|, with gradient 0 where x = y.

    Args:
        outputs: x, of any shape.
        labels: y, in the outputs' shape; or [B] for outputs [B, 1]. Integers are converted.
        weight: w, one weight per element, in the shape of the labels.
        reduction: ``"mean"`` (divided by Σ w, or by the number of elements), ``"sum"`` or
            ``"none"``.

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: if the shapes differ. Unlike in PyTorch, labels are not broadcast.

    PyTorch: ``torch.nn.functional.l1_loss``.
    """
    return _weighted(_distances(outputs, labels), weight, reduction)


def smooth_l1_loss(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    reduction: Reduction = "mean",
    beta: float = 1.0,
) -> jax.Array:
    """Computes the smooth absolute error: d²/(2β) where d = |x - y| < β, otherwise d - β/2.

    Args:
        outputs: x, of any shape.
        labels: y, in the outputs' shape; or [B] for outputs [B, 1]. Integers are converted.
        reduction: ``"mean"`` (divided by the number of elements), ``"sum"`` or ``"none"``.
        beta: β ≥ 0, the upper limit of the quadratic part; with 0 this is ``l1_loss``.

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: if the shapes differ, or beta is negative.

    PyTorch: ``torch.nn.functional.smooth_l1_loss``.
    """
    beta = check_number("beta", beta, least=0)
    distances = _distances(outputs, labels)
    if beta == 0:
        return reduce(distances, reduction)
    squared, linear = _split(distances, beta)
    return reduce(squared * (squared / beta) / 2 + linear, reduction)


def huber_loss(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    reduction: Reduction = "mean",
    delta: float = 1.0,
) -> jax.Array:
    """Computes the Huber loss: w d²/2 where d = |x - y| < δ, otherwise w δ (d - δ/2).

    Args:
        outputs: x, of any shape.
        labels: y, in the outputs' shape; or [B] for outputs [B, 1]. Integers are converted.
        weight: w, one weight per element, in the shape of the labels.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``. As in PyTorch, the mean divides by the
            number of elements also with weights, unlike in ``mse_loss`` and ``l1_loss``.
        delta: δ > 0, the upper limit of the quadratic part.

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: if the shapes differ, or delta is not positive.

    PyTorch: ``torch.nn.functional.huber_loss``.
    """
    delta = check_number("delta", delta, above=0)
    squared, linear = _split(_distances(outputs, labels), delta)
    losses = jnp.square(squared) / 2 + delta * linear
    if weight is not None:
        losses = losses * arguments.aligned("weight", weight, losses)
    return reduce(losses, reduction)


def _errors(outputs: ArrayLike, labels: ArrayLike) -> jax.Array:
    outputs = arguments.floating("outputs", outputs)
    return outputs - arguments.aligned("labels", labels, outputs)


def _distances(outputs: ArrayLike, labels: ArrayLike) -> jax.Array:
    errors = _errors(outputs, labels)
    # Where outputs and labels are equal the slope is 0, as in PyTorch; jnp.abs has slope 1.
    return errors * jax.lax.stop_gradient(jnp.sign(errors))


def _weighted(losses: jax.Array, weight: ArrayLike | None, reduction: str) -> jax.Array:
    if weight is None:
        return reduce(losses, reduction)
    weights = arguments.aligned("weight", weight, losses)
    return reduce(losses * weights, reduction, jnp.sum(weights))


def _split(distances: jax.Array, limit: float) -> tuple[jax.Array, jax.Array]:
    # Splits each distance into the part up to the limit and the rest. A where over two formulas
    # could have NaN gradients, from 0 times an infinite gradient of the other formula.
    within = jnp.minimum(distances, limit)
    return within, distances - within
