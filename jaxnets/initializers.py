"""PyTorch's default initial distributions."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

#: Draws an array: ``initializer(key, shape, dtype)``.
Initializer = Callable[[jax.Array, Sequence[int], DTypeLike], jax.Array]


def uniform(bound: float) -> Initializer:
    """Draws from U(-bound, bound).

    Args:
        bound: the largest magnitude; zero draws zeros.
    """

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, tuple(shape), dtype, minval=-bound, maxval=bound)

    return draw


def normal(mean: float = 0.0, std: float = 1.0) -> Initializer:
    """Draws from the normal distribution with this mean and standard deviation.

    Args:
        mean: its mean.
        std: its standard deviation.
    """

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return mean + std * jax.random.normal(key, tuple(shape), dtype)

    return draw


def fan_in_uniform(fan_in: int) -> Initializer:
    """Draws from U(-1/√fan_in, 1/√fan_in): PyTorch's default for linear layers and convolutions.

    ``torch.nn.Linear`` and ``torch.nn.Conv2d`` draw the weight by ``kaiming_uniform_`` with
    a = √5, whose bound √(6 / ((1 + a²) fan_in)) is 1/√fan_in, and the bias within the same bound.

    Args:
        fan_in: how many input values one output value is a sum of. Zero draws zeros.
    """
    return uniform(1.0 / math.sqrt(fan_in) if fan_in > 0 else 0.0)
