"""Stochastic gradient descent, with momentum."""

import jax
import jax.numpy as jnp
import optax

from jaxnets.arrays import InputError, check_bool, check_number
from jaxnets.optimizers import checks
from jaxnets.optimizers.scalars import Hyperparameter, at
from jaxnets.optimizers.template import Coefficients, Slots, from_rule, zeros


def sgd(
    lr: Hyperparameter = 1e-3,
    momentum: Hyperparameter = 0,
    dampening: float = 0,
    weight_decay: float = 0,
    nesterov: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """``torch.optim.SGD``.

    With g the gradient plus λ p: b ← μ b + (1 - τ) g, or b ← g in the first step. Then
    p ← p - lr b, or with Nesterov momentum p ← p - lr (g + μ b).

    Slots: with momentum, ``momentum_buffer`` (b).

    Args:
        lr: the learning rate, a number or a schedule.
        momentum: μ, a number or a schedule.
        dampening: τ.
        weight_decay: λ, the factor of the weight decay.
        nesterov: whether to use Nesterov momentum.
        maximize: whether to maximize the objective instead of minimizing it.

    Raises:
        InputError: if a value is negative or not finite, or ``nesterov`` is set without momentum or
            with dampening.
    """
    momentum = checks.number_or_schedule("momentum", momentum)
    dampening = check_number("dampening", dampening)
    if check_bool("nesterov", nesterov) and (not momentum or dampening):
        got = f"momentum {momentum} and dampening {dampening}"
        raise InputError("nesterov", "False without momentum or with dampening", f"True with {got}")

    def coefficients(taken: jax.Array, lr: jax.Array) -> Coefficients:
        # In PyTorch the first buffer is the gradient, without dampening; here it starts from zero.
        share = jnp.where(taken == 0, 1.0, 1 - dampening) if dampening else 1.0
        return {"lr": lr, "momentum": at(momentum, taken), "share": share}

    def rule(g: jax.Array, kept: Slots, k: Coefficients) -> tuple[jax.Array, Slots]:
        if not momentum:
            return -k["lr"] * g, {}
        buffer = k["momentum"] * kept["momentum_buffer"] + k["share"] * g
        step = g + k["momentum"] * buffer if nesterov else buffer
        return -k["lr"] * step, {"momentum_buffer": buffer}

    return from_rule(
        rule,
        coefficients,
        {"momentum_buffer": zeros} if momentum else {},
        lr=lr,
        weight_decay=weight_decay,
        maximize=maximize,
    )
