"""Arrays by time step."""

import math

import jax
import jax.numpy as jnp

#: What is carried from step to step, the hidden state [B, H] first: (h,), or (h, c) for an LSTM.
State = tuple[jax.Array, ...]


def rows(steps: jax.Array) -> jax.Array:
    """[T, B, H] as [T·B, H]: XLA transposes and copies an array summed over two axes."""
    # JAX infers no size of an array of zero elements, such as of an empty batch.
    return steps.reshape(math.prod(steps.shape[:-1]), steps.shape[-1])


def before(initial: jax.Array, after: jax.Array, reverse: bool) -> jax.Array:
    """The state before each step, from the state after each step."""
    first = initial[None]
    return jnp.concatenate([after[1:], first] if reverse else [first, after[:-1]])
