"""Adamax, the variant of Adam with the infinity norm."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from jaxnets.arrays import check_number
from jaxnets.optimizers import checks
from jaxnets.optimizers.scalars import Hyperparameter, at, bias_correction
from jaxnets.optimizers.template import Coefficients, Slots, from_rule, moving_average, zeros


def adamax(
    lr: Hyperparameter = 2e-3,
    betas: Sequence[Hyperparameter] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """``torch.optim.Adamax``.

    With g the gradient plus λ p: m ← β₁ m + (1 - β₁) g and u ← max(β₂ u, |g| + ε), then
    p ← p - lr m / ((1 - β₁ᵗ) u).

    Slots: ``exp_avg`` (m), ``exp_inf`` (u).

    Args:
        lr: the learning rate, a number or a schedule.
        betas: β₁ and β₂; β₁ may be a schedule.
        eps: ε.
        weight_decay: λ, the factor of the weight decay.
        maximize: whether to maximize the objective instead of minimizing it.

    Raises:
        InputError: if a value is out of range.
    """
    beta1, beta2 = checks.two_betas(betas)
    eps = check_number("eps", eps, least=0)

    def coefficients(taken: jax.Array, lr: jax.Array) -> Coefficients:
        beta = at(beta1, taken)
        return {"beta1": beta, "lr": lr / bias_correction(beta, (taken + 1).astype(lr.dtype))}

    def rule(g: jax.Array, kept: Slots, k: Coefficients) -> tuple[jax.Array, Slots]:
        mean = moving_average(kept["exp_avg"], g, k["beta1"])
        largest = jnp.maximum(beta2 * kept["exp_inf"], jnp.abs(g) + eps)
        return -k["lr"] * mean / largest, {"exp_avg": mean, "exp_inf": largest}

    return from_rule(
        rule,
        coefficients,
        dict.fromkeys(["exp_avg", "exp_inf"], zeros),
        lr=lr,
        weight_decay=weight_decay,
        maximize=maximize,
    )
