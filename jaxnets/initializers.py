"""PyTorch's default initial distributions."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxnets.arrays import check_integer, check_number

#: Draws an array: ``initializer(key, shape, dtype)``.
Initializer = Callable[[jax.Array, Sequence[int], DTypeLike], jax.Array]


def uniform(bound: float) -> Initializer:
    """Draws from U(-bound, bound).

    Args:
        bound: the largest magnitude; zero draws zeros.

    Raises:
        InputError: if the bound is no finite number >= 0.
    """
    bound = check_number("bound", bound, least=0)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        shape = tuple(shape)
        if _by_numpy(key, shape, dtype):
            return jnp.asarray(_uniform(key, shape, bound))
        return jax.random.uniform(key, shape, dtype, minval=-bound, maxval=bound)

    return draw


def normal(mean: float = 0.0, std: float = 1.0) -> Initializer:
    """Draws from the normal distribution with this mean and standard deviation.

    Args:
        mean: its mean.
        std: its standard deviation.

    Raises:
        InputError: if the mean is no finite number, or std none >= 0.
    """
    mean, std = check_number("mean", mean), check_number("std", std, least=0)

    def draw(key: jax.Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> jax.Array:
        return mean + std * jax.random.normal(key, tuple(shape), dtype)

    return draw


def fan_in_uniform(fan_in: int) -> Initializer:
    """Draws from U(-1/√fan_in, 1/√fan_in): PyTorch's default for linear layers and convolutions.

    ``torch.nn.Linear`` and ``torch.nn.Conv2d`` draw the weight by ``kaiming_uniform_`` with
    a = √5, whose bound √(6 / ((1 + a²) fan_in)) is 1/√fan_in, and the bias within the same bound.

    Args:
        fan_in: how many input values one output value is a sum of. Zero draws zeros.

    Raises:
        InputError: if fan_in is no integer >= 0.
    """
    fan_in = check_integer("fan_in", fan_in, least=0)
    return uniform(1.0 / math.sqrt(fan_in) if fan_in > 0 else 0.0)


# Outside of programs ``jax.random.uniform`` compiles one for each shape, seconds for a network.
# NumPy draws the same bits at once: Threefry-2x32 with 20 rounds, by Salmon and others, "Parallel
# random numbers: as easy as 1, 2, 3", 2011, of the numbers' places in the array.

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_MANY = 2**22  # numbers for which a program is worth its compilation


def _by_numpy(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> bool:
    if isinstance(key, jax.core.Tracer) or key.shape or jnp.dtype(dtype) != jnp.float32:
        return False  # an old key of plain numbers has a shape
    known = str(jax.random.key_impl(key)) == "threefry2x32" and jax.threefry_partitionable.value
    return known and math.prod(shape) <= _MANY


def _uniform(key: jax.Array, shape: tuple[int, ...], bound: float) -> np.ndarray:
    places = np.arange(math.prod(shape), dtype=np.uint32)
    bits = _threefry(np.asarray(jax.random.key_data(key)), places)
    unit = (bits >> np.uint32(9) | np.float32(1).view(np.uint32)).view(np.float32) - np.float32(1)
    low, width = np.float32(-bound), np.float32(bound) - np.float32(-bound)
    exact = unit.astype(np.float64) * width + low  # XLA rounds once, too
    return np.maximum(low, exact.astype(np.float32)).reshape(shape)


def _threefry(key: np.ndarray, places: np.ndarray) -> np.ndarray:
    """32 random bits for each place."""
    keys = (*key, key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    first, second = np.full_like(places, keys[0]), places + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            first += second
            second = second << np.uint32(rotation) | second >> np.uint32(32 - rotation)
            second ^= first
        first += keys[(group + 1) % 3]
        second += keys[(group + 2) % 3]
        second += np.uint32(group + 1)
    return first ^ second
