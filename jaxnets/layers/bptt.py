"""Backpropagation through time: one scan forward, one scan backward, written by hand.

What autodiff makes of a scan is slow in two ways: it saves more than the gates, and it adds up the
recurrent kernel's gradient step by step, by products too small for the processor. Here the backward
scan computes the gates' gradients alone, and the kernel's gradient is one matmul over all time
steps after it. Of large batches a step's product is large enough, and spares the memory.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.kernels import recurrence
from jaxnets.kernels.shard import vary_like
from jaxnets.kernels.time_steps import State, before, rows

#: One array [B, H] for each of the G gates.
Pieces = Sequence[jax.Array]
#: The input's kernel [I, G·H], where z is not given, and the recurrent one [H, G·H].
Kernels = tuple[Any, jax.Array]
#: Theirs, [G·H] each; None for none.
Biases = tuple[jax.Array | None, jax.Array | None]


class Layer(NamedTuple):
    """The arrays of a layer.

    Attributes:
        kernels: see ``scan``, as are the others.
        biases: of the input's share, and of the hidden state's.
        initial: the state before the first step.
    """

    kernels: Kernels
    biases: Biases
    initial: State


# From so many examples on a CPU does all that it can step by step.
_LARGE = 256


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
        native: the kernel that runs all steps at once on CPUs, where there is one.
    """

    forward: Callable[[Pieces, Pieces, State], tuple[State, Any]]
    backward: Callable[[State, Any, State, State], tuple[jax.Array, State]] | None = None
    recurrent: Callable[[jax.Array, Any], jax.Array] | None = None
    native: str | None = None


def scan(
    gates: Gates,
    reverse: bool,
    x: jax.Array,
    kernels: Kernels,
    biases: Biases,
    initial: State,
    valid: jax.Array | None,
) -> tuple[jax.Array, State]:
    """Runs the recurrence over time.

    With z = x · kernel + bias and u = h · kernel + bias, each of its own kernel and bias,
    state = forward(z, u, state).

    With a hand-written ``backward``, gradients are by reverse mode only.

    On CPUs a step of a large batch computes its z, and keeps what it makes in the cache, forward
    and backward. Otherwise one product makes z for all steps.

    Args:
        gates: the element-wise part of a step.
        reverse: whether time runs from the last step to the first.
        x: the inputs, [T, B, I].
        kernels: the input's, [I, G·H], and the recurrent one, [H, G·H].
        biases: theirs, [G·H] each, or None.
        initial: the state before the first step.
        valid: bool [T, B, 1]: where it is false, the state is held. None means true everywhere.

    Returns:
        The hidden states by time step, [T, B, H], and the state after the last step.
    """
    unroll = _unroll if gates.backward is None else _unroll_by_hand
    kernels, biases, initial = vary_like(x, (kernels, biases, initial))

    def at_once(x: jax.Array, kernels: Kernels, biases: Biases, *rest: Any) -> Any:
        z = _linear(rows(x), kernels[0], biases[0]).reshape(*x.shape[:2], kernels[0].shape[1])
        return unroll(gates, reverse, z, (None, kernels[1]), (None, biases[1]), *rest)

    inputs = (x, kernels, biases, initial, valid)
    if gates.native and recurrence.serves(gates.native, x, initial, valid):

        def plain(*inputs: Any) -> tuple[jax.Array, State]:
            return at_once(*inputs, None)

        natively = recurrence.scan(gates.native, reverse, plain)
        return lax.platform_dependent(*inputs[:4], cpu=natively, default=plain)
    if x.shape[1] < _LARGE or gates.backward is None:
        return at_once(*inputs)
    step_by_step = partial(unroll, gates, reverse)
    return lax.platform_dependent(*inputs, cpu=step_by_step, default=at_once)


def stacked(
    gates: Gates, x: jax.Array, layers: Sequence[Layer], valid: jax.Array | None
) -> tuple[jax.Array, list[State]]:
    """Runs layers on top of each other over time, from the first step to the last.

    On CPUs a large batch goes through a step of all layers before the next step, where no
    gradient is taken: an output that the next layer reads at once is still in the cache.

    Args:
        gates: the element-wise part of a step, the same in all layers.
        x: the inputs, [T, B, I].
        layers: the first of which is fed with x, each other with the outputs of the one before.
        valid: see ``scan``.

    Returns:
        The hidden states of the last layer by time step, [T, B, H], and the state of each layer
        after the last step.
    """

    def by_layer(
        x: jax.Array, layers: Sequence[Layer], valid: jax.Array | None
    ) -> tuple[jax.Array, list[State]]:
        finals = []
        for kernels, biases, initial in layers:
            x, final = scan(gates, False, x, kernels, biases, initial, valid)
            finals.append(final)
        return x, finals

    if len(layers) == 1 or x.shape[1] < _LARGE or gates.backward is None:
        return by_layer(x, layers, valid)
    if gates.native and recurrence.serves(gates.native, x, layers[0].initial, valid):
        return by_layer(x, layers, valid)

    @jax.custom_vjp
    def run(*inputs: Any) -> tuple[jax.Array, list[State]]:
        together = partial(_layers_together, gates)
        return lax.platform_dependent(*inputs, cpu=together, default=by_layer)

    run.defvjp(partial(jax.vjp, by_layer), lambda pull_back, cotangents: pull_back(cotangents))
    return run(x, vary_like(x, layers), valid)


def _layers_together(
    gates: Gates, x: jax.Array, layers: Sequence[Layer], valid: jax.Array | None
) -> tuple[jax.Array, list[State]]:
    """``stacked``, a step of all layers after the other."""

    def step(states: list[State], inputs: tuple) -> tuple[list[State], jax.Array]:
        x, valid = inputs
        after: list[State] = []
        for layer, state in zip(layers, states, strict=True):
            new, _ = _step(gates, layer.kernels, layer.biases, state, x, valid)
            after.append(new)
            x = new[0]
        return after, x

    finals, outputs = lax.scan(step, [layer.initial for layer in layers], (x, valid))
    return outputs, finals


def by_gate(array: jax.Array, hidden: int) -> tuple[jax.Array, ...]:
    """[..., G·H] as G arrays [..., H]."""
    return tuple(jnp.split(array, array.shape[-1] // hidden, axis=-1))


def _steps(
    gates: Gates,
    reverse: bool,
    x: jax.Array,
    kernels: Kernels,
    biases: Biases,
    initial: State,
    valid: jax.Array | None,
) -> tuple[State, tuple[State, Any]]:
    """The final state; and by time step, the state after it and what was saved.

    Without an input's kernel x is z.
    """
    hidden = initial[-1].shape[-1]
    # A step reads an array of its own for each gate: of parts of one, found at a running index,
    # XLA's loop on CPUs takes four times as long.
    given = by_gate(x, hidden) if kernels[0] is None else x

    def step(state: State, inputs: tuple) -> tuple[State, tuple[State, Any]]:
        new, saved = _step(gates, kernels, biases, state, *inputs)
        return new, (new, saved)

    return lax.scan(step, initial, (given, valid), reverse=reverse)


def _step(
    gates: Gates, kernels: Kernels, biases: Biases, state: State, x: Any, valid: jax.Array | None
) -> tuple[State, Any]:
    """The state after a step, and what is saved; without an input's kernel x is z."""
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
    needed = None if kernels[0] is None else x  # the way back takes no z
    return (states[0], final), (needed, kernels, *rest, states, saved)


def _unroll_backward(gates: Gates, reverse: bool, residuals: Any, cotangents: Any) -> tuple:
    x, kernels, biases, initial, valid, states, saved = residuals
    d_outputs, d_final = cotangents
    previous = tuple(before(*pair, reverse) for pair in zip(initial, states, strict=True))
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
    """The gradients of z, kernels, biases and the initial state."""

    def step(d_state: State, inputs: tuple) -> tuple[State, jax.Array]:
        d_state, dz, _ = _step_back(gates, kernel, d_state, *inputs)
        return d_state, dz

    d_initial, dz = lax.scan(step, d_final, steps, reverse=not reverse)
    _, saved, previous, *_ = steps
    du = rows(_recurrent(gates, dz, saved))
    d_bias = None if bias is None else du.sum(0)
    return dz, (None, rows(previous[0]).T @ du), (None, d_bias), d_initial


def _back_step_by_step(
    gates: Gates,
    reverse: bool,
    x: jax.Array,
    kernels: Kernels,
    biases: Biases,
    d_final: State,
    steps: tuple,
) -> tuple:
    """The gradients of x, kernels, biases and the initial state."""

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
    """The gradients of the state before a step, of z and of u."""
    assert gates.backward is not None  # else the derivative is autodiff's
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
