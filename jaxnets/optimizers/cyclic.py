"""Cyclic schedules of the learning rate, and of the momentum in the opposite direction."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets.arrays import InputError, check_choice, check_number, check_positive
from jaxnets.optimizers.scalars import Schedule, at, integer, power, scalar

#: A function from the number of a cycle or step to the factor of the height of the cycle.
Scale = Callable[[jax.Array], ArrayLike]


def cyclic_lr(
    base_lr: float,
    max_lr: float,
    step_size_up: int = 2000,
    step_size_down: int | None = None,
    mode: str = "triangular",
    gamma: float = 1.0,
    scale_fn: Scale | None = None,
    scale_mode: str = "cycle",
) -> Schedule:
    """``torch.optim.lr_scheduler.CyclicLR`` for the learning rate.

    In each cycle the learning rate increases linearly from base_lr to
    base_lr + (max_lr - base_lr) s, and decreases again. The factor s is 1 with ``"triangular"``,
    2^(1 - n) in cycle n, from 1, with ``"triangular2"``, and γᵗ after t steps with ``"exp_range"``.

    By default PyTorch's scheduler also cycles the momentum. For the same schedule use
    ``sgd(cyclic_lr(0.01, 0.1), momentum=cyclic_momentum())``.

    Args:
        base_lr: the lower limit.
        max_lr: the upper limit.
        step_size_up: the number of steps in which the learning rate increases.
        step_size_down: the number of steps in which it decreases; None for ``step_size_up``.
        mode: ``"triangular"``, ``"triangular2"`` or ``"exp_range"``.
        gamma: γ, positive.
        scale_fn: a function that returns s, instead of ``mode``. The function is compiled, so use
            ``jnp.where`` instead of ``if``.
        scale_mode: the argument of ``scale_fn``: ``"cycle"`` for the number of the cycle, from 1,
            or ``"iterations"`` for the number of steps, from 0.

    Returns:
        A schedule, a function from the number of steps taken to the learning rate.

    Raises:
        InputError: if a value is out of range; on a call, if scale_fn does not return a number.
    """
    base, highest = (
        check_number("base_lr", base_lr, least=0),
        check_number("max_lr", max_lr, least=0),
    )
    height = _height(step_size_up, step_size_down, mode, gamma, scale_fn, scale_mode)
    return lambda count: base + (highest - base) * height(integer(count))


def cyclic_momentum(
    step_size_up: int = 2000,
    step_size_down: int | None = None,
    mode: str = "triangular",
    gamma: float = 1.0,
    scale_fn: Scale | None = None,
    scale_mode: str = "cycle",
    base_momentum: float = 0.8,
    max_momentum: float = 0.9,
) -> Schedule:
    """``torch.optim.lr_scheduler.CyclicLR`` for the momentum or Adam's β₁; see ``cyclic_lr``.

    Args:
        step_size_up: the number of steps in which the momentum decreases.
        step_size_down: the number of steps in which it increases; None for ``step_size_up``.
        mode: see ``cyclic_lr``.
        gamma: see ``cyclic_lr``.
        scale_fn: see ``cyclic_lr``.
        scale_mode: see ``cyclic_lr``.
        base_momentum: the lower limit, where the learning rate is highest.
        max_momentum: the upper limit.

    Returns:
        A schedule, a function from the number of steps taken to the momentum.

    Raises:
        InputError: if a value is out of range; on a call, if scale_fn does not return a number.
    """
    lowest = check_number("base_momentum", base_momentum, least=0, most=1)
    highest = check_number("max_momentum", max_momentum, least=0, most=1)
    height = _height(step_size_up, step_size_down, mode, gamma, scale_fn, scale_mode)
    return lambda count: highest - (highest - lowest) * height(integer(count))


def _height(
    step_size_up: int,
    step_size_down: int | None,
    mode: str,
    gamma: float,
    scale_fn: Scale | None,
    scale_mode: str,
) -> Callable[[jax.Array], jax.Array]:
    """Returns a function from the number of steps to the height in the cycle, from 0 to 1."""
    up = check_positive("step_size_up", step_size_up)
    down = up if step_size_down is None else check_positive("step_size_down", step_size_down)
    check_positive("step_size_up + step_size_down", up + down)
    check_choice("mode", mode, ("triangular", "triangular2", "exp_range"))
    gamma = check_number("gamma", gamma, above=0)
    check_choice("scale_mode", scale_mode, ("cycle", "iterations"))
    if scale_fn is not None and not callable(scale_fn):
        raise InputError("scale_fn", "a function of the number of cycles or steps", scale_fn)

    def scale(count: jax.Array, cycle: jax.Array) -> ArrayLike:
        if scale_fn is not None:
            return at(scale_fn, cycle if scale_mode == "cycle" else count)
        if mode == "exp_range":
            return power(gamma, scalar(count))
        return power(0.5, scalar(cycle - 1)) if mode == "triangular2" else 1.0

    def height(count: jax.Array) -> jax.Array:
        within = count % (up + down)
        share = jnp.where(within <= up, scalar(within) / up, scalar(up + down - within) / down)
        return scalar(share * scale(count, 1 + count // (up + down)))

    return height
