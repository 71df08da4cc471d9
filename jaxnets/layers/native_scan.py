"""A recurrent layer over all time steps as one call of a native kernel, forward and backward."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.layers import native
from jaxnets.layers.shard import vary_like
from jaxnets.layers.time_steps import State, before, rows

#: x [T, B, I]; the kernels, [I, G·H] and [H, G·H]; the biases, [G·H] each or None; the initial
#: state, [B, H] each.
Inputs = tuple[jax.Array, Any, Any, State]

# With fewer examples, or fewer of their time steps, it does not pay to pack the kernels.
_LEAST_EXAMPLES, _LEAST_STEPS = 4, 64
# With more, XLA's loop is as fast: a GRU's way back writes more than an LSTM's, and of inputs and
# hidden units together so many make large products, whose packed kernels fill no cache.
_MOST_EXAMPLES = {"lstm": math.inf, "gru": 255}
_MOST_FEATURES = 1024


class Recurrence(NamedTuple):
    """What runs over time.

    Attributes:
        cell: ``"lstm"`` or ``"gru"``.
        reverse: whether time runs from the last step to the first.
        plain: the same function of the inputs as ``scan``, in XLA's operations: for second
            derivatives.
    """

    cell: str
    reverse: bool
    plain: Callable[..., tuple[jax.Array, State]]

    def call(self, way: str, shapes: list[tuple[int, ...]], *arguments: jax.Array) -> list:
        """Calls the kernel that goes this way."""
        results = [jax.ShapeDtypeStruct(shape, arguments[0].dtype) for shape in shapes]
        name, reverse = f"{self.cell}_{way}", np.int32(self.reverse)
        return vary_like(arguments[0], native.call(name, results, *arguments, reverse=reverse))

    def last(self, steps: jax.Array) -> jax.Array:
        """Of arrays by time step that after the last one."""
        return steps[0 if self.reverse else -1]


class Kept(NamedTuple):
    """What the way back needs.

    Attributes:
        states: h by time step, [T, B, H]; of an LSTM c too.
        gates: and what else a step has made, [T, B, 4H].
    """

    states: State
    gates: jax.Array


def serves(cell: str, x: jax.Array, initial: State, valid: jax.Array | None) -> bool:
    """Whether ``scan`` can run this recurrence, and is faster than XLA's loop."""
    if valid is not None:
        return False
    time, batch, inputs = x.shape
    dtypes = {array.dtype for array in (x, *initial)}
    known = dtypes in ({jnp.dtype(jnp.float32)}, {jnp.dtype(jnp.float64)})
    pays = _LEAST_EXAMPLES <= batch <= _MOST_EXAMPLES[cell] and batch * time >= _LEAST_STEPS
    fits = inputs + initial[0].shape[-1] <= _MOST_FEATURES
    return known and pays and fits and native.ready()


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def scan(recurrence: Recurrence, *inputs: Any) -> tuple[jax.Array, State]:
    """Runs the recurrence over time.

    Args:
        recurrence: what runs.
        inputs: see ``Inputs``.

    Returns:
        The hidden states by time step, [T, B, H], and the state after the last step.
    """
    x, *_, initial = inputs
    shapes = [(*x.shape[:2], initial[0].shape[-1]), *(c.shape for c in initial[1:])]
    outputs, *last_c = recurrence.call("forward", shapes, *_arguments(inputs))
    return outputs, (recurrence.last(outputs), *last_c)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _keep(recurrence: Recurrence, *inputs: Any) -> Kept:
    """What ``scan`` makes, all of it."""
    x, *_, initial = inputs
    hidden = initial[0].shape[-1]
    shapes = [(*x.shape[:2], size) for size in (*[hidden] * len(initial), 4 * hidden)]
    *states, gates = recurrence.call("forward", shapes, *_arguments(inputs))
    return Kept(tuple(states), gates)


def _arguments(inputs: Any) -> tuple[jax.Array, ...]:
    x, kernels, biases, initial = inputs
    nothing = jnp.zeros(kernels[1].shape[1:], x.dtype)
    return x, *kernels, *(nothing if bias is None else bias for bias in biases), *initial


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _pull_back(recurrence: Recurrence, inputs: Any, kept: Kept, cotangents: Any) -> tuple:
    """The gradients of the inputs."""
    (x, kernels, biases, initial), (d_outputs, d_final) = inputs, cotangents
    share = *x.shape[:2], kernels[1].shape[1]
    shapes = [share, *(state.shape for state in initial)]
    shapes += [share] * (recurrence.cell == "gru")  # whose hidden share is another
    arguments = d_outputs, kept.gates, kept.states[-1], initial[-1], kernels[1], *d_final
    dz, *others = recurrence.call("backward", shapes, *arguments)
    d_initial, of_hidden = tuple(others[: len(initial)]), others[len(initial) :]
    dz, du = rows(dz), rows(of_hidden[0] if of_hidden else dz)
    earlier = before(initial[0], kept.states[0], recurrence.reverse)
    d_kernels = rows(x).T @ dz, rows(earlier).T @ du
    d_biases = tuple(
        None if bias is None else d.sum(0) for bias, d in zip(biases, (dz, du), strict=True)
    )
    return (dz @ kernels[0].T).reshape(x.shape), d_kernels, d_biases, d_initial


def _scan_forward(recurrence: Recurrence, *inputs: Any) -> tuple[Any, Any]:
    kept = _keep(recurrence, *inputs)
    return (kept.states[0], tuple(map(recurrence.last, kept.states))), (inputs, kept)


def _scan_backward(recurrence: Recurrence, residuals: Any, cotangents: Any) -> tuple:
    return _pull_back(recurrence, *residuals, cotangents)


scan.defvjp(_scan_forward, _scan_backward)


# Second derivatives, as of a gradient penalty. What is kept follows from the inputs: `_pull_back`
# is thus a function of inputs and cotangents alone, and all else that is made of what `_keep` gives
# are the outputs and the last state.


def _keep_forward(recurrence: Recurrence, *inputs: Any) -> tuple[Any, Any]:
    return _keep(recurrence, *inputs), inputs


def _keep_backward(recurrence: Recurrence, inputs: Any, d: Kept) -> tuple:
    d_outputs, *d_c = d.states
    d_final = jnp.zeros_like(inputs[3][0]), *map(recurrence.last, d_c)
    return jax.vjp(recurrence.plain, *inputs)[1]((d_outputs, d_final))


def _pull_back_forward(
    recurrence: Recurrence, inputs: Any, kept: Kept, cotangents: Any
) -> tuple[Any, Any]:
    return _pull_back(recurrence, inputs, kept, cotangents), (inputs, kept, cotangents)


def _pull_back_backward(recurrence: Recurrence, residuals: Any, d: Any) -> tuple:
    inputs, kept, cotangents = residuals

    def gradients(inputs: Any, cotangents: Any) -> tuple:
        return jax.vjp(recurrence.plain, *inputs)[1](cotangents)

    d_inputs, d_cotangents = jax.vjp(gradients, inputs, cotangents)[1](d)
    return d_inputs, jax.tree.map(jnp.zeros_like, kept), d_cotangents


_keep.defvjp(_keep_forward, _keep_backward)
_pull_back.defvjp(_pull_back_forward, _pull_back_backward)
