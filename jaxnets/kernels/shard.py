"""What arrays differ by under ``jax.shard_map``."""

from typing import Any

import jax
import jax.numpy as jnp


def vary_like(x: jax.Array, arrays: Any) -> Any:
    """Under ``jax.shard_map``, makes replicated arrays differ by device as x does; else nothing.

    A scan demands it of its carry, where zeros are replicated, and a hand-written gradient of its
    arrays. The gradient of this sum is what adds up a replicated kernel's gradient over devices.
    """
    zero = jnp.zeros_like(x, shape=())
    return jax.tree.map(lambda array: array + zero.astype(array.dtype), arrays)
