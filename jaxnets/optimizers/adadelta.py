"""Adadelta."""

import jax
import jax.numpy as jnp
import optax

from jaxnets.arrays import check_number
from jaxnets.optimizers.scalars import Hyperparameter
from jaxnets.optimizers.template import Coefficients, Slots, from_rule, moving_average, zeros


def adadelta(
    lr: Hyperparameter = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """``torch.optim.Adadelta``.

    With g the gradient plus λ p: v ← ρ v + (1 - ρ) g², Δ = g √(a + ε) / √(v + ε),
    a ← ρ a + (1 - ρ) Δ² and p ← p - lr Δ.

    Slots: ``square_avg`` (v), ``acc_delta`` (a).

    Args:
        lr: the learning rate, a number or a schedule.
        rho: ρ.
        eps: ε.
        weight_decay: λ, the factor of the weight decay.
        maximize: whether to maximize the objective instead of minimizing it.

    Raises:
        InputError: if a value is out of range.
    """
    rho = check_number("rho", rho, least=0, most=1)
    eps = check_number("eps", eps, least=0)

    def coefficients(taken: jax.Array, lr: jax.Array) -> Coefficients:
        return {"lr": lr}

    def rule(g: jax.Array, kept: Slots, k: Coefficients) -> tuple[jax.Array, Slots]:
        square = moving_average(kept["square_avg"], g * g, rho)
        delta = jnp.sqrt(kept["acc_delta"] + eps) / jnp.sqrt(square + eps) * g
        accumulated = moving_average(kept["acc_delta"], delta * delta, rho)
        return -k["lr"] * delta, {"square_avg": square, "acc_delta": accumulated}

    return from_rule(
        rule,
        coefficients,
        dict.fromkeys(["square_avg", "acc_delta"], zeros),
        lr=lr,
        weight_decay=weight_decay,
        maximize=maximize,
    )
