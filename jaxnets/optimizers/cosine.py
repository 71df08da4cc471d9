"""Cosine schedules."""

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

    η + (lr - η) (1 + cos(π t / T_max)) / 2. As in PyTorch, the learning rate decreases to η at
    T_max, increases to lr at 2 T_max, and so on.

    Args:
        lr: the learning rate at the start.
        T_max: the number of steps until the learning rate is lowest.
        eta_min: η, the lowest learning rate.

    Returns:
        A schedule, a function from the number t of steps taken to the learning rate.

    Raises:
        InputError: if a value is out of range.
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

    The learning rate decreases along half a cosine from lr to η in T_0 steps, then again from lr to
    η in T_0 T_mult steps, and so on.

    Args:
        lr: the learning rate at each start.
        T_0: the number of steps of the first descent.
        T_mult: the factor by which each descent is longer than the one before.
        eta_min: η, the lowest learning rate.

    Returns:
        A schedule, a function from the number of steps taken to the learning rate.

    Raises:
        InputError: if a value is out of range.
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
    """Returns the start and length of each descent, up to the largest possible number of steps."""
    starts, lengths = [0], [first]
    while growth > 1 and lengths[-1] * growth <= _LARGEST_COUNT - starts[-1] - lengths[-1]:
        starts.append(starts[-1] + lengths[-1])
        lengths.append(lengths[-1] * growth)
    return starts, lengths


def half_cosine(left: ArrayLike, total: ArrayLike) -> jax.Array:
    """Computes (1 + cos(π t / T)) / 2, given the number of steps T - t that are left.

    The formula sin²(π (T - t) / 2T) is accurate near its zero, also in float32.
    """
    return jnp.sin(jnp.pi / 2 * (scalar(left) / scalar(total))) ** 2


def swalr(
    lr: float, swa_lr: float, anneal_epochs: int = 10, anneal_strategy: _Strategy = "cos"
) -> Schedule:
    """``torch.optim.swa_utils.SWALR``: anneals the learning rate to a constant one.

    lr (1 - α) + swa_lr α, where α increases from 0 to 1 in ``anneal_epochs`` steps. This is the
    schedule for stochastic weight averaging (``jaxnets.averaging.swa``), alone or as the last one
    of ``sequential_lr``. Use ``per_epoch`` to count epochs instead of steps.

    Args:
        lr: the learning rate at the start.
        swa_lr: the learning rate at the end.
        anneal_epochs: the number of steps of the annealing; 0 starts with swa_lr.
        anneal_strategy: ``"cos"`` or ``"linear"``, the shape of α.

    Returns:
        A schedule, a function from the number of steps taken to the learning rate.

    Raises:
        InputError: if a value is out of range.
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
