"""Measuring a model on every example of a split, and predicting with it."""

import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxnets import metrics
from jaxnets.arrays import ArrayLike, InputError, check_positive
from jaxnets.data.batching import epoch_plan
from jaxnets.data.dataset import Split
from jaxnets.training.epoch import Arrays, evaluate_batches, pieces, predict_batches
from jaxnets.training.records import Evaluation
from jaxnets.training.state import Count, Loss, Program, TrainState, Transform, initialize, merge

EVALUATION_BATCH = 1000
# Made once, so that calls with the same model find its compiled program again.
_NO_OPTIMIZER = optax.identity()


def evaluate(
    model: nnx.Module,
    split: Split,
    *,
    loss: Loss,
    transform: Transform | None = None,
    correct: Count | Literal["auto"] | None = "auto",
    batch_size: int = EVALUATION_BATCH,
) -> Evaluation:
    """Measures a model on every example of a split, in evaluation mode.

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
        ValueError: if the examples do not fit the model or a label is out of range.
    """
    check_positive("batch_size", batch_size)
    graphdef, state = initialize(model, _NO_OPTIMIZER, seed=0)
    program = Program(graphdef, loss, _NO_OPTIMIZER, transform, counter(correct, split))
    check_fits(program, state, split, "split")
    return evaluate_state(_run, program, state, to_device(split), batch_size)


def predict(
    model: nnx.Module,
    inputs: np.ndarray | jax.Array,
    *,
    transform: Transform | None = None,
    batch_size: int = EVALUATION_BATCH,
) -> np.ndarray:
    """The model's outputs for a batch of any size, in evaluation mode.

    Args:
        model: any ``nnx.Module``; it is left as it is.
        inputs: [examples, …], as the data set holds them.
        transform: see ``fit``.
        batch_size: examples at a time.

    Returns:
        Outputs [examples, …].
    """
    check_positive("batch_size", batch_size)
    graphdef, state = initialize(model, _NO_OPTIMIZER, seed=0)
    program = Program(graphdef, _no_loss, _NO_OPTIMIZER, transform)
    plan = epoch_plan(len(inputs), batch_size, seed=0, epoch=0, shuffle=False)
    inputs = jnp.asarray(inputs)
    outputs = [
        np.asarray(predict_batches(program, state, inputs, piece))
        for piece in pieces(plan.full, plan.rest, whole=True)
    ]
    return np.concatenate([batch for piece in outputs for batch in piece])


def evaluate_state(
    run: Callable[..., Any],
    program: Program,
    state: TrainState,
    data: Arrays,
    batch_size: int = EVALUATION_BATCH,
) -> Evaluation:
    """Measures a state; ``run`` calls a compiled function with the program and its arguments."""
    plan = epoch_plan(len(data.labels), batch_size, seed=0, epoch=0, shuffle=False)
    loss, correct = 0.0, 0
    for indices in pieces(plan.full, plan.rest, whole=True):
        measured = jax.device_get(run(evaluate_batches, program, state, data, indices))
        loss += float(np.sum(measured.loss, dtype=np.float64)) * indices.shape[1]
        correct += int(measured.correct.sum())
    total = len(data.labels) * labels_per_example(data.labels)
    counted = None if program.correct is None else correct
    return Evaluation(loss / len(data.labels), counted, total)


def counter(correct: Count | Literal["auto"] | None, split: Split) -> Count | None:
    """What counts the correct predictions on a split, given what the user asked for."""
    if correct != "auto":
        return correct
    return metrics.correct if np.issubdtype(split.labels.dtype, np.integer) else None


def labels_per_example(labels: ArrayLike) -> int:
    """How many predictions an example asks for: one, or one at each position that has a class."""
    return math.prod(labels.shape[1:]) if jnp.issubdtype(labels.dtype, jnp.integer) else 1


def check_fits(program: Program, state: TrainState, split: Split, name: str) -> None:
    """Runs the model on shapes alone, and looks at the labels, before anything is computed."""
    example = jax.ShapeDtypeStruct((1, *split.inputs.shape[1:]), split.inputs.dtype)
    outputs = jax.eval_shape(
        lambda state, inputs: merge(program.graphdef, state)(program.inputs(inputs)),
        state,
        example,
    )
    if not np.issubdtype(split.labels.dtype, np.integer) or not outputs.shape:
        return
    scores_per_class = len(outputs.shape) == split.labels.ndim + 1
    if scores_per_class and math.prod(split.labels.shape):
        classes = max(outputs.shape[-1], 2)  # a single output tells two classes apart
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= classes:
            raise InputError(
                f"{name}.labels",
                f"classes in [0, {classes - 1}], as the model has {outputs.shape[-1]} outputs",
                f"labels from {low} to {high}",
            )


def to_device(split: Split) -> Arrays:
    """A split on the device, as it is."""
    return Arrays(jnp.asarray(split.inputs), jnp.asarray(split.labels))


def _run(function: Callable[..., Any], program: Program, *arguments: Any) -> Any:
    return function(program, *arguments)


def _no_loss(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    raise AssertionError("predicting takes no loss")
