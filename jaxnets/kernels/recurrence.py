"""A recurrent layer over all time steps as one call of a native kernel, forward and backward."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.kernels import native
from jaxnets.kernels.gradients import with_gradient
from jaxnets.kernels.time_steps import State, before, rows

# With fewer examples, or fewer of their time steps, it does not pay to pack the kernels.
_LEAST_EXAMPLES, _LEAST_STEPS = 4, 64
# With more, XLA's loop is as fast: a GRU's way back writes more than an LSTM's, and of inputs and
# hidden units together so many make large products, whose packed kernels fill no cache.
_MOST_EXAMPLES = {"lstm": math.inf, "gru": 255}
_MOST_FEATURES = 1024


def serves(cell: str, x: jax.Array, initial: State, valid: jax.Array | None) -> bool:
    """Whether the kernels of ``scan`` can run this recurrence, and are faster than XLA's loop."""
    if valid is not None:
        return False
    time, batch, inputs = x.shape
    pays = _LEAST_EXAMPLES <= batch <= _MOST_EXAMPLES[cell] and batch * time >= _LEAST_STEPS
    fits = inputs + initial[0].shape[-1] <= _MOST_FEATURES
    return pays and fits and native.ready("recurrence", x, *initial)


def scan(
    cell: str, reverse: bool, plain: Callable[..., tuple[jax.Array, State]]
) -> Callable[..., tuple[jax.Array, State]]:
    """A recurrence over time, computed by kernels.

    Args:
        cell: ``"lstm"`` or ``"gru"``.
        reverse: whether time runs from the last step to the first.
        plain: the same function in XLA's operations.

    Returns:
        A function of x [T, B, I]; the kernels, [I, G·H] and [H, G·H]; the biases, [G·H] each or
        None; and the initial state, [B, H] each. It gives the hidden states by time step,
        [T, B, H], and the state after the last step.
    """

    def call(way: str, shapes: list[tuple[int, ...]], *arguments: jax.Array) -> list[jax.Array]:
        results = [jax.ShapeDtypeStruct(shape, arguments[0].dtype) for shape in shapes]
        name, options = f"{cell}_{way}", {"reverse": np.int32(reverse)}
        return native.call("recurrence", name, results, *arguments, **options)

    def last(steps: jax.Array) -> jax.Array:
        return steps[0 if reverse else -1]

    def run(*inputs: Any) -> tuple[jax.Array, State]:
        x, *_, initial = inputs
        shapes = [(*x.shape[:2], initial[0].shape[-1]), *(c.shape for c in initial[1:])]
        outputs, *last_c = call("forward", shapes, *_arguments(inputs))
        return outputs, (last(outputs), *last_c)

    def keep(*inputs: Any) -> tuple[tuple[jax.Array, State], tuple[State, jax.Array]]:
        """Keeps h by time step, [T, B, H], of an LSTM c too; and the gates, [T, B, 4H]."""
        x, *_, initial = inputs
        hidden = initial[0].shape[-1]
        shapes = [(*x.shape[:2], size) for size in (*[hidden] * len(initial), 4 * hidden)]
        *states, saved = call("forward", shapes, *_arguments(inputs))
        return (states[0], tuple(map(last, states))), (tuple(states), saved)

    def pull_back(inputs: tuple, kept: tuple[State, jax.Array], cotangents: Any) -> tuple:
        (x, kernels, biases, initial), (states, saved) = inputs, kept
        d_outputs, d_final = cotangents
        share = *x.shape[:2], kernels[1].shape[1]
        shapes = [share, *(state.shape for state in initial)]
        shapes += [share] * (cell == "gru")  # whose hidden share is another
        arguments = d_outputs, saved, states[-1], initial[-1], kernels[1], *d_final
        dz, *others = call("backward", shapes, *arguments)
        d_initial, of_hidden = tuple(others[: len(initial)]), others[len(initial) :]
        dz, du = rows(dz), rows(of_hidden[0] if of_hidden else dz)
        earlier = before(initial[0], states[0], reverse)
        d_kernels = rows(x).T @ dz, rows(earlier).T @ du
        d_biases = tuple(
            None if bias is None else d.sum(0) for bias, d in zip(biases, (dz, du), strict=True)
        )
        return (dz @ kernels[0].T).reshape(x.shape), d_kernels, d_biases, d_initial

    return with_gradient(run, keep, pull_back, plain)


def _arguments(inputs: Any) -> tuple[jax.Array, ...]:
    x, kernels, biases, initial = inputs
    nothing = jnp.zeros(kernels[1].shape[1:], x.dtype)
    return x, *kernels, *(nothing if bias is None else bias for bias in biases), *initial
