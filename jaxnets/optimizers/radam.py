"""Rectified Adam."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from jaxnets.arrays import check_number
from jaxnets.optimizers import checks
from jaxnets.optimizers.scalars import Hyperparameter, at, bias_correction
from jaxnets.optimizers.template import Coefficients, Slots, from_rule, moving_average, zeros


def radam(
    lr: Hyperparameter = 1e-3,
    betas: Sequence[Hyperparameter] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
    decoupled_weight_decay: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """``torch.optim.RAdam``.

    With m, m̂ and v as in ``adam``, ρ∞ = 2 / (1 - β₂) - 1 and
    ρₜ = ρ∞ - 2 t β₂ᵗ / (1 - β₂ᵗ): while ρₜ <= 5, p ← p - lr m̂; afterwards
    p ← p - lr rₜ m̂ √(1 - β₂ᵗ) / (√v + ε), where
    rₜ² = (ρₜ - 4) (ρₜ - 2) ρ∞ / ((ρ∞ - 4) (ρ∞ - 2) ρₜ).

    Slots: ``exp_avg`` (m), ``exp_avg_sq`` (v).

    Args:
        lr: the learning rate, a number or a schedule.
        betas: β₁ and β₂; β₁ may be a schedule.
        eps: ε.
        weight_decay: λ, the factor of the weight decay.
        decoupled_weight_decay: whether weight decay is decoupled as in AdamW, p ← p - lr λ p.
        maximize: whether to maximize the objective instead of minimizing it.

    Raises:
        InputError: if a value is out of range.
    """
    beta1, beta2 = checks.two_betas(betas)
    eps = check_number("eps", eps, least=0)
    longest = 2 / (1 - beta2) - 1  # ρ∞

    def coefficients(taken: jax.Array, lr: jax.Array) -> Coefficients:
        step = (taken + 1).astype(lr.dtype)
        beta = at(beta1, taken)
        length = _length(beta2, step)
        rectified = length > 5  # always False if ρ∞ <= 5
        # The limits keep the square roots positive, so that no value is NaN before rectification.
        long, limit = jnp.maximum(length, 5), max(longest, 5)
        rect = (long - 4) * (long - 2) * limit / ((limit - 4) * (limit - 2) * long)
        factor = jnp.where(rectified, jnp.sqrt(rect * bias_correction(beta2, step)), 1)
        return {
            "beta1": beta,
            "lr": lr * factor / bias_correction(beta, step),
            "rectified": rectified,
        }

    def rule(g: jax.Array, kept: Slots, k: Coefficients) -> tuple[jax.Array, Slots]:
        mean = moving_average(kept["exp_avg"], g, k["beta1"])
        square = moving_average(kept["exp_avg_sq"], g * g, beta2)
        scale = jnp.where(k["rectified"], jnp.sqrt(square) + eps, 1)
        return -k["lr"] * mean / scale, {"exp_avg": mean, "exp_avg_sq": square}

    return from_rule(
        rule,
        coefficients,
        dict.fromkeys(["exp_avg", "exp_avg_sq"], zeros),
        lr=lr,
        weight_decay=weight_decay,
        maximize=maximize,
        decoupled=decoupled_weight_decay,
    )


def _length(beta: float, step: jax.Array) -> jax.Array:
    """Computes ρₜ = ρ∞ - 2 t βᵗ / (1 - βᵗ) accurately in float32.

    In the first steps ρₜ is a small difference of two large numbers, and the form of the update
    depends on whether ρₜ exceeds 5. With λ = -log β and y = λ t / 2, ρₜ is
    (ρ∞ - 2/λ) + t - (2/λ) (y coth y - 1), in which all terms are small if ρₜ is small. For small y,
    y coth y - 1 is computed by its series.
    """
    if beta == 0:
        return jnp.ones_like(step)
    rate = -math.log(beta)
    y = step * (rate / 2)
    series = y * y * (1 / 3 - y * y * (1 / 45 - y * y * (2 / 945 - y * y / 4725)))
    bend = jnp.where(y < 0.1, series, y / jnp.tanh(y) - 1)
    return (2 / (1 - beta) - 1 - 2 / rate) + step - (2 / rate) * bend
