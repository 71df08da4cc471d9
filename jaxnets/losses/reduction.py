"""Reductions of one loss per example or element: mean, sum or none."""

from typing import Literal

import jax
import jax.numpy as jnp

from jaxnets.arrays import check_choice

Reduction = Literal["mean", "sum", "none"]
"""How losses are reduced: their mean (the default), their sum, or no reduction."""


def reduce(losses: jax.Array, reduction: str, total: jax.Array | int | None = None) -> jax.Array:
    """Reduces losses to their mean or sum; as in PyTorch, the mean of no losses is NaN.

    Args:
        losses: the losses, of any shape.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        total: the divisor of the mean; None for the number of losses.
    """
    check_choice("reduction", reduction, ("mean", "sum", "none"))
    if reduction == "none":
        return losses
    if reduction == "sum":
        return jnp.sum(losses)
    return jnp.sum(losses) / (losses.size if total is None else total)
