"""Measuring a model on every example of a split, and predicting with it."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
import optax
from flax import nnx

from jaxnets.arrays import (
    InputError,
    as_host_array,
    called,
    check_fits,
    check_positive,
    describe,
    shown,
)
from jaxnets.data.batching import epoch_plan
from jaxnets.data.dataset import Split
from jaxnets.data.streaming import StreamedSplit
from jaxnets.training.batches import Feed, ResidentFeed, cut, feed
from jaxnets.training.classes import (
    adds_up,
    check_loss,
    check_names,
    check_outputs,
    expected_labels,
)
from jaxnets.training.compiled import Compiled
from jaxnets.training.counts import check_counted, check_counter, counter
from jaxnets.training.epoch import evaluate_batches, predict_batches
from jaxnets.training.lookups import Lookups, has_embeddings
from jaxnets.training.placement import Placement, one_device
from jaxnets.training.records import Evaluation
from jaxnets.training.state import Count, Loss, Program, TrainState, Transform, initialize
from jaxnets.training.step import StepMetrics

EVALUATION_BATCH = 1000
# Made once, so that calls with the same model find its compiled program again.
_NO_OPTIMIZER = optax.identity()


def evaluate(
    model: nnx.Module,
    split: Split | StreamedSplit,
    *,
    loss: Loss,
    transform: Transform | None = None,
    correct: Count | Literal["auto"] | None = "auto",
    batch_size: int = EVALUATION_BATCH,
) -> Evaluation:
    """Measures a model on every example of a split, in evaluation mode.

    The loss is the mean over the examples; of a loss that is no plain mean and no sum over them,
    such as one with class weights, the mean of the batches' losses, each weighted by its number of
    examples.

    Args:
        model: any ``nnx.Module``; it is left as it is.
        split: the examples.
        loss: see ``fit``.
        transform: see ``fit``.
        correct: see ``fit``.
        batch_size: examples at a time; the last batch holds what is left.

    Returns:
        Mean loss, correct predictions, number of predictions.

    Raises:
        ValueError: if the examples do not fit the model or the loss, a label or an index of an
            embedding is out of range, or ``correct`` counts more than there are.
    """
    check_positive("batch_size", batch_size)
    check_model(model)
    check_split("split", split)
    check_loss(loss)
    graphdef, state = initialize(model, _NO_OPTIMIZER, seed=0)
    program = Program(graphdef, loss, _NO_OPTIMIZER, transform, counter(correct, loss, split))
    here = one_device()
    state = here.place(state)
    program = informed(program, state, split)
    source = checked_feed("split", split, program, state, here)
    run = Compiled(program, here, ahead=False).run
    return evaluate_state(run, program, state, split, source, batch_size)


def predict(
    model: nnx.Module,
    inputs: np.ndarray | jax.Array,
    *,
    transform: Transform | None = None,
    batch_size: int = EVALUATION_BATCH,
) -> Any:
    """The model's outputs for a batch of any size, in evaluation mode.

    Args:
        model: any ``nnx.Module``; it is left as it is.
        inputs: [examples, …], as the data set holds them.
        transform: see ``fit``.
        batch_size: examples at a time.

    Returns:
        Outputs [examples, …], NumPy arrays in whatever structure the model returns.

    Raises:
        ValueError: if there is no example, or an index has no row in an embedding.
    """
    check_positive("batch_size", batch_size)
    program, state, here = for_prediction(model, transform)
    inputs = as_host_array("inputs", inputs)
    if not np.shape(inputs) or not len(inputs):
        raise InputError("inputs", "at least one example", f"an array {list(np.shape(inputs))}")
    check_fits("inputs", inputs)
    if has_embeddings(model):
        spec = jax.ShapeDtypeStruct(inputs.shape, jax.dtypes.canonicalize_dtype(inputs.dtype))
        Lookups(program, state, spec).check("inputs", inputs)
    source = ResidentFeed(inputs, np.zeros(len(inputs), np.int8), here)
    pieces = cut(epoch_plan(len(inputs), batch_size, seed=0, epoch=0, shuffle=False))
    run = Compiled(program, here, ahead=False).run
    parts = []
    fitting = functools.partial(called, "inputs", "what the model takes", got=describe(inputs))
    for piece, batches in zip(pieces, source.batches(pieces), strict=True):
        many = fitting(run, predict_batches, piece.rows.shape[1], state, batches)
        parts.append(jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), many))
    return jax.tree.map(lambda *some: np.concatenate(some), *parts)


def for_prediction(
    model: nnx.Module, transform: Transform | None
) -> tuple[Program, TrainState, Placement]:
    """A model as a program without loss, its state, and the device on which that lies."""
    check_model(model)
    graphdef, state = initialize(model, _NO_OPTIMIZER, seed=0)
    here = one_device()
    return Program(graphdef, _no_loss, _NO_OPTIMIZER, transform), here.place(state), here


def evaluate_state(
    run: Callable[..., Any],
    program: Program,
    state: TrainState,
    split: Split | StreamedSplit,
    source: Feed,
    batch_size: int = EVALUATION_BATCH,
) -> Evaluation:
    """Measures a state on a split.

    Args:
        run: calls a function of ``epoch`` with the program and the arguments that follow it.
        program: what is run.
        state: what to measure.
        split: the examples.
        source: their feed.
        batch_size: examples at a time.
    """
    measured = measure_split(run, evaluate_batches, state, split, source, batch_size)
    return evaluation(program, split, measured)


def measure_split(
    run: Callable[..., Any],
    function: Callable[..., Any],
    state: TrainState,
    split: Split | StreamedSplit,
    source: Feed,
    batch_size: int = EVALUATION_BATCH,
) -> list[tuple[int, StepMetrics]]:
    """What a function of ``epoch`` measures on a split: sizes of batches, and metrics […, steps].

    Arguments as of ``evaluate_state``.
    """
    plan = epoch_plan(len(split), batch_size, seed=0, epoch=0, shuffle=False)
    pieces = cut(plan, room=source.room(plan.steps, batch_size))
    measured = []
    for piece, batches in zip(pieces, source.batches(pieces), strict=True):
        steps, size = piece.rows.shape
        found = jax.device_get(run(function, size, state, batches, piece.count))
        measured.append((size, jax.tree.map(lambda x, steps=steps: x[..., :steps], found)))
    return measured


def evaluation(
    program: Program,
    split: Split | StreamedSplit,
    measured: Sequence[tuple[int, StepMetrics]],
) -> Evaluation:
    """The evaluation of one state, from sizes of batches and metrics [steps]."""
    loss, correct, total = 0.0, 0, 0
    for size, found in measured:
        check_counted(found.correct, found.total)
        weight = 1 if program.adds_up else size
        loss += float(np.sum(found.loss, dtype=np.float64)) * weight
        correct += int(np.sum(found.correct, dtype=np.int64))
        total += int(np.sum(found.total, dtype=np.int64))
    return Evaluation(loss / len(split), None if program.correct is None else correct, total)


def checked_feed(
    name: str,
    split: Split | StreamedSplit,
    program: Program,
    state: TrainState,
    placement: Any,
    class_names: Sequence[str] | None = None,
) -> Feed:
    """A split's feed, after the model has been run on shapes alone and the examples looked at.

    Args:
        name: what the user calls the split.
        split: the examples.
        program: what is run.
        state: with what weights.
        placement: on what devices.
        class_names: the name of each class; None if there are none.

    Raises:
        InputError: if the inputs do not fit the model, one of their indices has no row in an
            embedding, the outputs do not fit the loss or the classes, or a label is not what the
            loss takes.
    """
    lookups, labels = _lookups(name, program, state, split)
    made = lookups.outputs
    check_counter(program.correct, made)
    check_outputs(program.loss, made)
    source = feed(name, split, expected_labels(program.loss, made, labels), lookups, placement)
    check_names(program.loss, made, labels, class_names)
    return source


def informed(program: Program, state: TrainState, split: Split | StreamedSplit) -> Program:
    """A program that knows what its loss does with the model's outputs."""

    def shapes() -> tuple[Any, Any]:
        lookups, labels = _lookups("data.train", program, state, split)
        return lookups.outputs, labels

    return dataclasses.replace(program, adds_up=adds_up(program.loss, shapes))


def loss_adds_up(
    model: nnx.Module, split: Split | StreamedSplit, loss: Loss, transform: Transform | None
) -> bool:
    """Whether a loss of a model's outputs is a sum over the examples of a batch, and not a mean."""
    graphdef, state = initialize(model, _NO_OPTIMIZER, seed=0)
    return informed(Program(graphdef, loss, _NO_OPTIMIZER, transform), state, split).adds_up


def _lookups(
    name: str, program: Program, state: TrainState, split: Split | StreamedSplit
) -> tuple[Lookups, jax.ShapeDtypeStruct]:
    """What a model makes of a batch, by shapes alone, and the shape of the labels."""
    # two examples, as one is too little for statistics over the batch
    inputs, labels = (jax.ShapeDtypeStruct((2, *s.shape), s.dtype) for s in split.spec)
    return lookups_of(f"{name}.inputs", program, state, inputs), labels


def lookups_of(argument: str, program: Program, state: TrainState, inputs: Any) -> Lookups:
    """The model run on the shapes of a batch of inputs.

    Args:
        argument: what an error message calls the inputs.
        program: the model.
        state: its state.
        inputs: shape and dtype of the batch.

    Raises:
        InputError: if the transform or the model does not take them.
    """
    if program.transform is not None:
        expected = f"a function of a batch {describe(inputs)}"
        shapes = functools.partial(jax.eval_shape, program.transform)
        changed = called("transform", expected, shapes, inputs, got=shown(program.transform))
        if not hasattr(changed, "shape"):
            raise InputError("transform", f"{expected} to an array", f"one to {shown(changed)}")
    expected = "what the model takes"
    return called(argument, expected, Lookups, program, state, inputs, got=describe(inputs))


def check_model(model: Any) -> None:
    """Raises unless a model is one."""
    if not isinstance(model, nnx.Module):
        raise InputError("model", "an nnx.Module", _kind(model))
    if not jax.tree.leaves(nnx.state(model, nnx.Param)):
        raise InputError("model", "an nnx.Module with parameters", f"a {type(model).__name__}")


def check_split(argument: str, split: Any) -> None:
    """Raises unless a split is one."""
    if not isinstance(split, Split | StreamedSplit):
        raise InputError(argument, "a Split or a StreamedSplit", _kind(split))


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"


def _no_loss(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    raise AssertionError("predicting takes no loss")
