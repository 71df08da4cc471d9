"""Recurrences over time, with hand-written backpropagation through time.

The automatic derivative of a scan is slow for two reasons: it stores more than the gates, and it
accumulates the gradient of the recurrent kernel step by step, in products that are too small to be
efficient. The hand-written backward scan computes only the gradients of the gates; the gradient of
the kernel is then one matrix product over all time steps. For large batches on a CPU the product of
a single step is large enough, and accumulating step by step saves memory traffic.
"""

import math
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.kernels.marks import marked
from jaxnets.kernels.shard import vary_like
from jaxnets.layers.cells import CELLS, Gates, State, projected

#: The input kernel [I, G·H], or None if z is given, and the recurrent kernel [H, G·H].
Kernels = tuple[Any, jax.Array]
#: The bias of the input and of the hidden state, [G·H] each, or None.
Biases = tuple[jax.Array | None, jax.Array | None]
#: How a recurrence is differentiated; see ``recur``.
Derivative = Literal["automatic", "by hand", "by hand, step by step"]


class Direction(NamedTuple):
    """The arrays of one direction of a layer.

    Attributes:
        kernels: the kernel of the input, [I, G·H], and that of the hidden state, [H, G·H].
        biases: the bias of the input and of the hidden state, [G·H] each, or None.
        initial: the arrays of the state before the first step, [B, H] each.
        projection: the projection of the hidden state of an LSTM, [H, P], or None.
    """

    kernels: Kernels
    biases: Biases
    initial: State
    projection: jax.Array | None = None


@marked
def recur(
    x: jax.Array,
    directions: tuple[Direction, ...],
    lengths: jax.Array | None,
    *,
    cell: str,
    reverse: tuple[bool, ...],
    derivative: Derivative = "automatic",
) -> tuple[jax.Array, tuple[State, ...]]:
    """Runs a recurrent layer over time, in one direction or in both.

    At each step, state = forward(z, u, state), with forward from ``cells.CELLS``, z = x W_i + b_i
    and u = h W_h + b_h.

    Args:
        x: the inputs, [B, T, I].
        directions: the arrays of each direction.
        lengths: the number of steps of each example, integers [B]; after its last step the state
            does not change. None for all steps.
        cell: a key of ``cells.CELLS``.
        reverse: for each direction, whether time runs from the last step to the first.
        derivative: "automatic", or "by hand", which supports reverse mode only. "by hand" computes
            z and the gradients of the kernels for all steps in one product. "by hand, step by step"
            computes them within each step, while the data of the step are in the cache; this is
            faster for large batches on CPUs.

    Returns:
        The hidden states at each time step, [B, T, directions · H], and for each direction the
        state after the last step.
    """
    steps = jnp.swapaxes(x, 0, 1)  # time first
    valid = None if lengths is None else valid_steps(lengths, x.shape[1])
    outputs, finals = [], []
    for one, backwards in zip(directions, reverse, strict=True):
        gates = CELLS[cell] if one.projection is None else projected(one.projection)
        output, final = _scan(gates, backwards, derivative, steps, *one[:3], valid)
        outputs.append(output)
        finals.append(final)
    return jnp.swapaxes(jnp.concatenate(outputs, axis=-1), 0, 1), tuple(finals)


def valid_steps(lengths: jax.Array, time: int) -> jax.Array:
    """Returns which steps are before the end of each sequence, bool [T, B, 1]."""
    steps = jnp.arange(time, dtype=jnp.int32)[:, None, None]
    return steps < lengths.astype(jnp.int32)[None, :, None]


def by_gate(array: jax.Array, hidden: int) -> tuple[jax.Array, ...]:
    """Splits [..., G·H] to G arrays [..., H]."""
    return tuple(jnp.split(array, array.shape[-1] // hidden, axis=-1))


def _scan(
    gates: Gates,
    reverse: bool,
    derivative: Derivative,
    x: jax.Array,
    kernels: Kernels,
    biases: Biases,
    initial: State,
    valid: jax.Array | None,
) -> tuple[jax.Array, State]:
    """Computes the hidden states [T, B, H] and the last state of one direction, for x [T, B, I]."""
    kernels, biases, initial = vary_like(x, (kernels, biases, initial))
    by_hand = derivative != "automatic" and gates.backward is not None
    unroll = _unroll_by_hand if by_hand else _unroll
    if by_hand and derivative != "by hand":
        return unroll(gates, reverse, x, kernels, biases, initial, valid)
    z = _linear(_rows(x), kernels[0], biases[0]).reshape(*x.shape[:2], kernels[0].shape[1])
    return unroll(gates, reverse, z, (None, kernels[1]), (None, biases[1]), initial, valid)


def _steps(
    gates: Gates,
    reverse: bool,
    x: jax.Array,
    kernels: Kernels,
    biases: Biases,
    initial: State,
    valid: jax.Array | None,
) -> tuple[State, tuple[State, Any]]:
    """Returns the final state, and for each time step the new state and the values for backward.

    If the input kernel is None, x is already z.
    """
    hidden = initial[-1].shape[-1]
    # Each gate has its own array. If a step sliced one array at a running index, the loop of XLA on
    # CPUs would take four times as long.
    given = by_gate(x, hidden) if kernels[0] is None else x

    def step(state: State, inputs: tuple) -> tuple[State, tuple[State, Any]]:
        new, saved = _step(gates, kernels, biases, state, *inputs)
        return new, (new, saved)

    return lax.scan(step, initial, (given, valid), reverse=reverse)


def _step(
    gates: Gates, kernels: Kernels, biases: Biases, state: State, x: Any, valid: jax.Array | None
) -> tuple[State, Any]:
    """Computes one step: the new state, and the values for backward; see ``_steps``."""
    hidden = state[-1].shape[-1]
    z = x if kernels[0] is None else by_gate(_linear(x, kernels[0], biases[0]), hidden)
    u = by_gate(_linear(state[0], kernels[1], biases[1]), hidden)
    new, saved = gates.forward(z, u, state)
    return _where(valid, new, state), saved


def _linear(x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
    return x @ kernel if bias is None else x @ kernel + bias[None]


def _unroll(gates: Gates, reverse: bool, *inputs: Any) -> tuple[jax.Array, State]:
    final, (states, _) = _steps(gates, reverse, *inputs)
    return states[0], final


def _unroll_forward(gates: Gates, reverse: bool, *inputs: Any) -> tuple[Any, Any]:
    final, (states, saved) = _steps(gates, reverse, *inputs)
    x, kernels, *rest = inputs
    needed = None if kernels[0] is None else x  # the backward pass does not need z
    return (states[0], final), (needed, kernels, *rest, states, saved)


def _unroll_backward(gates: Gates, reverse: bool, residuals: Any, cotangents: Any) -> tuple:
    x, kernels, biases, initial, valid, states, saved = residuals
    d_outputs, d_final = cotangents
    previous = tuple(_before(*pair, reverse) for pair in zip(initial, states, strict=True))
    steps = d_outputs, saved, previous, states, valid
    if kernels[0] is None:
        back = partial(_back_at_once, gates, reverse, kernels[1], biases[1])
    else:
        back = partial(_back_step_by_step, gates, reverse, x, kernels, biases)
    return (*back(d_final, steps), None)


def _back_at_once(
    gates: Gates,
    reverse: bool,
    kernel: jax.Array,
    bias: jax.Array | None,
    d_final: State,
    steps: tuple,
) -> tuple:
    """Computes the gradients of z, kernels, biases and the initial state.

    The scan only computes the gradients of the gates; the kernel's gradient is one product after.
    """

    def step(d_state: State, inputs: tuple) -> tuple[State, jax.Array]:
        d_state, dz, _ = _step_back(gates, kernel, d_state, *inputs)
        return d_state, dz

    d_initial, dz = lax.scan(step, d_final, steps, reverse=not reverse)
    _, saved, previous, *_ = steps
    du = _rows(_recurrent(gates, dz, saved))
    d_bias = None if bias is None else du.sum(0)
    return dz, (None, _rows(previous[0]).T @ du), (None, d_bias), d_initial


def _back_step_by_step(
    gates: Gates,
    reverse: bool,
    x: jax.Array,
    kernels: Kernels,
    biases: Biases,
    d_final: State,
    steps: tuple,
) -> tuple:
    """Computes the gradients of x, kernels, biases and the initial state, all within the scan."""

    def step(carry: Any, inputs: tuple) -> tuple[Any, jax.Array]:
        (d_state, d_kernels, d_biases), (x, (d_output, saved, state, *rest)) = carry, inputs
        d_state, *d = _step_back(gates, kernels[1], d_state, d_output, saved, state, *rest)
        of_kernels = x.T @ d[0], state[0].T @ d[1]
        of_biases = tuple(
            None if bias is None else one.sum(0) for bias, one in zip(biases, d, strict=True)
        )
        sums = jax.tree.map(jnp.add, (d_kernels, d_biases), (of_kernels, of_biases))
        return (d_state, *sums), d[0] @ kernels[0].T

    nothing = vary_like(x, jax.tree.map(jnp.zeros_like, (kernels, biases)))
    carry, dx = lax.scan(step, (d_final, *nothing), (x, steps), reverse=not reverse)
    d_initial, d_kernels, d_biases = carry
    return dx, d_kernels, d_biases, d_initial


def _step_back(
    gates: Gates,
    kernel: jax.Array,
    d_state: State,
    d_output: jax.Array,
    saved: Any,
    state: State,
    new: State,
    valid: jax.Array | None,
) -> tuple[State, jax.Array, jax.Array]:
    """Computes the gradients of the state before a step, of z and of u."""
    assert gates.backward is not None  # _scan uses the automatic derivative otherwise
    d_state = (d_state[0] + d_output, *d_state[1:])
    dz, d_previous = gates.backward(d_state, saved, state, new)
    if valid is not None:
        dz = jnp.where(valid, dz, 0)
    du = _recurrent(gates, dz, saved)
    d_hidden = d_previous[0] + du @ kernel.T
    return _where(valid, (d_hidden, *d_previous[1:]), d_state), dz, du


def _recurrent(gates: Gates, dz: jax.Array, saved: Any) -> jax.Array:
    return dz if gates.recurrent is None else gates.recurrent(dz, saved)


_unroll_by_hand = partial(jax.custom_vjp, nondiff_argnums=(0, 1))(_unroll)
_unroll_by_hand.defvjp(_unroll_forward, _unroll_backward)


def _where(valid: jax.Array | None, new: State, old: State) -> State:
    if valid is None:
        return new
    return tuple(jnp.where(valid, *pair) for pair in zip(new, old, strict=True))


def _rows(steps: jax.Array) -> jax.Array:
    """Reshapes [T, B, H] to [T·B, H]; contracting over two axes, XLA would copy the array first."""
    # The size is explicit because JAX cannot infer -1 for an empty batch.
    return steps.reshape(math.prod(steps.shape[:-1]), steps.shape[-1])


def _before(initial: jax.Array, after: jax.Array, reverse: bool) -> jax.Array:
    """Returns the state before each step, given the state after each step."""
    first = initial[None]
    return jnp.concatenate([after[1:], first] if reverse else [first, after[:-1]])
