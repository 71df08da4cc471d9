"""Many steps in one compiled program."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnets.layers import shard
from jaxnets.training.batches import Batches, Gathered
from jaxnets.training.computation import primitives
from jaxnets.training.placement import AXIS
from jaxnets.training.state import Program, TrainState, outputs
from jaxnets.training.step import StepMetrics, check_of_examples, gathered, measure, train_step

# On a CPU, where many small matrices are faster than one, but all of them are to be in its cache.
_TRAINED_ON_CPU = 4
# Elsewhere, as the batches of an evaluation are large and each member needs memory for one.
_EVALUATED = 16
# What makes a step long, so that on a CPU members are trained one after the other: convolutions
# with weights of their own for each member take twice the time, and loops up to 1.4 times.
_LONG = {"conv_general_dilated", "scan", "while"}


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

    def member(one: tuple[TrainState, jax.Array]) -> tuple[TrainState, StepMetrics]:
        state, rows = one
        return train_steps(program, size, state, batches._replace(rows=rows), count)

    every = states, jnp.moveaxis(batches.rows, 2, 0)
    return _for_each(member, every, _trained_at_once(program, size, states, batches))


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
    """``evaluate_batches`` for states [members, …]."""

    def member(state: TrainState) -> StepMetrics:
        return evaluate_batches(program, size, state, batches, count)

    return _for_each(member, states, _evaluated_at_once())


def predict_batches(
    program: Program, size: int, state: TrainState, batches: Batches, count: np.int32 | None
) -> Any:
    """The model's outputs [batches, batch, …] for each batch, on one device."""

    def step(_: None, number: jax.Array) -> tuple[None, Any]:
        inputs = batches.batch(number)[0]
        return None, outputs(program, state, inputs)

    return lax.scan(step, None, jnp.arange(batches.steps))[1]


def _for_each(function: Callable[[Any], Any], every: Any, at_once: int) -> Any:
    """A function of each member of arrays [members, …], some of them at a time."""
    if at_once >= len(jax.tree.leaves(every)[0]):
        return jax.vmap(function)(every)
    return lax.map(function, every, batch_size=at_once if at_once > 1 else None)


def _trained_at_once(program: Program, size: int, states: TrainState, batches: Gathered) -> int:
    """How many members to train at a time: all, but for CPUs."""
    if jax.default_backend() != "cpu":
        return batches.rows.shape[2]

    def step(state: TrainState, rows: jax.Array) -> Any:
        batch = batches._replace(rows=rows).batch(jnp.int32(0))
        return train_step(program, state, *batch, size=size)

    one = jax.tree.map(lambda array: array[0], states)
    traced = jax.make_jaxpr(step)(one, batches.rows[:, :, 0])
    return _TRAINED_ON_CPU if _LONG.isdisjoint(primitives(traced)) else 1


def _evaluated_at_once() -> int:
    return 1 if jax.default_backend() == "cpu" else _EVALUATED


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
    counts = jnp.zeros(room, jnp.int32)
    empty = StepMetrics(jnp.zeros(room, float), counts, counts, skipped)

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
