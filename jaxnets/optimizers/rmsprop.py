"""RMSprop."""

import jax
import jax.numpy as jnp
import optax

from jaxnets.arrays import check_bool, check_number
from jaxnets.optimizers import checks
from jaxnets.optimizers.scalars import Hyperparameter, at
from jaxnets.optimizers.template import Coefficients, Slots, from_rule, moving_average, zeros


def rmsprop(
    lr: Hyperparameter = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0,
    momentum: Hyperparameter = 0,
    centered: bool = False,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """``torch.optim.RMSprop``.

    With x the gradient plus λ p: v ← α v + (1 - α) x², and d = √v + ε. If ``centered``,
    c ← α c + (1 - α) x and d = √(v - c²) + ε. Then p ← p - lr x / d, or with momentum
    b ← μ b + x / d and p ← p - lr b.

    Slots: ``square_avg`` (v), with momentum ``momentum_buffer`` (b), and if ``centered``
    ``grad_avg`` (c).

    Args:
        lr: the learning rate, a number or a schedule.
        alpha: α.
        eps: ε.
        weight_decay: λ, the factor of the weight decay.
        momentum: μ, a number or a schedule.
        centered: whether to divide by the standard deviation of the gradient, that is, to subtract
            the squared mean from the second moment.
        maximize: whether to maximize the objective instead of minimizing it.

    Raises:
        InputError: if a value is out of range.
    """
    alpha = check_number("alpha", alpha, least=0, most=1)
    eps = check_number("eps", eps, least=0)
    centered = check_bool("centered", centered)
    momentum = checks.number_or_schedule("momentum", momentum)

    def coefficients(taken: jax.Array, lr: jax.Array) -> Coefficients:
        return {"lr": lr, "momentum": at(momentum, taken)}

    def rule(g: jax.Array, kept: Slots, k: Coefficients) -> tuple[jax.Array, Slots]:
        square = moving_average(kept["square_avg"], g * g, alpha)
        new, variance = {"square_avg": square}, square
        if centered:
            mean = moving_average(kept["grad_avg"], g, alpha)
            new["grad_avg"] = mean
            # Rounding can make the variance of a constant gradient negative, NaN in PyTorch.
            variance = jnp.maximum(square - mean * mean, 0)
        step = g / (jnp.sqrt(variance) + eps)
        if momentum:
            step = k["momentum"] * kept["momentum_buffer"] + step
            new["momentum_buffer"] = step
        return -k["lr"] * step, new

    names = ["square_avg"] + ["momentum_buffer"] * bool(momentum) + ["grad_avg"] * centered
    return from_rule(
        rule,
        coefficients,
        dict.fromkeys(names, zeros),
        lr=lr,
        weight_decay=weight_decay,
        maximize=maximize,
    )
