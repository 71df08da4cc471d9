"""Adagrad."""

from functools import partial

import jax
import jax.numpy as jnp
import optax

from jaxnets.arrays import check_number
from jaxnets.optimizers.scalars import Hyperparameter
from jaxnets.optimizers.template import Coefficients, Slots, from_rule


def adagrad(
    lr: Hyperparameter = 1e-2,
    lr_decay: float = 0,
    weight_decay: float = 0,
    initial_accumulator_value: float = 0,
    eps: float = 1e-10,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """``torch.optim.Adagrad``.

    With g the gradient plus λ p: s ← s + g², then p ← p - lr / (1 + (t - 1) η) g / (√s + ε).

    Slots: ``sum`` (s).

    Args:
        lr: the learning rate, a number or a schedule.
        lr_decay: η, the decay of the learning rate.
        weight_decay: λ, the factor of the weight decay.
        initial_accumulator_value: the initial value of s.
        eps: ε.
        maximize: whether to maximize the objective instead of minimizing it.

    Raises:
        InputError: if a value is out of range.
    """
    lr_decay = check_number("lr_decay", lr_decay, least=0)
    start = check_number("initial_accumulator_value", initial_accumulator_value, least=0)
    eps = check_number("eps", eps, least=0)

    def coefficients(taken: jax.Array, lr: jax.Array) -> Coefficients:
        return {"lr": lr / (1 + taken.astype(lr.dtype) * lr_decay)}

    def rule(g: jax.Array, kept: Slots, k: Coefficients) -> tuple[jax.Array, Slots]:
        total = kept["sum"] + g * g
        return -k["lr"] * g / (jnp.sqrt(total) + eps), {"sum": total}

    return from_rule(
        rule,
        coefficients,
        {"sum": partial(jnp.full_like, fill_value=start)},
        lr=lr,
        weight_decay=weight_decay,
        maximize=maximize,
    )
