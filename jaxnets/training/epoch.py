"""The functions that are compiled: many training, evaluation or inference steps in one program."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

from jaxnets.data.transforms.compose import applied
from jaxnets.kernels import native
from jaxnets.kernels.rewrite import divided, with_kernels
from jaxnets.training.batches import Batches, Gathered
from jaxnets.training.computation import primitives
from jaxnets.training.objective import Objective, measure, outputs_of
from jaxnets.training.placement import Placement
from jaxnets.training.state import DRAWS, TrainState
from jaxnets.training.steps import Step, StepMetrics, train_step

# Number of members trained at once on a CPU. Batched small matrix products are faster than single
# ones as long as all matrices fit into the cache.
_TRAINED_ON_CPU = 4
# Number of members evaluated at once on an accelerator. Each needs memory for its activations, and
# the batches of an evaluation are large.
_EVALUATED = 16
# With these primitives, members are trained one after the other on a CPU: batched over members,
# convolutions take twice the time and loops up to 1.4 times.
_LONG = {"conv_general_dilated", "scan", "while"}


class Program(NamedTuple):
    """The static arguments of a compiled program. Hashable.

    Attributes:
        run: the step for training, the objective for evaluation, or the transform for inference.
        placement: the devices.
    """

    run: Any
    placement: Placement


def train_steps(
    program: Program, state: TrainState, batches: Batches, count: np.int32 | None
) -> tuple[TrainState, StepMetrics]:
    """Takes a step for each batch.

    Args:
        program: the step and the devices.
        state: the state before the steps.
        batches: the batches.
        count: number of batches to use; None for all.

    Returns:
        The state after the steps, and each step's metrics [steps, …].
    """
    placement = program.placement

    def step(state: TrainState, number: jax.Array) -> tuple[TrainState, StepMetrics]:
        return one_step(program.run, placement.several)(state, placement.cut(batches.batch(number)))

    after, metrics = _collect(step, state, batches.steps, count)
    return placement.cut_state(after), metrics


def train_members(
    program: Program, states: TrainState, batches: Gathered, count: np.int32 | None
) -> tuple[TrainState, StepMetrics]:
    """Takes a step for each batch of several runs, on one copy of the examples.

    Args:
        program: the step and the devices.
        states: the states before the steps, each array [members, …].
        batches: the batches, with rows [steps, batch, members].
        count: number of batches to use; None for all.

    Returns:
        The states after the steps, and each step's metrics [members, steps, …].
    """

    def member(one: tuple[TrainState, jax.Array]) -> tuple[TrainState, StepMetrics]:
        state, rows = one
        return train_steps(program, state, batches._replace(rows=rows), count)

    # The columns are not mapped: all members read one copy of the examples.
    every = states, jnp.moveaxis(batches.rows, 2, 0)
    return _for_each(member, every, _trained_at_once(program.run, states, batches))


def evaluate_batches(
    program: Program, state: TrainState, batches: Batches, count: np.int32 | None
) -> StepMetrics:
    """Evaluates an objective on each batch, the model in evaluation mode; see ``train_steps``."""

    def step(_: None, number: jax.Array) -> tuple[None, StepMetrics]:
        batch = program.placement.cut(batches.batch(number))
        with divided(program.placement.several):
            return None, evaluate_batch(program.run, state, batch, number)

    return _collect(step, None, batches.steps, count)[1]


def evaluate_batch(
    objective: Objective, state: TrainState, batch: dict[str, Any], number: Any
) -> StepMetrics:
    """Evaluates an objective on one batch, the model in evaluation mode.

    Args:
        objective: the objective.
        state: the state whose model is evaluated.
        batch: the columns, each [batch, …].
        number: number of the batch, which determines the objective's random key.
    """
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), DRAWS), number)

    def measured(state: TrainState, batch: dict[str, Any], key: jax.Array) -> Any:
        return measure(objective, state.model, batch, key)

    return StepMetrics(*with_kernels(measured)(state, batch, key))


def evaluate_members(
    program: Program, states: TrainState, batches: Batches, count: np.int32 | None
) -> StepMetrics:
    """Evaluates an objective on each batch for states [members, …]; see ``evaluate_batches``."""

    def member(state: TrainState) -> StepMetrics:
        return evaluate_batches(program, state, batches, count)

    return _for_each(member, states, _evaluated_at_once())


def predict_batches(
    program: Program, state: TrainState, batches: Batches, count: np.int32 | None
) -> Any:
    """Computes the model's outputs [batches, batch, …] for all batches, on one device."""

    def step(_: None, number: jax.Array) -> tuple[None, Any]:
        outputs = with_kernels(functools.partial(predicted, program.run))
        return None, outputs(state, batches.batch(number)["inputs"])

    return lax.scan(step, None, jnp.arange(batches.steps))[1]


def predicted(transform: Callable[..., Any] | None, state: TrainState, inputs: Any) -> Any:
    """Computes the outputs of a state's model for inputs before ``transform``, in eval mode."""
    return outputs_of(state.model, applied(transform, inputs))


@functools.lru_cache(maxsize=8)
def one_step(step: Step, mesh: Mesh | None = None) -> Callable[..., tuple[TrainState, StepMetrics]]:
    """Returns ``train_step`` for a step, traced once for each shape of batches.

    The cache shares the trace between the loop and ``Work.measured``, which needs only the shapes.
    """

    def taken(state: TrainState, batch: dict[str, Any]) -> tuple[TrainState, StepMetrics]:
        with divided(mesh):
            return train_step(step, state, batch)

    return jax.jit(taken, inline=True)


def _for_each(function: Callable[[Any], Any], every: Any, at_once: int) -> Any:
    """Applies a function to each member of arrays [members, …], ``at_once`` members at a time."""
    if at_once >= len(jax.tree.leaves(every)[0]):  # without the loop of ``lax.map``
        return jax.vmap(function)(every)
    return lax.map(function, every, batch_size=at_once if at_once > 1 else None)


def _trained_at_once(step: Step, states: TrainState, batches: Gathered) -> int:
    """Returns the number of members to train at a time: all, except on a CPU."""
    if jax.default_backend() != "cpu":
        return batches.rows.shape[2]

    def first(state: TrainState, rows: jax.Array) -> Any:
        return train_step(step, state, batches._replace(rows=rows).batch(jnp.int32(0)))

    one = jax.tree.map(lambda array: array[0], states)
    # Without kernels, whose calls would hide the primitives.
    with native.aside():
        traced = jax.make_jaxpr(first)(one, batches.rows[:, :, 0])
    return _TRAINED_ON_CPU if _LONG.isdisjoint(primitives(traced)) else 1


def _evaluated_at_once() -> int:
    return 1 if jax.default_backend() == "cpu" else _EVALUATED


def _collect(
    step: Callable[[Any, jax.Array], tuple[Any, StepMetrics]],
    state: Any,
    room: int,
    count: np.int32 | None,
) -> tuple[Any, StepMetrics]:
    """Takes ``count`` steps and stacks their metrics, like a scan of dynamic length.

    The stacked metrics always have ``room`` entries, so one program serves any count. It needs no
    recompilation, and its sums have the same order however an epoch is divided into calls.
    """
    traced = jax.jit(step, inline=True)  # traced once, for the shapes and for the loop
    _, shapes = jax.eval_shape(traced, state, jax.ShapeDtypeStruct((), jnp.int32))
    empty = jax.tree.map(lambda x: jnp.zeros((room, *x.shape), x.dtype), shapes)

    def body(number: jax.Array, carry: tuple[Any, StepMetrics]) -> Any:
        state, all_of_them = carry
        state, one = traced(state, number)
        place = jax.tree.map(
            lambda many, value: lax.dynamic_update_index_in_dim(many, value, number, 0),
            all_of_them,
            one,
        )
        return state, place

    # A ``fori_loop`` and not a scan, because ``count`` may be a traced number.
    last = np.int32(room) if count is None else count
    return lax.fori_loop(np.int32(0), last, body, (state, empty))
