"""Backpropagation through time: one scan forward, one scan backward, written by hand.

What autodiff makes of a scan is slow in two ways: it saves more than the gates, and it adds up the
recurrent kernel's gradient step by step. Here the backward scan computes the gates' gradients
alone, and the kernel's gradient is one matmul over all time steps after it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

#: What is carried from step to step, the hidden state [B, H] first: (h,), or (h, c) for an LSTM.
State = tuple[jax.Array, ...]
#: One array [B, H] for each of the G gates.
Pieces = Sequence[jax.Array]


class Gates(NamedTuple):
    """The element-wise part of one time step, and its derivative.

    Attributes:
        forward: (z, u, state) -> (new state, saved), where z, G arrays [B, H], comes from the
            input, u, as many, from the hidden state, and ``saved`` is what ``backward`` needs.
        backward: (gradient of the new state, saved, state, new state) -> (gradient of z [B, G·H],
            gradient of the state but for its way through u). None leaves the derivative to
            autodiff.
        recurrent: (gradient of z, saved) -> gradient of u, over any leading axes. None where
            ``forward`` sees z + u alone, so that both gradients are the same.
    """

    forward: Callable[[Pieces, Pieces, State], tuple[State, Any]]
    backward: Callable[[State, Any, State, State], tuple[jax.Array, State]] | None = None
    recurrent: Callable[[jax.Array, Any], jax.Array] | None = None


def scan(
    gates: Gates,
    reverse: bool,
    z: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    initial: State,
    valid: jax.Array | None,
) -> tuple[jax.Array, State]:
    """Runs the recurrence u = h · kernel + bias, state = forward(z, u, state) over time.

    With a hand-written ``backward``, gradients are by reverse mode only.

    Args:
        gates: the element-wise part of a step.
        reverse: whether time runs from the last step to the first.
        z: what each step gets from the input, [T, B, G·H].
        kernel: the recurrent kernel, [H, G·H].
        bias: the bias inside the recurrence, [G·H], or None.
        initial: the state before the first step.
        valid: bool [T, B, 1]: where it is false, the state is held. None means true everywhere.

    Returns:
        The hidden states by time step, [T, B, H], and the state after the last step.
    """
    unroll = _unroll if gates.backward is None else _unroll_by_hand
    kernel, bias, initial = _vary_like(z, (kernel, bias, initial))
    return unroll(gates, reverse, z, kernel, bias, initial, valid)


def by_gate(array: jax.Array, hidden: int) -> tuple[jax.Array, ...]:
    """[..., G·H] as G arrays [..., H]."""
    return tuple(jnp.split(array, array.shape[-1] // hidden, axis=-1))


def rows(steps: jax.Array) -> jax.Array:
    """[T, B, H] as [T·B, H]: XLA transposes and copies an array summed over two axes."""
    return steps.reshape(-1, steps.shape[-1])


def _steps(
    gates: Gates,
    reverse: bool,
    z: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    initial: State,
    valid: jax.Array | None,
) -> tuple[State, tuple[State, Any]]:
    """The final state; and by time step, the state after it and what was saved."""
    hidden = initial[-1].shape[-1]

    def step(state: State, inputs: tuple) -> tuple[State, tuple[State, Any]]:
        z, valid = inputs
        u = state[0] @ kernel
        if bias is not None:
            u = u + bias[None]
        new, saved = gates.forward(z, by_gate(u, hidden), state)
        new = _where(valid, new, state)
        return new, (new, saved)

    # A step reads an array of its own for each gate: of parts of one, found at a running index,
    # XLA's loop on CPUs takes four times as long.
    return lax.scan(step, initial, (by_gate(z, hidden), valid), reverse=reverse)


def _unroll(gates: Gates, reverse: bool, *inputs: Any) -> tuple[jax.Array, State]:
    final, (states, _) = _steps(gates, reverse, *inputs)
    return states[0], final


def _unroll_forward(gates: Gates, reverse: bool, *inputs: Any) -> tuple[Any, Any]:
    final, (states, saved) = _steps(gates, reverse, *inputs)
    return (states[0], final), (*inputs[1:], states, saved)


def _unroll_backward(gates: Gates, reverse: bool, residuals: Any, cotangents: Any) -> tuple:
    backward, recurrent = gates.backward, gates.recurrent or (lambda dz, saved: dz)
    assert backward is not None  # else the derivative is autodiff's
    kernel, bias, initial, valid, states, saved = residuals
    d_outputs, d_final = cotangents
    previous = tuple(_before(*pair, reverse) for pair in zip(initial, states, strict=True))

    def step(d_state: State, inputs: tuple) -> tuple[State, jax.Array]:
        d_output, saved, state, new, valid = inputs
        d_state = (d_state[0] + d_output, *d_state[1:])
        dz, d_previous = backward(d_state, saved, state, new)
        if valid is not None:
            dz = jnp.where(valid, dz, 0)
        d_hidden = d_previous[0] + recurrent(dz, saved) @ kernel.T
        return _where(valid, (d_hidden, *d_previous[1:]), d_state), dz

    inputs = (d_outputs, saved, previous, states, valid)
    d_initial, dz = lax.scan(step, d_final, inputs, reverse=not reverse)
    du = rows(recurrent(dz, saved))
    d_kernel = rows(previous[0]).T @ du
    d_bias = None if bias is None else du.sum(0)
    return dz, d_kernel, d_bias, d_initial, None


_unroll_by_hand = partial(jax.custom_vjp, nondiff_argnums=(0, 1))(_unroll)
_unroll_by_hand.defvjp(_unroll_forward, _unroll_backward)


def _vary_like(z: jax.Array, arrays: Any) -> Any:
    """Under ``jax.shard_map``, makes replicated arrays differ by device as z does; else nothing.

    A scan demands it of its carry, where zeros are replicated, and a hand-written gradient of its
    arrays. The gradient of this sum is what adds up a replicated kernel's gradient over devices.
    """
    zero = jnp.zeros_like(z, shape=())
    return jax.tree.map(lambda array: array + zero, arrays)


def _where(valid: jax.Array | None, new: State, old: State) -> State:
    if valid is None:
        return new
    return tuple(jnp.where(valid, *pair) for pair in zip(new, old, strict=True))


def _before(initial: jax.Array, after: jax.Array, reverse: bool) -> jax.Array:
    """The state before each step, from the state after each step."""
    first = initial[None]
    return jnp.concatenate([after[1:], first] if reverse else [first, after[:-1]])
