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
        correct: correct predictions; None where the notion has no meaning.
        total: out of how many: see ``correct`` of ``fit``; the number of examples where there are
            no correct predictions.
        metrics: all that was measured by name, ``"loss"`` and ``"accuracy"`` included: floats, or
            arrays of those that have several numbers.
    """

    loss: float
    correct: int | None
    total: int
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Names the loss and the accuracy among the metrics."""
        known = {"loss": self.loss} | ({} if self.correct is None else {"accuracy": self.accuracy})
        object.__setattr__(self, "metrics", {**known, **self.metrics})

    @property
    def accuracy(self) -> float | None:
        """The share of correct predictions, in [0, 1]; NaN of no prediction."""
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
    """Measures a model on every example of a split, in evaluation mode.

    The loss is the mean over the examples; of a loss that is no plain mean and no sum over them,
    such as one with class weights, the mean of the batches' losses, each weighted by its number of
    examples.

    Args:
        model: any ``nnx.Module``; it is left as it is.
        split: the examples.
        objective: see ``minimize``; None for ``supervised`` with what follows.
        loss: see ``fit``.
        transform: see ``fit``.
        correct: see ``fit``.
        metrics: see ``fit``.
        batch_size: examples at a time; the last batch holds what is left.

    Returns:
        Mean loss, correct predictions, number of predictions, and all metrics.

    Raises:
        ValueError: if the examples do not fit the model or the loss, a label or an index of an
            embedding is out of range, or ``correct`` counts more than there are.
    """
    check_positive("batch_size", batch_size)
    check_model(model)
    check_split("split", split)
    if objective is None:
        given: Any = loss  # None is refused in a sentence
        objective = supervised(given, transform=transform, correct=correct, metrics=metrics)
    elif loss is not None or transform is not None or correct != "auto" or metrics is not None:
        raise InputError("objective", "None beside loss, transform, correct or metrics", objective)
    check_function("objective", objective, "a function of (model, batch, key)")
    here = one_device()
    state = here.place(initialize(model, untrained))
    source = checked_feed("split", split, objective, state, here, batch_size=batch_size)
    run = Compiled(here, ahead=False).run
    return evaluate_state(run, objective, state, split, source, batch_size)


def predict(
    model: nnx.Module,
    inputs: Any,
    *,
    transform: Transform | None = None,
    batch_size: int = EVALUATION_BATCH,
) -> Any:
    """The model's outputs for a batch of any size, in evaluation mode.

    Args:
        model: any ``nnx.Module``; it is left as it is.
        inputs: [examples, …], as the data set holds them: an array, or a tuple or dictionary of
            arrays, which are the arguments of the model's call.
        transform: see ``fit``.
        batch_size: examples at a time.

    Returns:
        Outputs [examples, …], NumPy arrays in whatever structure the model returns.

    Raises:
        ValueError: if there is no example, or an index has no row in an embedding.
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
    """Inputs as arrays on the host, and how many examples there are."""
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
    """A model as a state without a step, and the device that holds it."""
    check_model(model)
    if transform is not None:
        supervised(_no_loss, transform=transform)  # looks at it
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
    """Measures a state on a split.

    Args:
        run: see ``Compiled.run``.
        objective: what is evaluated.
        state: what to measure.
        split: the examples.
        source: their feed.
        batch_size: examples at a time.
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
    """What a function of ``epoch`` measures on a split: metrics of each piece, on the host.

    Arguments as of ``evaluate_state``. Those of members have an axis for them before the steps.
    """
    axis = 0 if function is evaluate_batches else 1
    plan = epoch_plan(len(split), batch_of(split, batch_size), seed=0, epoch=0, shuffle=False)
    pieces = cut(plan, room=source.room(plan.steps, batch_size))
    measured = []
    for piece, batches in zip(pieces, source.batches(pieces), strict=True):
        found = jax.device_get(run(function, objective, state, batches, piece.count))
        done = (slice(None),) * axis + (slice(len(piece.rows)),)
        measured.append(jax.tree.map(lambda x, done=done: x[done], found))
    return measured


def evaluation(examples: int, measured: Sequence[Measured]) -> Evaluation:
    """The evaluation of one state.

    Args:
        examples: how many there are.
        measured: the metrics of the batches in each piece, [batches, …].
    """
    metrics: Measured = jax.tree.map(lambda *parts: np.concatenate(parts), *measured)
    correct, total = None, examples
    accuracy = metrics.get("accuracy")
    if isinstance(accuracy, Ratio) and np.issubdtype(accuracy.total.dtype, np.integer):
        check_counted(metrics)
        correct = int(accuracy.total.sum(dtype=np.int64))
        total = int(accuracy.count.sum(dtype=np.int64))
    values = over_batches(metrics)
    return Evaluation(values["loss"], correct, total, values)


def over_batches(metrics: Measured) -> dict[str, Any]:
    """Metrics of many batches, [batches, …], over all of them."""
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
    """A split's feed, after the model has been run on shapes alone and the examples looked at.

    Args:
        name: what the user calls the split.
        split: the examples.
        objective: what is evaluated on them; None looks at nothing.
        state: with what weights.
        placement: on what devices.
        class_names: the name of each class; None if there are none.
        batch_size: examples in a batch.

    Raises:
        InputError: if the inputs do not fit the model, one of their indices has no row in an
            embedding, the outputs do not fit the loss or the classes, or a label is not what the
            loss takes.
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
    if hasattr(labels, "dtype") and (found := expected_probabilities(objective.loss, labels)):
        checks.labels["labels"] = found
    source = feed(split, functools.partial(checks.check, name), placement)
    if hasattr(labels, "dtype"):
        check_names(objective.loss, outputs, labels, class_names)
    return source


def batch_of(split: AnySplit, batch_size: int) -> int:
    """How many examples of a split make a batch; a step of ``Draws`` is one."""
    return 1 if isinstance(split, Draws) else batch_size


def as_batch(split: AnySplit, size: int) -> dict[str, Any]:
    """The shapes and dtypes of a batch of a split's."""
    return jax.tree.map(
        lambda s: jax.ShapeDtypeStruct((size, *s.shape), jax.dtypes.canonicalize_dtype(s.dtype)),
        column_spec(split.spec),
    )


def _evaluated(objective: Objective, state: TrainState, batch: Any) -> Any:
    return evaluate_batch(objective, state, batch, np.int32(0))


def _outputs_of_supervised(name: str, objective: Supervised, state: TrainState, batch: Any) -> Any:
    """The shapes of the model's outputs for a batch.

    Raises:
        InputError: if the transform or the model does not take it, or the loss not these outputs.
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
            raise InputError("transform", f"{expected} to an array", f"one to {shown(changed)}")
    shapes = functools.partial(jax.eval_shape, lambda s, x: objective.outputs(s.model, x))
    outputs = called(f"{name}.inputs", "what the model takes", shapes, state, inputs, got=got)
    check_outputs(objective.loss, outputs)
    return outputs


def check_model(model: Any) -> None:
    """Raises unless a model is one."""
    if not isinstance(model, nnx.Module):
        kind = type(model).__name__
        got = f"the class {model.__name__}" if isinstance(model, type) else f"a {kind}"
        raise InputError("model", "an nnx.Module", got)
    if not jax.tree.leaves(nnx.state(model, nnx.Param)):
        raise InputError("model", "an nnx.Module with parameters", f"a {type(model).__name__}")


def _no_loss(outputs: Any, labels: Any) -> jax.Array:
    raise AssertionError("predicting takes no loss")
