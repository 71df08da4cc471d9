"""Checks of hyperparameters; each function returns the checked value."""

from typing import Any

from jaxnets.arrays import InputError, check_integer, check_number, entries
from jaxnets.optimizers.scalars import Hyperparameter


def number_or_schedule(argument: str, value: Any) -> Hyperparameter:
    """Checks that a value is a finite number >= 0 or a schedule."""
    if callable(value):
        return value
    try:
        return check_number(argument, value, least=0)
    except InputError as error:
        raise InputError(argument, f"{error.expected} or a schedule", value) from None


def two_betas(betas: Any) -> tuple[Hyperparameter, float]:
    """Checks Adam's two decay rates, each in [0, 1); the first may be a schedule."""
    pair = entries(betas)
    if pair is None or len(pair) != 2:
        raise InputError("betas", "two numbers in [0, 1)", betas)
    first = pair[0] if callable(pair[0]) else _beta(0, pair[0])
    return first, _beta(1, pair[1])


def _beta(index: int, value: Any) -> float:
    return check_number(f"betas[{index}]", value, least=0, below=1)


def numbers(argument: str, value: Any, count: int, expected: str) -> tuple[float, ...]:
    """Checks that a value is a sequence of ``count`` finite numbers."""
    several = entries(value)
    if several is None or len(several) != count:
        raise InputError(argument, expected, value)
    return tuple(check_number(f"{argument}[{i}]", number) for i, number in enumerate(several))


def check_milestones(milestones: Any) -> tuple[int, ...]:
    """Checks that milestones are a sequence of integers >= 0."""
    counts = entries(milestones)
    if counts is None:
        raise InputError("milestones", "a sequence of numbers of steps", milestones)
    return tuple(check_integer("milestones", count, least=0) for count in counts)
