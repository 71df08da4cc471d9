"""NAdam: Adam with Nesterov momentum."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from jaxnets.arrays import check_number
from jaxnets.optimizers import checks
from jaxnets.optimizers.scalars import Hyperparameter, at, bias_correction, power, scalar
from jaxnets.optimizers.template import Coefficients, Slots, from_rule, moving_average, zeros


def nadam(
    lr: Hyperparameter = 2e-3,
    betas: Sequence[Hyperparameter] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
    momentum_decay: float = 4e-3,
    decoupled_weight_decay: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """``torch.optim.NAdam``.

    With m, v and v̂ as in ``adam``, μₜ = β₁ (1 - 0.96^(tψ) / 2) and Π the product of all μ up
    to t: p ← p - lr ((1 - μₜ) g / (1 - Π) + μₜ₊₁ m / (1 - Π μₜ₊₁)) / (√v̂ + ε).

    Slots: ``exp_avg`` (m), ``exp_avg_sq`` (v) and ``mu_product`` (Π), a scalar for each parameter
    in JAX's default floating dtype.

    Args:
        lr: the learning rate, a number or a schedule.
        betas: β₁ and β₂; β₁ may be a schedule.
        eps: ε.
        weight_decay: λ, the factor of the weight decay.
        momentum_decay: ψ, the decay of the momentum.
        decoupled_weight_decay: whether weight decay is decoupled as in AdamW, p ← p - lr λ p.
        maximize: whether to maximize the objective instead of minimizing it.

    Raises:
        InputError: if a value is out of range.
    """
    beta1, beta2 = checks.two_betas(betas)
    eps = check_number("eps", eps, least=0)
    momentum_decay = check_number("momentum_decay", momentum_decay, least=0)

    def coefficients(taken: jax.Array, lr: jax.Array) -> Coefficients:
        step = (taken + 1).astype(lr.dtype)
        beta = at(beta1, taken)
        root = jnp.sqrt(bias_correction(beta2, step))
        mu = beta * (1 - 0.5 * power(0.96, step * momentum_decay))
        mu_next = beta * (1 - 0.5 * power(0.96, (step + 1) * momentum_decay))
        return {
            "beta1": beta,
            "lr": lr * root,
            "eps": eps * root,
            "mu": mu,
            "mu_next": mu_next,
        }

    def rule(g: jax.Array, kept: Slots, k: Coefficients) -> tuple[jax.Array, Slots]:
        product = kept["mu_product"] * k["mu"]
        mean = moving_average(kept["exp_avg"], g, k["beta1"])
        square = moving_average(kept["exp_avg_sq"], g * g, beta2)
        of_gradient = -k["lr"] * (1 - k["mu"]) / (1 - product)
        of_mean = -k["lr"] * k["mu_next"] / (1 - product * k["mu_next"])
        update = (of_gradient * g + of_mean * mean) / (jnp.sqrt(square) + k["eps"])
        return update, {"exp_avg": mean, "exp_avg_sq": square, "mu_product": product}

    return from_rule(
        rule,
        coefficients,
        {
            "exp_avg": zeros,
            "exp_avg_sq": zeros,
            "mu_product": lambda parameter: scalar(1.0),
        },
        lr=lr,
        weight_decay=weight_decay,
        maximize=maximize,
        decoupled=decoupled_weight_decay,
    )
