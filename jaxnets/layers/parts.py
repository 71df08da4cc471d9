"""A large batch, on CPUs a part of it after the other."""

from collections.abc import Callable
from functools import partial

import jax
from jax import lax

# The examples of a part: what some layers make of so many images stays in the cache.
_MOST, _LEAST = 64, 32  # with fewer the matrix products become small


def in_parts(function: Callable[[jax.Array], jax.Array], inputs: jax.Array) -> jax.Array:
    """Applies to a batch what looks at each example alone.

    On CPUs a large batch goes through all layers part by part, where one layer after the other
    would write arrays of the whole batch that no cache holds; the way back computes each part
    anew. The outputs are the same; the gradients of weights are added up part by part.

    Args:
        function: takes [n, …] and returns [n, …'] for any n; no output depends on the other
            examples, as it would through batch statistics.
        inputs: [batch, …].

    Returns:
        ``function(inputs)``, [batch, …'].
    """
    part = _part(len(inputs))
    if part == len(inputs):
        return function(inputs)
    return lax.platform_dependent(inputs, cpu=partial(_mapped, function, part), default=function)


def _part(batch: int) -> int:
    """How many examples a part has: the batch is a whole number of parts."""
    sizes = range(min(_MOST, batch), _LEAST - 1, -1)
    return next((size for size in sizes if batch % size == 0), batch)


def _mapped(function: Callable[[jax.Array], jax.Array], part: int, inputs: jax.Array) -> jax.Array:
    anew = jax.checkpoint(function, prevent_cse=False)
    outputs = lax.map(anew, inputs.reshape(-1, part, *inputs.shape[1:]))
    return outputs.reshape(-1, *outputs.shape[2:])
