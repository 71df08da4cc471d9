"""Schedules that decrease the learning rate in steps, exponentially, linearly or by a power."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets.arrays import check_number, check_positive
from jaxnets.optimizers.checks import check_milestones
from jaxnets.optimizers.scalars import Scaled, Schedule, integer, power, scalar


def step_lr(lr: float, step_size: int, gamma: float = 0.1) -> Schedule:
    """``torch.optim.lr_scheduler.StepLR``: lr γ^(t // step_size).

    Args:
        lr: the learning rate at the start.
        step_size: the number of steps after which the learning rate is multiplied by γ again.
        gamma: γ, positive.

    Returns:
        A schedule, a function from the number t of steps taken to the learning rate.

    Raises:
        InputError: if a value is out of range.
    """
    lr, gamma = check_number("lr", lr, least=0), check_number("gamma", gamma, above=0)
    check_positive("step_size", step_size)
    return Scaled(lr, lambda count: power(gamma, scalar(integer(count) // step_size)))


def multi_step_lr(lr: float, milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    """``torch.optim.lr_scheduler.MultiStepLR``: lr γⁿ, where n milestones have been reached.

    Args:
        lr: the learning rate at the start.
        milestones: the numbers of steps, from 0, at which the learning rate is multiplied by γ. A
            milestone that occurs twice multiplies twice.
        gamma: γ, positive.

    Returns:
        A schedule, a function from the number of steps taken to the learning rate.

    Raises:
        InputError: if a value is out of range.
    """
    lr, gamma = check_number("lr", lr, least=0), check_number("gamma", gamma, above=0)
    counts = check_milestones(milestones)

    def factor(count: ArrayLike) -> jax.Array:
        reached = sum((scalar(integer(count) >= m) for m in counts), start=scalar(0))
        return power(gamma, reached)

    return Scaled(lr, factor)


def exponential_lr(lr: float, gamma: float) -> Schedule:
    """``torch.optim.lr_scheduler.ExponentialLR``: lr γᵗ.

    Args:
        lr: the learning rate at the start.
        gamma: γ, positive.

    Returns:
        A schedule, a function from the number t of steps taken to the learning rate.

    Raises:
        InputError: if a value is out of range.
    """
    lr, gamma = check_number("lr", lr, least=0), check_number("gamma", gamma, above=0)
    return Scaled(lr, lambda count: power(gamma, scalar(count)))


def polynomial_lr(lr: float, total_iters: int = 5, power: float = 1.0) -> Schedule:
    """``torch.optim.lr_scheduler.PolynomialLR``: lr (1 - t / total_iters)^power, then 0.

    Args:
        lr: the learning rate at the start.
        total_iters: the number of steps of the decay.
        power: the exponent, not negative.

    Returns:
        A schedule, a function from the number t of steps taken to the learning rate.

    Raises:
        InputError: if a value is out of range.
    """
    lr, exponent = check_number("lr", lr, least=0), check_number("power", power, least=0)
    check_positive("total_iters", total_iters)
    return Scaled(lr, lambda count: remaining(count, total_iters) ** exponent)


def linear_lr(
    lr: float, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
) -> Schedule:
    """``torch.optim.lr_scheduler.LinearLR``: lr times a factor that changes linearly.

    Args:
        lr: the learning rate that the factor multiplies.
        start_factor: the factor at the start, in (0, 1].
        end_factor: the factor at the end and from then on, in [0, 1].
        total_iters: the number of steps in which the factor changes.

    Returns:
        A schedule, a function from the number of steps taken to the learning rate.

    Raises:
        InputError: if a value is out of range.
    """
    lr = check_number("lr", lr, least=0)
    start = check_number("start_factor", start_factor, above=0, most=1)
    end = check_number("end_factor", end_factor, least=0, most=1)
    check_positive("total_iters", total_iters)
    return Scaled(lr, lambda count: end + (start - end) * remaining(count, total_iters))


def constant_lr(lr: float, factor: float = 1 / 3, total_iters: int = 5) -> Schedule:
    """``torch.optim.lr_scheduler.ConstantLR``: lr times a factor for some steps, then lr.

    Args:
        lr: the learning rate after the first steps.
        factor: the factor of the learning rate during the first steps, in [0, 1].
        total_iters: the number of steps with the factor.

    Returns:
        A schedule, a function from the number of steps taken to the learning rate.

    Raises:
        InputError: if a value is out of range.
    """
    lr, factor = check_number("lr", lr, least=0), check_number("factor", factor, least=0, most=1)
    check_positive("total_iters", total_iters)
    return Scaled(lr, lambda count: jnp.where(integer(count) < total_iters, factor, 1.0))


def remaining(count: ArrayLike, total: int) -> jax.Array:
    """Computes the fraction of ``total`` steps that remain: from 1 down to 0, then 0."""
    return scalar(total - jnp.minimum(integer(count), total)) / total
