"""Reductions of one loss per example or element: mean, sum or none."""

from typing import Literal

import jax
import jax.numpy as jnp

from jaxnets.arrays import check_choice

Reduction = Literal["mean", "sum", "none"]
"""What becomes of the single losses: their mean (the default), their sum, or nothing."""


def reduce(losses: jax.Array, reduction: str, total: jax.Array | int | None = None) -> jax.Array:
    """Reduces losses as PyTorch's criteria do; the mean of nothing is NaN, as in PyTorch.

    Args:
        losses: of any shape.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        total: what the mean divides by; the number of losses when it is not given.
    """
    check_choice("reduction", reduction, ("mean", "sum", "none"))
    if reduction == "none":
        return losses
    if reduction == "sum":
        return jnp.sum(losses)
    return jnp.sum(losses) / (losses.size if total is None else total)
