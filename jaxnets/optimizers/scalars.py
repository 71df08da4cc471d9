"""Schedules, and scalars that are computed from the number of steps."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets.arrays import InputError, as_array, describe

Schedule = Callable[[ArrayLike], ArrayLike]
"""A function from the number of steps taken, a traced integer, to a value."""

#: A number or a schedule.
Hyperparameter = float | Schedule

#: A number in an update rule: a constant, or a value computed in each step.
Scalar = float | jax.Array


@dataclass(frozen=True)
class Scaled:
    """A schedule that is a learning rate times a factor, as ``chained_scheduler`` requires.

    Attributes:
        lr: the learning rate.
        factor: a function from the number of steps taken to the factor.
    """

    lr: float
    factor: Schedule

    def __call__(self, count: ArrayLike) -> jax.Array:
        """Returns the learning rate after ``count`` steps."""
        return scalar(self.lr * self.factor(count))


def scalar(value: ArrayLike) -> jax.Array:
    """Converts a value to JAX's default floating dtype: float32, or float64 with x64 enabled."""
    return jnp.asarray(value, dtype=float)


def integer(count: ArrayLike | list[int]) -> jax.Array:
    """Converts numbers of steps to int32, the dtype in optimizer states."""
    return jnp.asarray(count, dtype=jnp.int32)


def at(value: float | Callable[[jax.Array], ArrayLike], count: jax.Array) -> Scalar:
    """Returns the value of a hyperparameter after ``count`` steps.

    Raises:
        InputError: if the hyperparameter is a function that does not return a number.
    """
    if not callable(value):
        return value
    given = value(count)
    array = as_array("schedule", given)
    real = array.dtype != bool and not jnp.issubdtype(array.dtype, jnp.complexfloating)
    if array.shape or not real:
        raise InputError(
            "schedule", "a function from the number of steps to one number", describe(array)
        )
    return scalar(given)


def power(base: Scalar, exponent: jax.Array) -> jax.Array:
    """Computes base ** exponent for a positive base, as exp(exponent · log base).

    The logarithm of a constant base is computed in double precision. In float32, 0.999 ** 10000
    would be wrong in the fourth digit, because 0.999 itself is rounded.
    """
    return jnp.exp(exponent * _log(base))


def bias_correction(beta: Scalar, step: jax.Array) -> jax.Array:
    """Computes 1 - beta ** step without cancellation, which would lose five digits in float32."""
    return -jnp.expm1(step * _log(beta))


def _log(base: Scalar) -> Scalar:
    if isinstance(base, jax.Array):
        return jnp.log(base)
    return math.log(base) if base > 0 else -math.inf
