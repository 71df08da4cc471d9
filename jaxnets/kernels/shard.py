"""Varying and replicated arrays under ``jax.shard_map``."""

from typing import Any

import jax
import jax.numpy as jnp


def vary_like(x: jax.Array, arrays: Any) -> Any:
    """Makes replicated arrays vary over the same mesh axes as x; no effect outside ``shard_map``.

    ``shard_map`` tracks over which axes an array varies. A scan requires the same axes of its
    carry, whose initial zeros are replicated, and a custom VJP of its arrays. A zero that is
    computed from x is added. Its transpose sums the gradient of a replicated array over devices.
    """
    zero = jnp.zeros_like(x, shape=())
    return jax.tree.map(lambda array: array + zero.astype(array.dtype), arrays)
