"""Checks of hyperparameters; each returns the value, as a float where it is a number."""

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, TypeVar

from jaxnets.arrays import InputError
from jaxnets.optimizers.scalars import Hyperparameter

T = TypeVar("T")


def number(argument: str, value: Any, expected: str, holds: Callable[[float], bool]) -> float:
    """A finite number for which ``holds``; ``expected`` says in words what that means."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not holds(value):
        raise InputError(argument, expected, value)
    return float(value)


def finite(argument: str, value: Any) -> float:
    """Any finite number."""
    return number(argument, value, "a finite number", lambda x: True)


def non_negative(argument: str, value: Any) -> float:
    """A finite number >= 0."""
    return number(argument, value, "a finite number >= 0", lambda x: x >= 0)


def positive(argument: str, value: Any) -> float:
    """A finite number > 0."""
    return number(argument, value, "a finite number > 0", lambda x: x > 0)


def fraction(argument: str, value: Any) -> float:
    """A number from 0 to 1, both included."""
    return number(argument, value, "a number in [0, 1]", lambda x: 0 <= x <= 1)


def number_or_schedule(argument: str, value: Any) -> Hyperparameter:
    """A finite number >= 0, or a schedule, whose values are not known yet."""
    if callable(value):
        return value
    return number(argument, value, "a finite number >= 0 or a schedule", lambda x: x >= 0)


def two_betas(betas: Any) -> tuple[Hyperparameter, float]:
    """Adam's two decay rates, each in [0, 1); the first may be a schedule."""
    if not isinstance(betas, Sequence) or len(betas) != 2:
        raise InputError("betas", "two numbers in [0, 1)", betas)
    first, second = (
        beta
        if callable(beta) and index == 0
        else number(f"betas[{index}]", beta, "a number in [0, 1)", lambda x: 0 <= x < 1)
        for index, beta in enumerate(betas)
    )
    return first, second


def one_of(argument: str, value: T, choices: Sequence[T]) -> T:
    """One of a few values."""
    if value not in choices:
        raise InputError(argument, f"one of {', '.join(map(repr, choices))}", value)
    return value
