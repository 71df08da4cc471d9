"""Averaged stochastic gradient descent."""

import jax
import jax.numpy as jnp
import optax

from jaxnets.arrays import check_number
from jaxnets.optimizers import checks
from jaxnets.optimizers.scalars import Hyperparameter, at, integer, scalar
from jaxnets.optimizers.template import (
    Coefficients,
    Parameter,
    Slots,
    from_parameter_rule,
    zeros,
)


def asgd(
    lr: Hyperparameter = 1e-2,
    lambd: float = 1e-4,
    alpha: float = 0.75,
    t0: float = 1e6,
    weight_decay: float = 0,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """``torch.optim.ASGD``.

    With g the gradient plus λ p: p ← p (1 - ℓ η) - η g, then a ← a + μ (p - a). After step t,
    η ← lr / (1 + ℓ lr t)^α and μ ← 1 / max(1, t - t₀) for the next step. The first step has η = lr
    and μ = 1.

    Slots: ``ax`` (a), and ``eta`` (η) and ``mu`` (μ), scalars for each parameter in JAX's default
    floating dtype. As in PyTorch, the average a is only stored in the state.

    Args:
        lr: the learning rate, a number or a schedule.
        lambd: ℓ, the decay term.
        alpha: α, the power of the decay of η.
        t0: t₀, the number of steps before averaging starts.
        weight_decay: λ, the factor of the weight decay.
        maximize: whether to maximize the objective instead of minimizing it.

    Raises:
        InputError: if a value is out of range.
    """
    lr = checks.number_or_schedule("lr", lr)
    lambd = check_number("lambd", lambd, least=0)
    alpha, t0 = check_number("alpha", alpha), check_number("t0", t0)

    def coefficients(taken: jax.Array, lr: jax.Array) -> Coefficients:
        step = (taken + 1).astype(lr.dtype)
        return {
            "first": taken == 0,
            "lr": lr,
            "eta": lr / (1 + lambd * lr * step) ** alpha,
            "mu": 1 / jnp.maximum(step - t0, 1),
        }

    def rule(g: jax.Array, p: Parameter, kept: Slots, k: Coefficients) -> tuple[jax.Array, Slots]:
        # set_learning_rate may have changed the learning rate since init.
        eta, mu = jnp.where(k["first"], k["lr"], kept["eta"]), kept["mu"]
        update = -eta * (g + lambd * p.array)
        after = p.array + update
        average = jnp.where(mu == 1, after, kept["ax"] + mu * (after - kept["ax"]))
        return update, {"ax": average, "eta": jnp.asarray(k["eta"]), "mu": jnp.asarray(k["mu"])}

    return from_parameter_rule(
        rule,
        coefficients,
        {
            "ax": lambda parameter: zeros(parameter.array),
            "eta": lambda parameter: scalar(at(lr, integer(0))),
            "mu": lambda parameter: scalar(1.0),
        },
        lr=lr,
        weight_decay=weight_decay,
        maximize=maximize,
    )
