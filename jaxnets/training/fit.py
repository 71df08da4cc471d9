"""The host's side of training: compile, run epoch after epoch, evaluate, record."""

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any, Literal

import jax
import numpy as np
import optax
from flax import nnx

from jaxnets.arrays import InputError, check_positive, check_seed
from jaxnets.data.batching import Plan, epoch_plan
from jaxnets.data.dataset import Dataset
from jaxnets.data.transforms import Augmentation
from jaxnets.training.batches import Feed, cut
from jaxnets.training.classes import counter
from jaxnets.training.compiled import Compiled
from jaxnets.training.epoch import train_steps
from jaxnets.training.evaluation import (
    check_model,
    checked_feed,
    evaluate_state,
    predictions,
)
from jaxnets.training.placement import Parallel, place
from jaxnets.training.progress import Progress, Reporter, reporter
from jaxnets.training.records import EpochRecord, Evaluation, Timings, TrainingRun
from jaxnets.training.state import Count, Loss, Program, TrainState, Transform, initialize, merge
from jaxnets.training.step import StepMetrics


class NonFiniteLossError(FloatingPointError):
    """Training has diverged: the loss of a step, or of the evaluation, is NaN or infinite.

    Attributes:
        epoch: the epoch, counted from 1.
        step: the step within the epoch, counted from 1; None for the evaluation after it.
        loss: the loss.
    """

    def __init__(self, epoch: int, step: int | None, loss: float) -> None:
        super().__init__(epoch, step, loss)
        self.epoch, self.step, self.loss = epoch, step, loss

    def __str__(self) -> str:
        where = "the test" if self.step is None else f"step {self.step}"
        return (
            f"the loss is {self.loss} at epoch {self.epoch}, {where}: training has diverged "
            "(a smaller learning rate may help), or inputs or labels are not what the loss takes"
        )


def fit(
    model: nnx.Module,
    data: Dataset,
    *,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int = 64,
    seed: int = 0,
    transform: Transform | None = None,
    augment: Augmentation | None = None,
    correct: Count | Literal["auto"] | None = "auto",
    shuffle: bool = True,
    drop_last: bool = False,
    devices: int | Sequence[jax.Device] | None = None,
    parallel: Parallel = "shard_map",
    progress: Progress = "auto",
) -> TrainingRun:
    """Trains a model and evaluates it on every test example after each epoch.

    The data go to the device once, as they are; ``transform`` works on them inside the compiled
    step. Each epoch visits every example once, in an order that is a function of
    (seed, epoch) alone; the last smaller batch is trained on at its true size. The same seed on
    the same machine gives the same parameters, bit for bit.

    Args:
        model: any ``nnx.Module`` that maps a batch of inputs to outputs; it is left as it is.
        data: what to train and test on; splits may be streamed.
        loss: (outputs, labels) → scalar mean over the batch, such as
            ``jaxnets.losses.cross_entropy``.
        optimizer: a gradient transformation, such as ``jaxnets.optimizers.sgd(0.01)``.
        epochs: how many times to go through the training data.
        batch_size: examples in a step.
        seed: seeds the order of the examples, augmentation, dropout and the like; not the model's
            initial weights, which it brings with it.
        transform: a hashable function of a batch of inputs, in training and in evaluation.
        augment: what training alone does to a batch, before ``transform``: on the inputs as the
            data set holds them, such as uint8 images. Random ones of ``jaxnets.data`` draw from
            (seed, step), so that the same seed gives the same run. Of ``Mixup`` and ``CutMix`` the
            loss and ``correct`` get probabilities for labels.
        correct: counts correct predictions (outputs, labels) → integer; ``"auto"`` counts by
            ``jaxnets.metrics.correct`` if labels are classes; None does not count.
        shuffle: whether the order changes from epoch to epoch.
        drop_last: whether the last smaller batch is left out.
        devices: how many share each batch, or which; None for all accelerators, or one CPU. The
            losses are those of one device, but for the order of sums; dropout and augmentation
            draw from (seed, step, device).
        parallel: ``"shard_map"``, or ``"pmap"`` for the older interface to the same.
        progress: ``"auto"`` (a bar on a terminal, lines elsewhere), ``"bar"``, ``"lines"`` or
            ``"none"``.

    Returns:
        The trained model, the history, the timings.

    Raises:
        ValueError: if an argument is bad, inputs do not fit the model, or a label is out of range.
        NonFiniteLossError: if the loss is NaN or infinite at some step or in the evaluation.
    """
    check_positive("epochs", epochs)
    check_positive("batch_size", batch_size)
    check_seed("seed", seed)
    check_model(model)
    _check(data, loss, optimizer)
    placement = place(devices, parallel)
    plan_of = functools.partial(
        epoch_plan, len(data.train), batch_size, seed=seed, shuffle=shuffle, drop_last=drop_last
    )
    steps = plan_of(epoch=0).steps
    if steps == 0:
        most = f"at most the {len(data.train)} training examples"
        raise InputError("batch_size", most, batch_size)
    graphdef, state = initialize(model, optimizer, seed)
    count = counter(correct, loss, data.train)
    program = Program(graphdef, loss, optimizer, transform, count, augment, placement.shards)
    train = checked_feed("data.train", data.train, program, state, placement)
    test = checked_feed("data.test", data.test, program, state, placement)
    state = placement.replicate(state)

    compiled = Compiled(program, placement)
    history: list[EpochRecord] = []
    step_losses: list[np.ndarray] = []
    evaluate_seconds = 0.0
    with reporter(progress, epochs=epochs, steps=steps) as report:
        for epoch in range(epochs):
            plan = plan_of(epoch=epoch)
            state, measured, seconds = _train_epoch(compiled, state, train, plan, epoch, report)
            began, compiling = time.perf_counter(), compiled.seconds
            evaluation = evaluate_state(compiled.run, program, state, data.test, test)
            evaluate_seconds += time.perf_counter() - began - (compiled.seconds - compiling)
            if not np.isfinite(evaluation.loss):
                raise NonFiniteLossError(epoch + 1, None, evaluation.loss)
            step_losses.append(np.asarray(measured.loss))
            total = predictions(data.train, plan.full.size + plan.rest.size)
            history.append(_record(epoch, plan, program, measured, total, evaluation, seconds))
            report.epoch(history[-1])
    train_seconds = sum(record.seconds for record in history)
    examples = epochs * (plan.full.size + plan.rest.size)
    return TrainingRun(
        model=merge(graphdef, state),
        state=state,
        history=tuple(history),
        step_losses=np.concatenate(step_losses),
        test=evaluation,
        timings=Timings(compiled.seconds, train_seconds, evaluate_seconds),
        examples_per_second=examples / train_seconds,
        device=placement.name,
    )


def _train_epoch(
    compiled: Compiled, state: TrainState, feed: Feed, plan: Plan, epoch: int, report: Reporter
) -> tuple[TrainState, StepMetrics, float]:
    """Runs one epoch; returns the state, each step's metrics on the host, and the seconds."""
    batch_size = plan.full.shape[1]
    pieces = cut(plan, room=feed.room(len(plan.full), batch_size))
    source = feed.batches(pieces)
    measured: list[StepMetrics] = []
    began, compiling = time.perf_counter(), compiled.seconds
    upcoming: Any = next(source, None)
    for piece in pieces:
        steps, size = piece.rows.shape
        state, room = compiled.run(train_steps, size, state, upcoming, piece.count)
        upcoming = next(source, None)  # read on while the device computes
        some = StepMetrics(*(np.asarray(many)[:steps] for many in room))
        bad = np.flatnonzero(~np.isfinite(some.loss))
        if len(bad):
            before = sum(len(earlier.loss) for earlier in measured)
            raise NonFiniteLossError(epoch + 1, before + int(bad[0]) + 1, float(some.loss[bad[0]]))
        measured.append(some)
        report.advance(steps, float(some.loss[-1]))
    seconds = time.perf_counter() - began - (compiled.seconds - compiling)
    state = dataclasses.replace(state, epoch=state.epoch + 1)
    loss, correct = (np.concatenate(parts) for parts in zip(*measured, strict=True))
    return state, StepMetrics(loss, correct), seconds


def _record(
    epoch: int,
    plan: Plan,
    program: Program,
    measured: StepMetrics,
    total: int,
    evaluation: Evaluation,
    seconds: float,
) -> EpochRecord:
    sizes = np.full(plan.steps, plan.full.shape[1])
    if len(plan.rest):
        sizes[-1] = len(plan.rest)
    correct = None if program.correct is None else int(measured.correct.sum()) / total
    return EpochRecord(
        epoch=epoch + 1,
        train_loss=float(np.average(np.asarray(measured.loss, np.float64), weights=sizes)),
        train_accuracy=correct,
        test_loss=evaluation.loss,
        test_accuracy=evaluation.accuracy,
        seconds=seconds,
    )


def _check(data: Any, loss: Any, optimizer: Any) -> None:
    if not isinstance(data, Dataset):
        raise InputError("data", "a Dataset", f"a {type(data).__name__}")
    if not callable(loss):
        raise InputError("loss", "a function of (outputs, labels)", repr(loss))
    if not all(callable(getattr(optimizer, part, None)) for part in ("init", "update")):
        expected = "a gradient transformation, such as jaxnets.optimizers.sgd(0.01)"
        raise InputError("optimizer", expected, repr(optimizer))
