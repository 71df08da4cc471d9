"""Adam, AdamW and AMSGrad."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from jaxnets.arrays import check_bool, check_number
from jaxnets.optimizers import checks
from jaxnets.optimizers.scalars import Hyperparameter, at, bias_correction
from jaxnets.optimizers.template import Coefficients, Slots, from_rule, moving_average, zeros


def adam(
    lr: Hyperparameter = 1e-3,
    betas: Sequence[Hyperparameter] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
    decoupled_weight_decay: bool = False,
) -> optax.GradientTransformation:
    """``torch.optim.Adam``.

    With g the gradient plus λ p: m ← β₁ m + (1 - β₁) g and v ← β₂ v + (1 - β₂) g², then
    p ← p - lr m̂ / (√v̂ + ε), where m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ).
    AMSGrad replaces v by the largest v so far, before the bias correction.

    Slots: ``exp_avg`` (m), ``exp_avg_sq`` (v) and, with AMSGrad, ``max_exp_avg_sq``.

    Args:
        lr: the learning rate, a number or a schedule.
        betas: β₁ and β₂; β₁ may be a schedule.
        eps: ε.
        weight_decay: λ, the factor of the weight decay.
        amsgrad: whether to use the variant AMSGrad.
        maximize: whether to maximize the objective instead of minimizing it.
        decoupled_weight_decay: whether weight decay is decoupled as in AdamW, p ← p - lr λ p.

    Raises:
        InputError: if a value is out of range.
    """
    beta1, beta2 = checks.two_betas(betas)
    eps = check_number("eps", eps, least=0)
    amsgrad = check_bool("amsgrad", amsgrad)

    def coefficients(taken: jax.Array, lr: jax.Array) -> Coefficients:
        step = (taken + 1).astype(lr.dtype)
        beta = at(beta1, taken)
        # m̂ / (√v̂ + ε) = (root / bias) m / (√v + ε root): one division per element, not three.
        root = jnp.sqrt(bias_correction(beta2, step))
        return {"beta1": beta, "lr": lr * root / bias_correction(beta, step), "eps": eps * root}

    def rule(g: jax.Array, kept: Slots, k: Coefficients) -> tuple[jax.Array, Slots]:
        mean = moving_average(kept["exp_avg"], g, k["beta1"])
        square = moving_average(kept["exp_avg_sq"], g * g, beta2)
        new = {"exp_avg": mean, "exp_avg_sq": square}
        if amsgrad:
            square = jnp.maximum(kept["max_exp_avg_sq"], square)
            new["max_exp_avg_sq"] = square
        return -k["lr"] * mean / (jnp.sqrt(square) + k["eps"]), new

    names = ["exp_avg", "exp_avg_sq"] + ["max_exp_avg_sq"] * amsgrad
    return from_rule(
        rule,
        coefficients,
        dict.fromkeys(names, zeros),
        lr=lr,
        weight_decay=weight_decay,
        maximize=maximize,
        decoupled=decoupled_weight_decay,
    )


def adamw(
    lr: Hyperparameter = 1e-3,
    betas: Sequence[Hyperparameter] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """``torch.optim.AdamW``: ``adam`` with decoupled weight decay, p ← p - lr λ p.

    Args:
        lr: the learning rate, a number or a schedule.
        betas: β₁ and β₂; β₁ may be a schedule.
        eps: ε.
        weight_decay: λ, the factor of the weight decay.
        amsgrad: whether to use the variant AMSGrad.
        maximize: whether to maximize the objective instead of minimizing it.

    Raises:
        InputError: if a value is out of range.
    """
    return adam(
        lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True
    )
