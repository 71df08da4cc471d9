"""The host's side of training: compile, run epoch after epoch, evaluate, record."""

import dataclasses
import functools
import time
from typing import Literal

import jax
import numpy as np
import optax
from flax import nnx

from jaxnets.arrays import ArrayLike, InputError, check_positive, check_seed
from jaxnets.data.batching import Plan, epoch_plan
from jaxnets.data.dataset import Dataset
from jaxnets.data.transforms import Augmentation
from jaxnets.training.compiled import Compiled
from jaxnets.training.epoch import Arrays, pieces, train_steps
from jaxnets.training.evaluation import (
    check_fits,
    counter,
    evaluate_state,
    labels_per_example,
    to_device,
)
from jaxnets.training.progress import Progress, Reporter, reporter
from jaxnets.training.records import EpochRecord, Evaluation, Timings, TrainingRun
from jaxnets.training.state import Count, Loss, Program, TrainState, Transform, initialize, merge
from jaxnets.training.step import StepMetrics


class NonFiniteLossError(FloatingPointError):
    """Training has diverged: a step's loss is NaN or infinite.

    Attributes:
        epoch: the epoch of that step, counted from 1.
        step: the step within the epoch, counted from 1.
        loss: its loss.
    """

    def __init__(self, epoch: int, step: int, loss: float) -> None:
        super().__init__(epoch, step, loss)
        self.epoch, self.step, self.loss = epoch, step, loss

    def __str__(self) -> str:
        return (
            f"the loss is {self.loss} at epoch {self.epoch}, step {self.step}: "
            "training has diverged; a smaller learning rate may help"
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
    progress: Progress = "auto",
) -> TrainingRun:
    """Trains a model and evaluates it on every test example after each epoch.

    The data go to the device once, as they are; ``transform`` works on them inside the compiled
    step. Each epoch visits every example once, in an order that is a function of
    (seed, epoch) alone; the last smaller batch is trained on at its true size. The same seed on
    the same machine gives the same parameters, bit for bit.

    Args:
        model: any ``nnx.Module`` that maps a batch of inputs to outputs; it is left as it is.
        data: what to train and test on.
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
            ``jaxnets.metrics.correct`` if labels are integers; None does not count.
        shuffle: whether the order changes from epoch to epoch.
        drop_last: whether the last smaller batch is left out.
        progress: ``"auto"`` (a bar on a terminal, lines elsewhere), ``"bar"``, ``"lines"`` or
            ``"none"``.

    Returns:
        The trained model, the history, the timings.

    Raises:
        ValueError: if an argument is bad, inputs do not fit the model, or a label is out of range.
        NonFiniteLossError: if the loss is NaN or infinite at some step.
    """
    check_positive("epochs", epochs)
    check_positive("batch_size", batch_size)
    check_seed("seed", seed)
    plan_of = functools.partial(
        epoch_plan,
        len(data.train),
        batch_size,
        seed=seed,
        shuffle=shuffle,
        drop_last=drop_last,
    )
    plan = plan_of(epoch=0)
    if plan.steps == 0:
        raise InputError(
            "batch_size", f"at most the {len(data.train)} training examples", batch_size
        )
    graphdef, state = initialize(model, optimizer, seed)
    program = Program(graphdef, loss, optimizer, transform, counter(correct, data.train), augment)
    for name, split in (("train", data.train), ("test", data.test)):
        check_fits(program, state, split, f"data.{name}")
    train, test = to_device(data.train), to_device(data.test)

    compiled = Compiled()
    history: list[EpochRecord] = []
    step_losses: list[ArrayLike] = []
    evaluate_seconds = 0.0
    with reporter(progress, epochs=epochs, steps=plan.steps) as report:
        for epoch in range(epochs):
            plan = plan_of(epoch=epoch)
            state, measured, seconds = _train_epoch(
                compiled, program, state, train, plan, epoch, report
            )
            began, compiling = time.perf_counter(), compiled.seconds
            evaluation = evaluate_state(compiled.run, program, state, test)
            evaluate_seconds += time.perf_counter() - began - (compiled.seconds - compiling)
            step_losses.append(measured.loss)
            each = labels_per_example(train.labels)
            history.append(_record(epoch, plan, program, measured, each, evaluation, seconds))
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
        device=jax.devices()[0].device_kind,
    )


def _train_epoch(
    compiled: Compiled,
    program: Program,
    state: TrainState,
    data: Arrays,
    plan: Plan,
    epoch: int,
    report: Reporter,
) -> tuple[TrainState, StepMetrics, float]:
    """Runs one epoch; returns the state, each step's metrics on the host, and the seconds."""
    seconds = 0.0
    measured: list[StepMetrics] = []
    for indices in pieces(plan.full, plan.rest, whole=jax.default_backend() != "cpu"):
        began, compiling = time.perf_counter(), compiled.seconds
        state, piece = compiled.run(train_steps, program, state, data, indices)
        piece = jax.device_get(piece)
        seconds += time.perf_counter() - began - (compiled.seconds - compiling)
        bad = np.flatnonzero(~np.isfinite(piece.loss))
        if len(bad):
            before = sum(len(earlier.loss) for earlier in measured)
            raise NonFiniteLossError(epoch + 1, before + int(bad[0]) + 1, piece.loss[bad[0]])
        measured.append(piece)
        report.advance(len(indices), float(piece.loss[-1]))
    state = dataclasses.replace(state, epoch=state.epoch + 1)
    loss, correct = (np.concatenate(parts) for parts in zip(*measured, strict=True))
    return state, StepMetrics(loss, correct), seconds


def _record(
    epoch: int,
    plan: Plan,
    program: Program,
    measured: StepMetrics,
    each: int,
    evaluation: Evaluation,
    seconds: float,
) -> EpochRecord:
    sizes = np.full(plan.steps, plan.full.shape[1])
    if len(plan.rest):
        sizes[-1] = len(plan.rest)
    total = int(sizes.sum()) * each
    correct = None if program.correct is None else int(measured.correct.sum()) / total
    return EpochRecord(
        epoch=epoch + 1,
        train_loss=float(np.average(measured.loss.astype(np.float64), weights=sizes)),
        train_accuracy=correct,
        test_loss=evaluation.loss,
        test_accuracy=evaluation.accuracy,
        seconds=seconds,
    )
