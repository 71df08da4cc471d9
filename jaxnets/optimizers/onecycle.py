"""The one-cycle policy: the learning rate increases and decreases, and the momentum opposite."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets.arrays import InputError, check_bool, check_choice, check_number, check_positive
from jaxnets.optimizers.cosine import half_cosine
from jaxnets.optimizers.scalars import Schedule, integer, scalar


def one_cycle_lr(
    max_lr: float,
    total_steps: int | None = None,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Schedule:
    """``torch.optim.lr_scheduler.OneCycleLR`` for the learning rate.

    The learning rate increases from max_lr / div_factor to max_lr, and then decreases to
    max_lr / (div_factor final_div_factor). With three phases it first decreases to
    max_lr / div_factor, in as many steps as it increased in.

    By default PyTorch's scheduler also cycles the momentum. For the same schedule use
    ``sgd(one_cycle_lr(0.1, 1000), momentum=one_cycle_momentum(1000))``. As in PyTorch, the value
    one step after the end of the cycle is extrapolated. Later steps, which are an error in PyTorch,
    have the value of the last step.

    Args:
        max_lr: the highest learning rate.
        total_steps: the number of steps of the cycle; if None, ``epochs`` and ``steps_per_epoch``
            are required.
        epochs: the number of epochs of the cycle.
        steps_per_epoch: the number of steps in an epoch.
        pct_start: the fraction of the cycle in which the learning rate increases.
        anneal_strategy: ``"cos"`` or ``"linear"``.
        div_factor: max_lr divided by the learning rate at the start.
        final_div_factor: the learning rate at the start divided by that at the end.
        three_phase: whether the cycle has three phases.

    Returns:
        A schedule, a function from the number of steps taken to the learning rate.

    Raises:
        InputError: if a value is out of range, or the number of steps is not given.
    """
    highest = check_number("max_lr", max_lr, least=0)
    start = highest / check_number("div_factor", div_factor, above=0)
    end = start / check_number("final_div_factor", final_div_factor, above=0)
    total = _total(total_steps, epochs, steps_per_epoch)
    three_phase = check_bool("three_phase", three_phase)
    values = [start, highest, start, end] if three_phase else [start, highest, end]
    return _through(values, _ends(total, pct_start, three_phase), anneal_strategy, total)


def one_cycle_momentum(
    total_steps: int | None = None,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
    three_phase: bool = False,
) -> Schedule:
    """``torch.optim.lr_scheduler.OneCycleLR`` for the momentum or Adam's β₁; see ``one_cycle_lr``.

    Args:
        total_steps: the number of steps of the cycle; if None, ``epochs`` and ``steps_per_epoch``
            are required.
        epochs: the number of epochs of the cycle.
        steps_per_epoch: the number of steps in an epoch.
        pct_start: the fraction of the cycle in which the momentum decreases.
        anneal_strategy: ``"cos"`` or ``"linear"``.
        base_momentum: the lowest momentum, where the learning rate is highest.
        max_momentum: the momentum at the start and at the end.
        three_phase: whether the cycle has three phases.

    Returns:
        A schedule, a function from the number of steps taken to the momentum.

    Raises:
        InputError: if a value is out of range, or the number of steps is not given.
    """
    lowest = check_number("base_momentum", base_momentum, least=0, most=1)
    highest = check_number("max_momentum", max_momentum, least=0, most=1)
    total = _total(total_steps, epochs, steps_per_epoch)
    three_phase = check_bool("three_phase", three_phase)
    values = [highest, lowest, highest, highest][: 4 if three_phase else 3]
    return _through(values, _ends(total, pct_start, three_phase), anneal_strategy, total)


def _total(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    given = {"total_steps": total_steps, "epochs": epochs, "steps_per_epoch": steps_per_epoch}
    for name, value in given.items():
        if value is not None:
            check_positive(name, value)
    if total_steps is not None:
        return int(total_steps)
    if epochs is None or steps_per_epoch is None:
        raise InputError("total_steps", "a number, or epochs and steps_per_epoch", None)
    return check_positive("epochs * steps_per_epoch", int(epochs) * int(steps_per_epoch))


def _ends(total: int, pct_start: float, three_phase: bool) -> list[float]:
    """Returns the numbers of steps at the limits of the phases, which need not be integers."""
    pct_start = check_number("pct_start", pct_start, least=0, most=1)
    up = pct_start * total - 1
    if up == 0:
        expected = f"a fraction of {total} steps other than one step"
        raise InputError("pct_start", expected, pct_start)
    return [0.0, up, *[2 * up] * three_phase, total - 1.0]


def _through(
    values: Sequence[float], ends: Sequence[float], anneal_strategy: str, total: int
) -> Schedule:
    """Returns the schedule with values[i] at ends[i] that anneals in between."""
    check_choice("anneal_strategy", anneal_strategy, ("cos", "linear"))
    final = len(ends) - 2
    known = total if ends[final] != ends[final + 1] else total - 1

    def phase(count: jax.Array, index: int) -> jax.Array:
        first, last = values[index : index + 2]
        left, length = ends[index + 1] - count, ends[index + 1] - ends[index] or 1.0
        share = half_cosine(left, length) if anneal_strategy == "cos" else left / length
        return last + (first - last) * share

    def schedule(count: ArrayLike) -> jax.Array:
        count = integer(count)
        count = scalar(jnp.where(count > known, total - 1, count))
        value = phase(count, final)
        for index in reversed(range(final)):
            value = jnp.where(count <= ends[index + 1], phase(count, index), value)
        return value

    return schedule
