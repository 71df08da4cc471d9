"""Schedules that follow a cosine."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets.arrays import check_choice, check_integer, check_number, check_positive
from jaxnets.optimizers.scalars import Scaled, Schedule, integer, scalar

_LARGEST_COUNT = 2**31 - 1
_Strategy = Literal["cos", "linear"]


def cosine_annealing_lr(lr: float, T_max: int, eta_min: float = 0.0) -> Schedule:
    """``torch.optim.lr_scheduler.CosineAnnealingLR``.

    η + (lr - η) (1 + cos(π t / T_max)) / 2: down to η at T_max, then up again, to lr at 2 T_max,
    and so on, as PyTorch's.

    Args:
        lr: the learning rate at the start.
        T_max: after how many steps it is lowest.
        eta_min: η.

    Returns:
        A schedule, from the count t of steps taken to the learning rate.

    Raises:
        InputError: if a value is out of its range.
    """
    lr, lowest = check_number("lr", lr, least=0), check_number("eta_min", eta_min, least=0)
    check_positive("T_max", T_max)

    def schedule(count: ArrayLike) -> jax.Array:
        return lowest + (lr - lowest) * cosine(count)

    def cosine(count: ArrayLike) -> jax.Array:
        return half_cosine(T_max - integer(count) % (2 * T_max), T_max)

    return schedule if lowest else Scaled(lr, cosine)


def cosine_annealing_warm_restarts(
    lr: float, T_0: int, T_mult: int = 1, eta_min: float = 0.0
) -> Schedule:
    """``torch.optim.lr_scheduler.CosineAnnealingWarmRestarts``.

    Half a cosine from lr down to η over T_0 steps, then again from lr over T_0 T_mult steps, and
    so on.

    Args:
        lr: the learning rate at each start.
        T_0: how many steps the first descent takes.
        T_mult: by how much each descent is longer than the one before.
        eta_min: η.

    Returns:
        A schedule, from the count of steps taken to the learning rate.

    Raises:
        InputError: if a value is out of its range.
    """
    lr, lowest = check_number("lr", lr, least=0), check_number("eta_min", eta_min, least=0)
    check_positive("T_0", T_0)
    check_positive("T_mult", T_mult)
    starts, lengths = _descents(T_0, T_mult)

    def schedule(count: ArrayLike) -> jax.Array:
        count = integer(count)
        if T_mult == 1:
            return lowest + (lr - lowest) * half_cosine(T_0 - count % T_0, T_0)
        current = jnp.sum(count >= integer(starts)) - 1
        length = integer(lengths)[current]
        left = length - (count - integer(starts)[current])
        return lowest + (lr - lowest) * half_cosine(left, length)

    return schedule


def _descents(first: int, growth: int) -> tuple[list[int], list[int]]:
    """Where each descent starts and how long it is, as far as a count of steps can go."""
    starts, lengths = [0], [first]
    while growth > 1 and lengths[-1] * growth <= _LARGEST_COUNT - starts[-1] - lengths[-1]:
        starts.append(starts[-1] + lengths[-1])
        lengths.append(lengths[-1] * growth)
    return starts, lengths


def half_cosine(left: ArrayLike, total: ArrayLike) -> jax.Array:
    """(1 + cos(π t / T)) / 2 by the steps T - t that are left.

    As sin²(π (T - t) / 2T) it is exact near its zero, even in float32.
    """
    return jnp.sin(jnp.pi / 2 * (scalar(left) / scalar(total))) ** 2


def swalr(
    lr: float, swa_lr: float, anneal_epochs: int = 10, anneal_strategy: _Strategy = "cos"
) -> Schedule:
    """``torch.optim.swa_utils.SWALR``: from one learning rate to another, which then stays.

    lr (1 - α) + swa_lr α, where α goes from 0 to 1 over ``anneal_epochs`` steps. It is the schedule
    of stochastic weight averaging (``jaxnets.averaging.swa``), alone or as the last one of
    ``sequential_lr``; with ``per_epoch`` it counts epochs.

    Args:
        lr: the learning rate at the start.
        swa_lr: the learning rate at the end.
        anneal_epochs: how many steps the way takes; 0 begins with swa_lr.
        anneal_strategy: whether α follows half a cosine or a line.

    Returns:
        A schedule, from the count of steps taken to the learning rate.

    Raises:
        InputError: if a value is out of its range.
    """
    lr, last = check_number("lr", lr, least=0), check_number("swa_lr", swa_lr, least=0)
    total = check_integer("anneal_epochs", anneal_epochs, least=0, most=_LARGEST_COUNT)
    check_choice("anneal_strategy", anneal_strategy, get_args(_Strategy))
    share = half_cosine if anneal_strategy == "cos" else _line

    def schedule(count: ArrayLike) -> jax.Array:
        if total == 0:
            return scalar(last)
        left = share(total - jnp.minimum(integer(count), total), total)
        return last + (lr - last) * left

    return schedule


def _line(count: ArrayLike, total: int) -> jax.Array:
    return scalar(count) / total
