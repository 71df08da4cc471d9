"""Numbers that change from step to step: schedules and what is computed from the step count."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets.arrays import InputError, as_array, describe

Schedule = Callable[[ArrayLike], ArrayLike]
"""From the number of steps already taken to a value; called with a traced integer."""

#: A fixed number, or one that follows a schedule.
Hyperparameter = float | Schedule

#: A number of the update rule: fixed, or computed anew in each step.
Scalar = float | jax.Array


@dataclass(frozen=True)
class Scaled:
    """The schedule of a learning rate times a factor, which ``chained_scheduler`` takes.

    Attributes:
        lr: the learning rate.
        factor: from the count of steps taken to what multiplies it.
    """

    lr: float
    factor: Schedule

    def __call__(self, count: ArrayLike) -> jax.Array:
        """The learning rate after so many steps."""
        return scalar(self.lr * self.factor(count))


def scalar(value: ArrayLike) -> jax.Array:
    """The value in JAX's default floating dtype: float32, or float64 where x64 is enabled."""
    return jnp.asarray(value, dtype=float)


def integer(count: ArrayLike | list[int]) -> jax.Array:
    """Counts of steps as int32, as the optimizers keep them."""
    return jnp.asarray(count, dtype=jnp.int32)


def at(value: float | Callable[[jax.Array], ArrayLike], count: jax.Array) -> Scalar:
    """A hyperparameter's value after ``count`` steps.

    Raises:
        InputError: if it follows a function that does not give a number.
    """
    if not callable(value):
        return value
    given = value(count)
    array = as_array("schedule", given)
    real = array.dtype != bool and not jnp.issubdtype(array.dtype, jnp.complexfloating)
    if array.shape or not real:
        raise InputError(
            "schedule", "a function from the count of steps to one number", describe(array)
        )
    return scalar(given)


def power(base: Scalar, exponent: jax.Array) -> jax.Array:
    """The power base ** exponent of a positive base, by way of the logarithm.

    A fixed base's logarithm is taken in double precision: in float32, 0.999 ** 10000 would be
    wrong in the fourth digit, because 0.999 itself is rounded.
    """
    return jnp.exp(exponent * _log(base))


def bias_correction(beta: Scalar, step: jax.Array) -> jax.Array:
    """1 - beta ** step, without the cancellation that costs five digits in float32."""
    return -jnp.expm1(step * _log(beta))


def _log(base: Scalar) -> Scalar:
    if isinstance(base, jax.Array):
        return jnp.log(base)
    return math.log(base) if base > 0 else -math.inf
