"""Many steps in one compiled program, over data that stays on the device."""

import functools
from typing import NamedTuple

import jax
import numpy as np
from jax import lax

from jaxnets.training.state import Program, TrainState, merge
from jaxnets.training.step import StepMetrics, measure, train_step

# On accelerators an epoch is one program. On a CPU it takes seconds to minutes, and whoever
# watches it, or wants to stop it, waits for the program under way: so an epoch is a few of them.
_PIECES_ON_CPU = 16
_SMALLEST_PIECE = 16


class Arrays(NamedTuple):
    """A split on the device.

    Attributes:
        inputs: [examples, …].
        labels: [examples, …].
    """

    inputs: jax.Array
    labels: jax.Array


@functools.partial(jax.jit, static_argnames="program", donate_argnames="state")
def train_steps(
    program: Program, state: TrainState, data: Arrays, indices: jax.Array
) -> tuple[TrainState, StepMetrics]:
    """Takes a step for each row of indices.

    Args:
        program: see ``train_step``.
        state: before the steps; its memory is reused for the state after them.
        data: the training split.
        indices: [steps, batch] int32, the examples of each step.

    Returns:
        The state after the steps, and each step's metrics [steps].
    """

    def step(state: TrainState, rows: jax.Array) -> tuple[TrainState, StepMetrics]:
        return train_step(program, state, data.inputs[rows], data.labels[rows])

    return lax.scan(step, state, indices)


@functools.partial(jax.jit, static_argnames="program")
def evaluate_batches(
    program: Program, state: TrainState, data: Arrays, indices: jax.Array
) -> StepMetrics:
    """Measures each row of indices with the model in evaluation mode.

    Args:
        program: see ``train_step``.
        state: the state to evaluate.
        data: the split.
        indices: [batches, batch] int32.

    Returns:
        Each batch's metrics [batches].
    """

    def batch(_: None, rows: jax.Array) -> tuple[None, StepMetrics]:
        model = merge(program.graphdef, state)
        outputs = model(program.inputs(data.inputs[rows]))
        return None, measure(program, outputs, data.labels[rows])

    return lax.scan(batch, None, indices)[1]


@functools.partial(jax.jit, static_argnames="program")
def predict_batches(
    program: Program, state: TrainState, inputs: jax.Array, indices: jax.Array
) -> jax.Array:
    """The model's outputs [batches, batch, …] for each row of indices."""

    def batch(_: None, rows: jax.Array) -> tuple[None, jax.Array]:
        return None, merge(program.graphdef, state)(program.inputs(inputs[rows]))

    return lax.scan(batch, None, indices)[1]


def pieces(full: np.ndarray, rest: np.ndarray, *, whole: bool) -> list[np.ndarray]:
    """Cuts the plan of an epoch into the index arrays of its programs.

    How an epoch is cut depends on its length and the backend alone, so that a run's numbers do
    not depend on who watches it.

    Args:
        full: [steps, batch] indices of the full batches.
        rest: [r] indices of the last smaller batch; it is a step of its own, at its true size,
            so that means and batch statistics are PyTorch's.
        whole: whether all full batches go into one program.

    Returns:
        Arrays [steps, batch], of at most three shapes.
    """
    length = len(full) if whole else max(_SMALLEST_PIECE, -(-len(full) // _PIECES_ON_CPU))
    cut = [full[start : start + length] for start in range(0, len(full), max(length, 1))]
    return cut + ([rest[None, :]] if len(rest) else [])
