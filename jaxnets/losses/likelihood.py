"""Negative log-likelihoods of numbers under a distribution that a network describes."""

import math

import jax
import jax.numpy as jnp

from jaxnets.arrays import ArrayLike, InputError, check_bool, check_number
from jaxnets.losses import arguments
from jaxnets.losses.reduction import Reduction, reduce


def gaussian_nll_loss(
    outputs: ArrayLike,
    labels: ArrayLike,
    var: ArrayLike | float,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: Reduction = "mean",
) -> jax.Array:
    """Negative log-likelihood of a normal distribution: ½ (log v + (x - y)² / v).

    Args:
        outputs: the means x, of any shape.
        labels: y, in the outputs' shape; or [B] for outputs [B, 1].
        var: the variances v, in the outputs' shape, with one axis of size 1 or without the last
            axis where a variance is for several outputs; or one number.
        full: whether ½ log 2π is added.
        eps: the least variance; a smaller one counts as this one, with its gradient.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: for shapes that do not fit, and for a negative variance.

    PyTorch: ``torch.nn.functional.gaussian_nll_loss``.

    Examples:
        >>> means, labels = jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0])
        >>> print(gaussian_nll_loss(means, labels, jnp.ones(2), reduction="none"))
        [0. 2.]
    """
    outputs = arguments.floating("outputs", outputs)
    labels = arguments.aligned("labels", labels, outputs)
    variances = _variances(var, outputs)
    eps = check_number("eps", eps, above=0)
    # The least variance has the slope of the variance that it stands for.
    straight = eps + (variances - jax.lax.stop_gradient(variances))
    variances = jnp.where(variances < eps, straight, variances)
    losses = (jnp.log(variances) + jnp.square(outputs - labels) / variances) / 2
    if check_bool("full", full):
        losses = losses + 0.5 * math.log(2 * math.pi)
    return reduce(losses, reduction)


def _variances(var: ArrayLike | float, outputs: jax.Array) -> jax.Array:
    if isinstance(var, int | float):
        return jnp.full_like(outputs, check_number("var", var, least=0))
    variances = arguments.real("var", var, outputs.dtype)
    arguments.refuse("var", var, "numbers >= 0", lambda values: values < 0)
    if variances.shape == outputs.shape[:-1] and outputs.ndim:
        variances = variances[..., None]
    pairs = list(zip(variances.shape, outputs.shape, strict=False))
    single = [size for size, other in pairs if size != other]
    if variances.ndim != outputs.ndim or single not in ([], [1]):
        expected = f"the outputs' shape {outputs.shape}, one axis of 1, or no last axis"
        raise InputError("var", expected, str(variances.shape))
    return variances


def poisson_nll_loss(
    outputs: ArrayLike,
    labels: ArrayLike,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: Reduction = "mean",
) -> jax.Array:
    """Negative log-likelihood of a Poisson distribution: eˣ - y x, or x - y log(x + eps).

    Args:
        outputs: x, the logarithm of the rate or the rate, of any shape.
        labels: the counts y, in the outputs' shape; or [B] for outputs [B, 1].
        log_input: whether the outputs are logarithms.
        full: whether Stirling's y log y - y + ½ log(2π y) is added where y > 1.
        eps: added to a rate before its logarithm.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: for shapes that differ.

    PyTorch: ``torch.nn.functional.poisson_nll_loss``.

    Examples:
        >>> print(poisson_nll_loss(jnp.zeros(1), jnp.array([3])))
        1.0
    """
    outputs = arguments.floating("outputs", outputs)
    labels = arguments.aligned("labels", labels, outputs)
    eps = check_number("eps", eps, least=0)
    if check_bool("log_input", log_input):
        losses = jnp.exp(outputs) - labels * outputs
    else:
        losses = outputs - labels * jnp.log(outputs + eps)
    if check_bool("full", full):
        many = labels > 1
        counts = jnp.where(many, labels, 1)
        stirling = counts * jnp.log(counts) - counts + 0.5 * jnp.log(2 * math.pi * counts)
        losses = losses + jnp.where(many, stirling, 0)
    return reduce(losses, reduction)
