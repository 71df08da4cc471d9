"""Many steps in one compiled program."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnets.layers import shard
from jaxnets.training.batches import Batches, Gathered
from jaxnets.training.placement import AXIS
from jaxnets.training.state import Program, TrainState, outputs
from jaxnets.training.step import StepMetrics, check_of_examples, gathered, measure, train_step

_EVALUATED_AT_ONCE = 16


def train_steps(
    program: Program, size: int, state: TrainState, batches: Batches, count: np.int32 | None
) -> tuple[TrainState, StepMetrics]:
    """Takes a step for each batch.

    Args:
        program: see ``train_step``.
        size: examples in a batch, over all devices.
        state: before the steps.
        batches: this device's part of them.
        count: how many of the batches to take; None for all.

    Returns:
        The state after the steps, and each step's metrics [steps].
    """

    def step(state: TrainState, number: jax.Array) -> tuple[TrainState, StepMetrics]:
        return train_step(program, state, *batches.batch(number), size=size)

    skipped = jnp.zeros(batches.steps, bool) if program.skip_non_finite else None
    return _collect(step, state, batches.steps, count, skipped)


def train_members(
    program: Program, size: int, states: TrainState, batches: Gathered, count: np.int32 | None
) -> tuple[TrainState, StepMetrics]:
    """``train_steps`` for many runs at once, on one copy of the examples.

    Args:
        program: see ``train_step``.
        size: examples in a batch.
        states: before the steps, each array [members, …].
        batches: with rows [steps, batch, members].
        count: how many of the batches to take; None for all.

    Returns:
        The states after the steps, and each step's metrics [members, steps].
    """

    def member(state: TrainState, rows: jax.Array) -> tuple[TrainState, StepMetrics]:
        return train_steps(program, size, state, batches._replace(rows=rows), count)

    return jax.vmap(member, in_axes=(0, 2))(states, batches.rows)


def evaluate_batches(
    program: Program, size: int, state: TrainState, batches: Batches, count: np.int32 | None
) -> StepMetrics:
    """Measures each batch with the model in evaluation mode; arguments as of ``train_steps``."""

    def step(state: TrainState, number: jax.Array) -> tuple[TrainState, StepMetrics]:
        inputs, labels = batches.batch(number)
        with shard.of_batch(AXIS, program.shards, len(inputs), size):
            made = outputs(program, state, inputs)
        if program.shards > 1:
            check_of_examples(made, len(inputs))
        return state, measure(program, *gathered((made, labels), program.shards, size))

    return _collect(step, state, batches.steps, count)[1]


def evaluate_members(
    program: Program, size: int, states: TrainState, batches: Batches, count: np.int32 | None
) -> StepMetrics:
    """``evaluate_batches`` for states [members, …], some at a time, as each takes memory."""

    def member(state: TrainState) -> StepMetrics:
        return evaluate_batches(program, size, state, batches, count)

    return lax.map(member, states, batch_size=_EVALUATED_AT_ONCE)


def predict_batches(
    program: Program, size: int, state: TrainState, batches: Batches, count: np.int32 | None
) -> Any:
    """The model's outputs [batches, batch, …] for each batch, on one device."""

    def step(_: None, number: jax.Array) -> tuple[None, Any]:
        inputs = batches.batch(number)[0]
        return None, outputs(program, state, inputs)

    return lax.scan(step, None, jnp.arange(batches.steps))[1]


def _collect(
    step: Callable[[TrainState, jax.Array], tuple[TrainState, StepMetrics]],
    state: TrainState,
    room: int,
    count: np.int32 | None,
    skipped: jax.Array | None = None,
) -> tuple[TrainState, StepMetrics]:
    """A scan of ``count`` steps, which may be known when it runs alone.

    What it collects has always ``room`` places, and the program is the same for any count: it
    neither compiles again for another one, nor adds up in another order.
    """
    empty = StepMetrics(jnp.zeros(room, float), jnp.zeros(room, jnp.int32), skipped)

    def body(number: jax.Array, carry: tuple[TrainState, StepMetrics]) -> Any:
        state, all_of_them = carry
        state, one = step(state, number)
        place = jax.tree.map(
            lambda many, value: lax.dynamic_update_index_in_dim(
                many, jnp.asarray(value, many.dtype), number, 0
            ),
            all_of_them,
            one,
        )
        return state, place

    return lax.fori_loop(0, room if count is None else count, body, (state, empty))
