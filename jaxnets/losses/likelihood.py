"""Negative log-likelihoods of labels under a normal or Poisson distribution."""

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
    """Computes the negative log-likelihood of a normal distribution: ½ (log v + (x - y)² / v).

    Args:
        outputs: the means x, of any shape.
        labels: y, in the outputs' shape; or [B] for outputs [B, 1].
        var: the variances v, in the outputs' shape; or with one axis of size 1 or without the last
            axis, for a variance of several outputs; or one number.
        full: whether to add ½ log 2π.
        eps: the smallest variance. Smaller ones are replaced by ``eps``, but keep their gradient.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: if the shapes do not match, or a variance is negative.

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
    # As in PyTorch, the gradient passes through the lower limit.
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
    arguments.check_values("var", var, "numbers >= 0", lambda values: values < 0)
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
    """Computes the negative log-likelihood of a Poisson distribution.

    The loss is eˣ - y x if the outputs are logarithms of rates, and x - y log(x + ε) otherwise.

    Args:
        outputs: x, the logarithm of the rate, or the rate if ``log_input`` is False, of any shape.
        labels: the counts y, in the outputs' shape; or [B] for outputs [B, 1].
        log_input: whether the outputs are logarithms of rates.
        full: whether to add Stirling's approximation y log y - y + ½ log(2π y) where y > 1.
        eps: ε, which is added to a rate before its logarithm is taken.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Returns:
        The loss in the outputs' dtype.

    Raises:
        InputError: if the shapes differ.

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
