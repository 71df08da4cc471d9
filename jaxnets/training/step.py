"""One training step, as a pure function."""

import dataclasses
import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax

from jaxnets.arrays import ArrayLike, InputError, called, check_positive, check_usable, describe
from jaxnets.layers import shard
from jaxnets.layers.native.gradients import in_reverse_alone
from jaxnets.training.counts import counted
from jaxnets.training.placement import AXIS
from jaxnets.training.state import Program, TrainState


class StepMetrics(NamedTuple):
    """What a step measured on its batch, before the update; many steps' as arrays, on the host too.

    Attributes:
        loss: of the batch.
        correct: correct predictions, int32; 0 where the program does not count them.
        total: out of how many, int32; the number of examples where it does not.
        skipped: whether the update was left out, bool; None where none ever is.
    """

    loss: ArrayLike
    correct: ArrayLike
    total: ArrayLike
    skipped: ArrayLike | None = None


def train_step(
    program: Program,
    state: TrainState,
    inputs: jax.Array,
    labels: jax.Array,
    *,
    size: int | None = None,
) -> tuple[TrainState, StepMetrics]:
    """Takes one optimizer step on one batch.

    Augmentation, dropout and the like are drawn from the state's key and step: the same state and
    batch give the same step.

    Of several devices each runs this on its part of the batch, and all come to the same state. The
    outputs of all are brought together before the loss: whatever function of the whole batch it
    is, the loss is the same as on one device, and so is its gradient, the sum of what the devices'
    parts add to it.

    Where the program skips what is not finite, such a step changes nothing but the number of steps.

    Args:
        program: the model's graph, loss, optimizer, augmentation and transform.
        state: before the step.
        inputs: [batch, …], as the data set holds them; of several devices, this one's part.
        labels: [batch, …].
        size: examples in the batch over all devices; None for those of the one device.

    Returns:
        The state after the step, and what was measured before the update.

    Raises:
        InputError: if an argument is bad.
    """
    _check_step(program, state, inputs, labels)
    size = len(inputs) if size is None else check_positive("size", size)
    key = program.device_key(state.key)
    inputs, labels = program.augmented(inputs, labels, key, state.step)

    def objective(outputs: Any) -> tuple[ArrayLike, StepMetrics]:
        metrics = measure(program, outputs, whole_labels)
        return metrics.loss, metrics

    with shard.of_batch(AXIS, program.shards, len(inputs), size) as weight:
        run = forward if program.accumulate == 1 else forward_in_parts
        outputs, pull_back, model_state = run(program, state, inputs, key)
    whole_outputs, whole_labels = gathered((outputs, labels), program.shards, size)
    loss, to_outputs, metrics = jax.vjp(objective, whole_outputs, has_aux=True)
    (cotangent,) = to_outputs(jnp.ones_like(loss))
    gradients = pull_back(_own_part(cotangent, program.shards, len(inputs)))
    if program.shards > 1:
        gradients = lax.platform_dependent(
            gradients, cpu=_summed_in_order, default=lambda tree: lax.psum(tree, AXIS)
        )
    updates, optimizer_state = optax.with_extra_args_support(program.optimizer).update(
        gradients, state.optimizer_state, state.parameters, value=loss, grad=gradients
    )
    after = TrainState(
        parameters=optax.apply_updates(state.parameters, updates),
        model_state=_settled(model_state, state.model_state, weight),
        optimizer_state=optimizer_state,
        step=state.step + 1,
        epoch=state.epoch,
        key=state.key,
    )
    if not program.skip_non_finite:
        return after, metrics
    finite = _all_finite((loss, gradients))
    return _if_finite(finite, after, state), metrics._replace(skipped=~finite)


def _check_step(program: Any, state: Any, inputs: Any, labels: Any) -> None:
    if not isinstance(program, Program):
        raise InputError("program", "a Program", program)
    if not isinstance(state, TrainState):
        raise InputError("state", "a TrainState", state)
    check_usable("inputs", "an array [batch, …]", inputs)
    check_usable("labels", "an array [batch, …]", labels)
    if not inputs.ndim or labels.shape[:1] != inputs.shape[:1]:
        raise InputError("labels", f"one for each of the inputs {describe(inputs)}", labels)


def forward(
    program: Program, state: TrainState, inputs: jax.Array, key: jax.Array
) -> tuple[Any, Callable[[Any], nnx.State], nnx.State]:
    """Runs the network in training mode.

    Args:
        program: see ``train_step``.
        state: before the step.
        inputs: [batch, …].
        key: from which streams are seeded, together with the step.

    Returns:
        The outputs, a function from the loss's gradient by them to that by the parameters, and the
        model's other variables after.

    Raises:
        InputError: if the batch is taken in parts, and an output is not [batch, …].
    """

    def run(parameters: nnx.State) -> tuple[Any, nnx.State]:
        # a copy, as statistics and streams are changed inside the gradient's trace
        model = nnx.merge(program.graphdef, program.cast(parameters), state.model_state, copy=True)
        model.train()
        reseed(model, jax.random.fold_in(key, state.step))
        with in_reverse_alone(model):
            outputs = model(program.inputs(inputs))
        nnx.pop(model, nnx.Intermediate)
        return program.uncast(outputs), nnx.split(model, nnx.Param, ...)[2]

    outputs, pull_back, model_state = jax.vjp(run, state.parameters, has_aux=True)
    if program.shards > 1 or program.accumulate > 1:
        check_of_examples(outputs, len(inputs))
    return outputs, lambda cotangent: pull_back(cotangent)[0], model_state


def forward_in_parts(
    program: Program, state: TrainState, inputs: jax.Array, key: jax.Array
) -> tuple[Any, Callable[[Any], nnx.State], nnx.State]:
    """``forward``, a part of the batch after the other, so that one at a time is in memory.

    The outputs of all parts make the loss, which is thus that of the whole batch, whatever
    function it is. To come back from it each part is run once more. The parts draw from keys of
    their own; batch statistics are a part's.
    """
    size = len(inputs)
    part = -(-size // program.accumulate)
    count = -(-size // part)  # parts that hold examples
    parts = _cut(inputs, count, part)
    numbers = jnp.arange(count)

    def of_part(number: jax.Array, inputs: jax.Array, model_state: nnx.State) -> Any:
        before = dataclasses.replace(state, model_state=model_state)
        with shard.part_of_batch(number, part, size):
            return forward(program, before, inputs, jax.random.fold_in(key, number))

    def look(model_state: nnx.State, one: Any) -> tuple[nnx.State, Any]:
        number, inputs = one
        outputs, _, after = of_part(number, inputs, model_state)
        return _settled(after, model_state, None), (outputs, model_state)

    def learn(total: nnx.State, one: Any) -> tuple[nnx.State, None]:
        number, inputs, model_state, cotangent = one
        gradients = of_part(number, inputs, model_state)[1](cotangent)
        return jax.tree.map(jnp.add, total, gradients), None

    model_state, (outputs, before) = lax.scan(look, state.model_state, (numbers, parts))

    def pull_back(cotangent: Any) -> nnx.State:
        cotangents = jax.tree.map(lambda x: _cut(x, count, part), cotangent)
        nothing = jax.tree.map(jnp.zeros_like, state.parameters)
        return lax.scan(learn, nothing, (numbers, parts, before, cotangents))[0]

    whole = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:size], outputs)
    return whole, pull_back, model_state


def measure(program: Program, outputs: Any, labels: jax.Array) -> StepMetrics:
    """The loss of a batch and its correct predictions.

    Raises:
        InputError: if the loss, or the number of correct predictions, is none.
    """
    expected = "a function that returns a floating-point scalar, the mean over the batch"
    loss = _scalar("loss", expected, jnp.floating, program.loss, outputs, labels)
    if program.correct is None:
        return StepMetrics(loss, jnp.int32(0), jnp.int32(len(labels)))
    return StepMetrics(loss, *counted(program.correct, outputs, labels))


def _scalar(
    name: str, expected: str, kind: Any, function: Any, outputs: Any, labels: jax.Array
) -> ArrayLike:
    """What a user's function makes of a batch: one number of a kind."""
    made = called(name, expected, function, outputs, labels)
    known = isinstance(made, jax.Array | np.ndarray | np.generic | int | float)
    if not known or jnp.shape(made) != () or not jnp.issubdtype(jnp.result_type(made), kind):
        got = f"{jnp.result_type(made)}{list(jnp.shape(made))}" if known else type(made).__name__
        raise InputError(name, expected, got)
    return made


def _all_finite(tree: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _if_finite(finite: jax.Array, after: TrainState, before: TrainState) -> TrainState:
    """The state after a step or, but for the number of steps, the one before."""
    chosen = jax.tree.map(lambda new, old: lax.select(finite, new, old), after, before)
    return dataclasses.replace(chosen, step=after.step)


def reseed(model: nnx.Module, key: jax.Array) -> None:
    """Sets every random stream of a model from one key and the stream's place in the model."""
    for path, node in nnx.iter_graph(model):
        if isinstance(node, nnx.RngStream):
            place = "/".join(map(str, path))
            fresh = jax.random.fold_in(key, zlib.crc32(place.encode()))
            fresh = _of_kind(fresh, jax.random.key_impl(node.key.get_value()))
            shape = node.key.shape
            node.key.set_value(jax.random.split(fresh, shape) if shape else fresh)
            node.count.set_value(jnp.zeros(shape, jnp.uint32))


def check_of_examples(outputs: Any, count: int) -> None:
    """Raises unless outputs of parts of a batch can be put together: [count, …] each."""
    for leaf in jax.tree.leaves(outputs):
        if jnp.shape(leaf)[:1] != (count,):
            expected = "outputs [batch, …] alone, as each batch is taken in parts"
            got = f"{describe(jnp.asarray(leaf))} for {count} examples"
            raise InputError("model", expected, got)


def gathered(tree: Any, shards: int, size: int) -> Any:
    """Arrays [batch, …] of which each device has a part, whole on each."""
    if shards == 1:
        return tree
    return jax.tree.map(lambda x: lax.all_gather(x, AXIS, tiled=True)[:size], tree)


def _summed_in_order(tree: Any) -> Any:
    """The sum over the devices, in their order, whichever processes have them.

    Within a process and between processes ``psum`` takes different orders.
    """
    every = lax.all_gather(tree, AXIS)  # adding them up by ``sum`` takes XLA's CPU 30 times as long
    return jax.tree.map(lambda arrays: functools.reduce(jnp.add, list(arrays)), every)


def _cut(array: jax.Array, count: int, part: int) -> jax.Array:
    """[batch, …] → [count, part, …], filled up with zeros."""
    missing = [(0, count * part - len(array)), *[(0, 0)] * (array.ndim - 1)]
    return jnp.pad(array, missing).reshape(count, part, *array.shape[1:])


def _own_part(tree: Any, shards: int, part: int) -> Any:
    """This device's part of arrays [batch, …]; zeros for examples that do not count."""
    if shards == 1:
        return tree

    def own(array: jax.Array) -> jax.Array:
        missing = [(0, shards * part - len(array)), *[(0, 0)] * (array.ndim - 1)]
        return lax.dynamic_slice_in_dim(jnp.pad(array, missing), lax.axis_index(AXIS) * part, part)

    return jax.tree.map(own, tree)


def _settled(after: nnx.State, before: nnx.State, weight: jax.Array | None) -> nnx.State:
    """The model's other variables after a step, the same on every device.

    Random streams stay as they are, as each step seeds them anew. What else differs between the
    devices are statistics of their parts of the batch: the mean is taken, weighted by ``weight``,
    their share of the examples.
    """

    def settle(path: Any, new: Any, old: Any) -> Any:
        if isinstance(new, nnx.RngState):
            return old
        value = new.get_value()
        if weight is None or not jnp.issubdtype(value.dtype, jnp.floating):
            return new
        return new.replace(lax.psum(value * weight.astype(value.dtype), AXIS))

    return jax.tree.map_with_path(
        settle, after, before, is_leaf=lambda node: isinstance(node, nnx.Variable)
    )


def _of_kind(key: jax.Array, kind: Any) -> jax.Array:
    """A key for another generator, drawn from this one."""
    if jax.random.key_impl(key) == kind:
        return key
    words = jax.random.key_data(jax.random.key(0, impl=kind)).shape
    return jax.random.wrap_key_data(jax.random.bits(key, words, jnp.uint32), impl=kind)
