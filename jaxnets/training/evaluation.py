"""Evaluation of a model on every example of a split, and prediction."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import (
    InputError,
    as_host_array,
    called,
    check_fits,
    check_function,
    check_positive,
    describe,
    shown,
)
from jaxnets.data.batching import epoch_plan
from jaxnets.data.dataset import AnySplit, Draws, check_split
from jaxnets.data.spec import column_spec, map_named
from jaxnets.data.transforms import Transform
from jaxnets.data.transforms.compose import applied
from jaxnets.metrics import Ratio
from jaxnets.training.batches import Feed, ResidentFeed, cut, feed
from jaxnets.training.checks import Checks, has_embeddings
from jaxnets.training.compiled import Compiled
from jaxnets.training.counts import Count, check_counted
from jaxnets.training.epoch import evaluate_batch, evaluate_batches, predict_batches, predicted
from jaxnets.training.labels import Loss, check_names, check_outputs, expected_probabilities
from jaxnets.training.objective import Measured, Objective, Supervised, supervised
from jaxnets.training.placement import Placement, one_device
from jaxnets.training.state import TrainState, initialize, untrained

EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation on every example of a split.

    Attributes:
        loss: mean loss over the examples; see ``fit``.
        correct: number of correct predictions; None if they were not counted.
        total: number of predictions; see ``correct`` of ``fit``. The number of examples if
            predictions were not counted.
        metrics: all metrics by name, ``"loss"`` and ``"accuracy"`` included: floats, or arrays for
            metrics with several values.
    """

    loss: float
    correct: int | None
    total: int
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Adds the loss and the accuracy to the metrics."""
        known = {"loss": self.loss} | ({} if self.correct is None else {"accuracy": self.accuracy})
        object.__setattr__(self, "metrics", {**known, **self.metrics})

    @property
    def accuracy(self) -> float | None:
        """The fraction of correct predictions, in [0, 1]; NaN if there are no predictions."""
        if self.correct is None:
            return None
        return self.correct / self.total if self.total else math.nan


def evaluate(
    model: nnx.Module,
    split: AnySplit,
    objective: Objective | None = None,
    *,
    loss: Loss | None = None,
    transform: Transform | None = None,
    correct: Count | Literal["auto"] | None = "auto",
    metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    batch_size: int = EVALUATION_BATCH,
) -> Evaluation:
    """Evaluates a model on every example of a split, in evaluation mode.

    The loss is the mean over the examples. If the loss function is neither a plain mean nor a sum,
    for example because it has class weights, it is the mean of the batches' losses, weighted by
    the number of examples in each batch.

    Args:
        model: any ``nnx.Module``; it is not changed.
        split: the examples.
        objective: see ``minimize``; None for ``supervised`` with the arguments that follow.
        loss: see ``fit``.
        transform: see ``fit``.
        correct: see ``fit``.
        metrics: see ``fit``.
        batch_size: number of examples in a batch; the last batch may be smaller.

    Returns:
        Mean loss, correct predictions, number of predictions, and all metrics.

    Raises:
        ValueError: if the examples do not fit the model or the loss, a label or an index of an
            embedding is out of range, or ``correct`` counts more correct predictions than
            predictions.
    """
    check_positive("batch_size", batch_size)
    check_model(model)
    check_split("split", split)
    if objective is None:
        given: Any = loss  # ``supervised`` raises InputError for None
        objective = supervised(given, transform=transform, correct=correct, metrics=metrics)
    elif loss is not None or transform is not None or correct != "auto" or metrics is not None:
        raise InputError("objective", "None with loss, transform, correct or metrics", objective)
    check_function("objective", objective, "a function of (model, batch, key)")
    here = one_device()
    state = here.place(initialize(model, untrained))
    source = checked_feed("split", split, objective, state, here, batch_size=batch_size)
    # Not ahead of time: ``jax.jit`` then reuses the program of an earlier call.
    run = Compiled(here, ahead=False).run
    return evaluate_state(run, objective, state, split, source, batch_size)


def predict(
    model: nnx.Module,
    inputs: Any,
    *,
    transform: Transform | None = None,
    batch_size: int = EVALUATION_BATCH,
) -> Any:
    """Computes a model's outputs for any number of examples, in evaluation mode.

    Args:
        model: any ``nnx.Module``; it is not changed.
        inputs: [examples, …], as in the data set, before ``transform``: an array, or a tuple or
            dictionary of arrays, which are the arguments of the model's call.
        transform: see ``fit``.
        batch_size: number of examples in a batch.

    Returns:
        Outputs [examples, …], NumPy arrays in whatever structure the model returns.

    Raises:
        ValueError: if there are no examples, the inputs do not fit the model, or an index has no
            row in an embedding.
    """
    check_positive("batch_size", batch_size)
    state, here = for_prediction(model, transform)
    inputs, count = _checked_inputs(inputs)
    columns = {"inputs": inputs}
    if has_embeddings(model):
        spec = jax.tree.map(_spec, columns)
        Checks(functools.partial(_outputs, transform), state, spec).check("", columns)
    source = ResidentFeed(columns, here)
    pieces = cut(epoch_plan(count, batch_size, seed=0, epoch=0, shuffle=False))
    run = Compiled(here, ahead=False).run
    parts = []
    got = ", ".join(describe(x) for x in jax.tree.leaves(inputs))
    fitting = functools.partial(called, "inputs", "what the model takes", got=got)
    for batches in source.batches(pieces):
        many = fitting(run, predict_batches, transform, state, batches)
        parts.append(jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), many))
    return jax.tree.map(lambda *some: np.concatenate(some), *parts)


def _checked_inputs(inputs: Any) -> tuple[Any, int]:
    """Returns the inputs as arrays on the host, and the number of examples."""
    arrays = map_named(_checked_input, "inputs", inputs)
    lengths = {len(array) for array in jax.tree.leaves(arrays)}
    if len(lengths) != 1:
        raise InputError("inputs", "arrays of one length", f"lengths {sorted(lengths)}")
    return arrays, lengths.pop()


def _checked_input(name: str, value: Any) -> np.ndarray:
    array = as_host_array(name, value)
    if not np.shape(array) or not len(array):
        raise InputError(name, "at least one example", f"an array {list(np.shape(array))}")
    check_fits(name, array)
    return array


def _spec(array: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, jax.dtypes.canonicalize_dtype(array.dtype))


def _outputs(transform: Transform | None, state: TrainState, batch: Any) -> Any:
    return predicted(transform, state, batch["inputs"])


def for_prediction(model: nnx.Module, transform: Transform | None) -> tuple[TrainState, Placement]:
    """Returns a model as a state without an optimizer, and the device that it is on."""
    check_model(model)
    if transform is not None:
        supervised(_no_loss, transform=transform)  # checks the transform
    here = one_device()
    return here.place(initialize(model, untrained)), here


def evaluate_state(
    run: Callable[..., Any],
    objective: Objective,
    state: TrainState,
    split: AnySplit,
    source: Feed,
    batch_size: int = EVALUATION_BATCH,
) -> Evaluation:
    """Evaluates an objective on a split.

    Args:
        run: see ``Compiled.run``.
        objective: the objective to evaluate.
        state: the state whose model is evaluated.
        split: the examples.
        source: the split's feed.
        batch_size: number of examples in a batch.
    """
    found = measure_split(run, evaluate_batches, objective, state, split, source, batch_size)
    return evaluation(len(split), [one.metrics for one in found])


def measure_split(
    run: Callable[..., Any],
    function: Callable[..., Any],
    objective: Objective,
    state: TrainState,
    split: AnySplit,
    source: Feed,
    batch_size: int = EVALUATION_BATCH,
) -> list[Any]:
    """Runs a function of ``epoch`` on a split; returns the metrics of each piece, on the host.

    See ``evaluate_state`` for the arguments. If ``function`` evaluates several members at once, the
    metrics have an axis for the members before the axis of the steps.
    """
    axis = 0 if function is evaluate_batches else 1
    # The seed has no effect without shuffling.
    plan = epoch_plan(len(split), batch_of(split, batch_size), seed=0, epoch=0, shuffle=False)
    pieces = cut(plan, room=source.room(plan.steps, batch_size))
    measured = []
    for piece, batches in zip(pieces, source.batches(pieces), strict=True):
        found = jax.device_get(run(function, objective, state, batches, piece.count))
        done = (slice(None),) * axis + (slice(len(piece.rows)),)
        measured.append(jax.tree.map(lambda x, done=done: x[done], found))
    return measured


def evaluation(examples: int, measured: Sequence[Measured]) -> Evaluation:
    """Combines the metrics of all batches into an ``Evaluation``.

    Args:
        examples: number of examples.
        measured: the metrics of the batches in each piece, [batches, …].
    """
    metrics: Measured = jax.tree.map(lambda *parts: np.concatenate(parts), *measured)
    correct, total = None, examples
    accuracy = metrics.get("accuracy")
    if isinstance(accuracy, Ratio) and np.issubdtype(accuracy.total.dtype, np.integer):
        check_counted(metrics)
        # Summed as integers in 64 bits: counts of tokens or pixels may exceed 32 bits.
        correct = int(accuracy.total.sum(dtype=np.int64))
        total = int(accuracy.count.sum(dtype=np.int64))
    values = over_batches(metrics)
    return Evaluation(values["loss"], correct, total, values)


def over_batches(metrics: Measured) -> dict[str, Any]:
    """Combines metrics of many batches, [batches, …], into one value each."""
    return {name: metric.over() for name, metric in metrics.items()}


def checked_feed(
    name: str,
    split: AnySplit,
    objective: Objective | None,
    state: TrainState,
    placement: Placement,
    class_names: Sequence[str] | None = None,
    batch_size: int = EVALUATION_BATCH,
) -> Feed:
    """Checks a split against a model and an objective, and makes its feed.

    Shapes are checked by abstract evaluation, labels and indices by their values.

    Args:
        name: name of the split in error messages.
        split: the examples.
        objective: the objective that is evaluated on the examples; None checks nothing.
        state: the state whose model is evaluated.
        placement: the devices.
        class_names: the name of each class; None if there are none.
        batch_size: number of examples in a batch.

    Raises:
        InputError: if the inputs do not fit the model, an index has no row in an embedding, the
            outputs do not fit the loss or the classes, or a label is invalid for the loss.
    """
    if objective is None:
        return feed(split, lambda columns: None, placement)
    objective = getattr(objective, "evaluation", objective)
    batch = as_batch(split, min(batch_of(split, batch_size), len(split)))
    if not isinstance(objective, Supervised):
        checks = Checks(functools.partial(_evaluated, objective), state, batch)
        return feed(split, functools.partial(checks.check, name), placement)
    outputs = _outputs_of_supervised(name, objective, state, batch)
    checks, labels = Checks(functools.partial(_evaluated, objective), state, batch), batch["labels"]
    # Losses over classes note the range of their labels while they are traced; losses over
    # probabilities are recognized by the function.
    if hasattr(labels, "dtype") and (found := expected_probabilities(objective.loss, labels)):
        checks.labels["labels"] = found
    source = feed(split, functools.partial(checks.check, name), placement)
    if hasattr(labels, "dtype"):
        check_names(objective.loss, outputs, labels, class_names)
    return source


def batch_of(split: AnySplit, batch_size: int) -> int:
    """Returns the number of examples in a batch of a split; 1 for ``Draws``."""
    return 1 if isinstance(split, Draws) else batch_size


def as_batch(split: AnySplit, size: int) -> dict[str, Any]:
    """Returns the shapes and dtypes of a batch of a split's columns."""
    return jax.tree.map(
        lambda s: jax.ShapeDtypeStruct((size, *s.shape), jax.dtypes.canonicalize_dtype(s.dtype)),
        column_spec(split.spec),
    )


def _evaluated(objective: Objective, state: TrainState, batch: Any) -> Any:
    return evaluate_batch(objective, state, batch, np.int32(0))


def _outputs_of_supervised(name: str, objective: Supervised, state: TrainState, batch: Any) -> Any:
    """Returns the shapes of the model's outputs for a batch.

    Raises:
        InputError: if the batch does not fit the transform or the model, or the outputs do not fit
            the loss.
    """
    inputs = batch.get("inputs")
    if inputs is None:
        raise InputError(name, "examples, as the loss takes (outputs, labels)", "none")
    got = ", ".join(describe(x) for x in jax.tree.leaves(inputs))
    if objective.transform is not None:
        expected = f"a function of a batch {got}"
        shapes = functools.partial(jax.eval_shape, functools.partial(applied, objective.transform))
        changed = called("transform", expected, shapes, inputs, got=shown(objective.transform))
        if not hasattr(changed, "shape") and hasattr(inputs, "shape"):
            raise InputError(
                "transform",
                f"{expected} that returns an array",
                f"one that returns {shown(changed)}",
            )
    shapes = functools.partial(jax.eval_shape, lambda s, x: objective.outputs(s.model, x))
    outputs = called(f"{name}.inputs", "what the model takes", shapes, state, inputs, got=got)
    check_outputs(objective.loss, outputs)
    return outputs


def check_model(model: Any) -> None:
    """Checks that a value is an ``nnx.Module`` with parameters."""
    if not isinstance(model, nnx.Module):
        kind = type(model).__name__
        got = f"the class {model.__name__}" if isinstance(model, type) else f"a {kind}"
        raise InputError("model", "an nnx.Module", got)
    if not jax.tree.leaves(nnx.state(model, nnx.Param)):
        raise InputError("model", "an nnx.Module with parameters", f"a {type(model).__name__}")


def _no_loss(outputs: Any, labels: Any) -> jax.Array:
    raise AssertionError("predicting takes no loss")
