"""One training step, as a pure function."""

import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxnets.arrays import ArrayLike, InputError
from jaxnets.training.state import Program, TrainState


class StepMetrics(NamedTuple):
    """What a step measured on its batch, before the update; many steps' as arrays, on the host too.

    Attributes:
        loss: mean loss.
        correct: correct predictions, int32; 0 where the program does not count them.
    """

    loss: ArrayLike
    correct: ArrayLike


def reseed(model: nnx.Module, key: jax.Array) -> None:
    """Sets every random stream of a model from one key and the stream's place in the model."""
    for path, node in nnx.iter_graph(model):
        if isinstance(node, nnx.RngStream):
            place = "/".join(map(str, path))
            fresh = jax.random.fold_in(key, zlib.crc32(place.encode()))
            shape = node.key.shape
            node.key.set_value(jax.random.split(fresh, shape) if shape else fresh)
            node.count.set_value(jnp.zeros(shape, jnp.uint32))


def measure(program: Program, outputs: jax.Array, labels: jax.Array) -> StepMetrics:
    """The loss of a batch and its correct predictions.

    Raises:
        InputError: if the loss is not a scalar.
    """
    loss = program.loss(outputs, labels)
    if jnp.shape(loss) != ():
        raise InputError(
            "loss", "a function that returns a scalar, the mean over the batch", jnp.shape(loss)
        )
    if program.correct is None:
        return StepMetrics(loss, jnp.zeros((), jnp.int32))
    return StepMetrics(loss, jnp.asarray(program.correct(outputs, labels), jnp.int32))


def train_step(
    program: Program, state: TrainState, inputs: jax.Array, labels: jax.Array
) -> tuple[TrainState, StepMetrics]:
    """Takes one optimizer step on one batch.

    Augmentation, dropout and the like are drawn from the state's key and step: the same state and
    batch give the same step.

    Args:
        program: the model's graph, loss, optimizer, augmentation and transform.
        state: before the step.
        inputs: [batch, …], as the data set holds them.
        labels: [batch, …].

    Returns:
        The state after the step, and what was measured before the update.
    """
    inputs, labels = program.augmented(inputs, labels, state)

    def objective(parameters: nnx.State) -> tuple[ArrayLike, tuple[StepMetrics, nnx.State]]:
        # a copy, as statistics and streams are changed inside the gradient's trace
        model = nnx.merge(program.graphdef, parameters, state.model_state, copy=True)
        model.train()
        reseed(model, jax.random.fold_in(state.key, state.step))
        outputs = model(program.inputs(inputs))
        metrics = measure(program, outputs, labels)
        _, _, model_state = nnx.split(model, nnx.Param, ...)
        return metrics.loss, (metrics, model_state)

    gradients, (metrics, model_state) = jax.grad(objective, has_aux=True)(state.parameters)
    updates, optimizer_state = program.optimizer.update(
        gradients, state.optimizer_state, state.parameters
    )
    after = TrainState(
        parameters=optax.apply_updates(state.parameters, updates),
        model_state=model_state,
        optimizer_state=optimizer_state,
        step=state.step + 1,
        epoch=state.epoch,
        key=state.key,
    )
    return after, metrics
