"""Resilient backpropagation."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from jaxnets.arrays import InputError
from jaxnets.optimizers import checks
from jaxnets.optimizers.scalars import Hyperparameter, at, integer
from jaxnets.optimizers.template import Coefficients, Slots, from_rule, zeros


def rprop(
    lr: Hyperparameter = 1e-2,
    etas: Sequence[float] = (0.5, 1.2),
    step_sizes: Sequence[float] = (1e-6, 50),
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """``torch.optim.Rprop``.

    Each element has a step size s, initially lr. If the gradient g keeps its sign, s ← s η₊; if it
    changes its sign, s ← s η₋ and g ← 0. Then p ← p - s sign(g).

    Slots: ``prev`` (g), ``step_size`` (s).

    Args:
        lr: the first step size, a number or a schedule; later steps do not use it.
        etas: η₋ and η₊.
        step_sizes: the smallest and the largest step size.
        maximize: whether to maximize the objective instead of minimizing it.

    Raises:
        InputError: if a value is out of range.
    """
    lr = checks.number_or_schedule("lr", lr)
    shrink, grow = checks.numbers("etas", etas, 2, "numbers η₋ in (0, 1) and η₊ > 1")
    if not 0 < shrink < 1 < grow:
        raise InputError("etas", "numbers η₋ in (0, 1) and η₊ > 1", etas)
    ends = "the smallest and the largest step size"
    least, largest = checks.numbers("step_sizes", step_sizes, 2, ends)
    if not 0 <= least <= largest:
        raise InputError("step_sizes", ends, step_sizes)

    def coefficients(taken: jax.Array, lr: jax.Array) -> Coefficients:
        return {"first": taken == 0, "lr": lr}

    def rule(g: jax.Array, kept: Slots, k: Coefficients) -> tuple[jax.Array, Slots]:
        # The sign is computed from the signs of both factors, because XLA flushes a small product
        # to 0 earlier than PyTorch does. The product is only needed for NaN.
        product = g * kept["prev"]
        sign = jnp.where(jnp.isnan(product), product, jnp.sign(g) * jnp.sign(kept["prev"]))
        factor = jnp.where(sign > 0, grow, jnp.where(sign < 0, shrink, 1 + sign))
        # set_learning_rate may have changed the learning rate since init.
        size = jnp.where(k["first"], k["lr"], kept["step_size"])
        size = jnp.clip(size * factor, least, largest)
        g = jnp.where(sign < 0, 0, g)
        return -size * jnp.sign(g), {"prev": g, "step_size": size}

    def first(parameter: jax.Array) -> jax.Array:
        return jnp.full_like(parameter, at(lr, integer(0)))

    slots = {"prev": zeros, "step_size": first}
    return from_rule(rule, coefficients, slots, lr=lr, maximize=maximize)
