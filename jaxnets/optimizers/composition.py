"""Schedules that are composed of functions or of other schedules."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxnets.arrays import InputError, check_number, check_positive
from jaxnets.optimizers.checks import check_milestones
from jaxnets.optimizers.scalars import Scaled, Schedule, at, integer, scalar

_BLOCK = 1024  # factors that are multiplied in one vectorized operation


def lambda_lr(lr: float, lr_lambda: Callable[[jax.Array], ArrayLike]) -> Schedule:
    """``torch.optim.lr_scheduler.LambdaLR``: lr times a function of the number of steps.

    Args:
        lr: the learning rate that the function multiplies.
        lr_lambda: a function from the number of steps taken, a traced integer, to a factor. The
            function is compiled, so use ``jnp.where`` instead of ``if``.

    Returns:
        A schedule, a function from the number of steps taken to the learning rate.

    Raises:
        InputError: if lr is negative or not finite, or lr_lambda is not a function; on a call, if
            lr_lambda does not return a number.
    """
    lr = check_number("lr", lr, least=0)
    if not callable(lr_lambda):
        raise InputError("lr_lambda", "a function of the number of steps", lr_lambda)
    return lambda count: scalar(lr * at(lr_lambda, integer(count)))


def multiplicative_lr(lr: float, lr_lambda: Callable[[jax.Array], ArrayLike]) -> Schedule:
    """``torch.optim.lr_scheduler.MultiplicativeLR``: lr λ(1) λ(2) ⋯ λ(t).

    Each call multiplies all factors up to the number of steps, a thousand at a time.

    Args:
        lr: the learning rate at the start.
        lr_lambda: λ, a function from the number of steps, a traced integer, to a factor. The
            function is compiled, so use ``jnp.where`` instead of ``if``.

    Returns:
        A schedule, a function from the number t of steps taken to the learning rate.

    Raises:
        InputError: if lr is negative or not finite, or lr_lambda is not a function; on a call, if
            lr_lambda does not return a number.
    """
    lr = check_number("lr", lr, least=0)
    if not callable(lr_lambda):
        raise InputError("lr_lambda", "a function of the number of steps", lr_lambda)

    def factor(count: ArrayLike) -> jax.Array:
        count = integer(count)

        def multiplied(block: jax.Array, product: jax.Array) -> jax.Array:
            steps = block * _BLOCK + jnp.arange(1, _BLOCK + 1, dtype=jnp.int32)
            factors = jax.vmap(lambda step: scalar(at(lr_lambda, step)))(steps)
            return product * jnp.prod(jnp.where(steps <= count, factors, 1))

        blocks = (count + _BLOCK - 1) // _BLOCK
        return lax.fori_loop(0, blocks, multiplied, scalar(1.0))

    return Scaled(lr, factor)


def chained_scheduler(schedules: Sequence[Schedule]) -> Schedule:
    """``torch.optim.lr_scheduler.ChainedScheduler``: lr times the factors of several schedules.

    The schedules have to multiply the learning rate by a factor: ``step_lr``, ``multi_step_lr``,
    ``constant_lr``, ``linear_lr``, ``exponential_lr``, ``polynomial_lr``, ``multiplicative_lr``,
    ``cosine_annealing_lr`` with an ``eta_min`` of 0, and chains of these. After ``T_max`` steps a
    cosine schedule still multiplies the learning rate, while PyTorch's adds to it.

    Args:
        schedules: schedules with the same learning rate.

    Returns:
        A schedule, a function from the number of steps taken to the learning rate.

    Raises:
        InputError: if there is no schedule, one does not multiply the learning rate, or their
            learning rates differ.

    Examples:
        >>> from jaxnets import optimizers
        >>> schedule = optimizers.chained_scheduler(
        ...     [optimizers.constant_lr(0.05, 0.1, 20), optimizers.exponential_lr(0.05, 0.9)]
        ... )
        >>> print(f"{schedule(0):.4f} {schedule(1):.4f}")
        0.0050 0.0045
    """
    if not isinstance(schedules, Sequence) or isinstance(schedules, str) or not schedules:
        raise InputError("schedules", "a sequence of schedules", schedules)
    scaled = [_scaled(f"schedules[{i}]", schedule) for i, schedule in enumerate(schedules)]
    rates = {one.lr for one in scaled}
    if len(rates) > 1:
        raise InputError("schedules", "schedules with the same learning rate", sorted(rates))

    def factor(count: ArrayLike) -> jax.Array:
        return math.prod((scalar(one.factor(count)) for one in scaled), start=scalar(1.0))

    return Scaled(scaled[0].lr, factor)


def _scaled(argument: str, schedule: Any) -> Scaled:
    if not isinstance(schedule, Scaled):
        raise InputError(argument, "a schedule that multiplies the learning rate", schedule)
    return schedule


def sequential_lr(schedules: Sequence[Schedule], milestones: Sequence[int]) -> Schedule:
    """``torch.optim.lr_scheduler.SequentialLR``: several schedules in sequence.

    Args:
        schedules: the schedules; each counts steps from the milestone at which it starts.
        milestones: the number of steps after which the second, the third, ... schedule starts.

    Returns:
        A schedule, a function from the number of steps taken to the learning rate.

    Raises:
        InputError: if there is not one schedule more than milestones, or the milestones do not
            increase; on a call, if a schedule does not return a number.

    Examples:
        A warm-up of five epochs, then a cosine:

        >>> from jaxnets import optimizers
        >>> schedule = optimizers.sequential_lr(
        ...     [optimizers.linear_lr(0.1, 0.2), optimizers.cosine_annealing_lr(0.1, T_max=95)],
        ...     milestones=[5],
        ... )
    """
    if not isinstance(schedules, Sequence) or not all(map(callable, schedules)):
        raise InputError("schedules", "a sequence of schedules", schedules)
    counts = check_milestones(milestones)
    if not schedules or len(counts) != len(schedules) - 1:
        got = f"{len(schedules)} schedules and {len(counts)} milestones"
        raise InputError("milestones", "one fewer than schedules", got)
    if any(second <= first for first, second in pairwise(counts)):
        raise InputError("milestones", "increasing numbers of steps", list(counts))

    def schedule(count: ArrayLike) -> jax.Array:
        count = integer(count)
        value = at(schedules[0], count)
        for begin, following in zip(counts, schedules[1:], strict=True):
            since = jnp.maximum(count - begin, 0)
            value = jnp.where(count >= begin, at(following, since), value)
        return scalar(value)

    return schedule


def per_epoch(schedule: Schedule, steps_per_epoch: int) -> Schedule:
    """Converts a schedule that counts epochs to one that counts optimizer steps.

    PyTorch's schedulers count the calls of their ``step`` method, usually one per epoch. The
    schedules here count optimizer steps.

    Args:
        schedule: a function from the number of epochs to the learning rate.
        steps_per_epoch: the number of optimizer steps in an epoch, which is the number of batches.

    Returns:
        A schedule, a function from the number of steps taken to the learning rate.

    Raises:
        InputError: if schedule is not a function, or steps_per_epoch is not a positive integer.

    Examples:
        >>> from jaxnets import optimizers
        >>> schedule = optimizers.per_epoch(optimizers.step_lr(0.1, step_size=30), 938)
    """
    if not callable(schedule):
        raise InputError("schedule", "a function of the number of epochs", schedule)
    check_positive("steps_per_epoch", steps_per_epoch)
    return lambda count: schedule(integer(count) // steps_per_epoch)
