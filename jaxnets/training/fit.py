"""The host's side of training: compile, run epoch after epoch, evaluate, record."""

import dataclasses
import functools
import operator
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import numpy as np
import optax
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import (
    InputError,
    check_choice,
    check_float_dtype,
    check_positive,
    check_seed,
)
from jaxnets.data.batching import Plan, epoch_plan
from jaxnets.data.dataset import Dataset
from jaxnets.data.text import TextDataset
from jaxnets.data.transforms import Augmentation
from jaxnets.training.batches import Feed, cut
from jaxnets.training.callbacks import Callback, Listeners, RunSoFar
from jaxnets.training.classes import counter
from jaxnets.training.compiled import Compiled
from jaxnets.training.epoch import train_steps
from jaxnets.training.evaluation import (
    check_model,
    checked_feed,
    evaluate_state,
    predictions,
)
from jaxnets.training.fingerprint import fingerprint
from jaxnets.training.placement import Parallel, local, place
from jaxnets.training.processes import check_same
from jaxnets.training.progress import Progress, Reporter, reporter
from jaxnets.training.records import EpochRecord, Evaluation, Timings, TrainingRun
from jaxnets.training.saving import Journal, Keeper, Saving, begin, keeper
from jaxnets.training.sharding import AnyPlacement, Sharding
from jaxnets.training.state import Count, Loss, Program, Transform, initialize, merge

NonFinite = Literal["stop", "skip"]


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
        what = "gradient is not finite" if np.isfinite(self.loss) else f"loss is {self.loss}"
        return (
            f"the {what} at epoch {self.epoch}, {where}: training has diverged "
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
    buckets: int | None = None,
    devices: int | Sequence[jax.Device] | None = None,
    parallel: Parallel = "shard_map",
    sharding: Sharding | None = None,
    accumulate: int = 1,
    compute_dtype: DTypeLike | None = None,
    save: Saving | None = None,
    resume: bool = False,
    callbacks: Sequence[Callable[[EpochRecord], Any] | Callback] = (),
    non_finite: NonFinite = "stop",
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
        buckets: puts texts of similar length into a batch, which runs at one of at most so many
            lengths, for a ``TextDataset`` and a model that padding changes nothing of. None, or 1,
            runs all at the full length, in the order without.
        devices: how many share each batch, or which; None for all accelerators, or one CPU. The
            losses are those of one device, but for the order of sums; dropout and augmentation
            draw from (seed, step, device).
        parallel: ``"shard_map"``, or ``"pmap"`` for the older interface to the same.
        sharding: how the devices share parameters too; None for each having them all.
        accumulate: in how many parts a device takes its batch, one after the other, so that one at
            a time is in memory. The step is that of the whole batch, for any loss; batch
            statistics are a part's. Each part is run forward twice.
        compute_dtype: the dtype in which the network computes, such as ``"bfloat16"``; weights,
            loss and optimizer stay as they are. None for that of the weights.
        save: where and how often to save checkpoints. Ctrl-C and SIGTERM then save before they
            end the run.
        resume: whether to go on with the run that is saved there, if there is one. It then ends
            as if it had never been interrupted, bit for bit; on another number of devices, but
            for the order of sums.
        callbacks: functions to call with each ``EpochRecord``, or ``Callback`` objects, which hear
            more. Any of them ends the run by raising ``StopTraining``.
        non_finite: what becomes of a step whose loss is NaN or infinite: ``"stop"`` raises;
            ``"skip"`` leaves its update out, also where it is the gradient that is not finite.
        progress: ``"auto"`` (a bar on a terminal, lines elsewhere), ``"bar"``, ``"lines"`` or
            ``"none"``.

    Returns:
        The trained model, the history, the timings.

    Raises:
        ValueError: if an argument is bad, inputs do not fit the model, or a label is out of range.
        Interrupted: a ``KeyboardInterrupt``, if the run was asked to stop, and has saved.
        OSError: if a checkpoint cannot be written; those before it remain.
        NonFiniteLossError: if the loss is NaN or infinite at some step or in the evaluation; of
            steps to be skipped, if they were a whole epoch.
    """
    check_positive("epochs", epochs)
    check_positive("batch_size", batch_size)
    check_seed("seed", seed)
    check_model(model)
    check_choice("non_finite", non_finite, get_args(NonFinite))
    listeners = Listeners(callbacks)
    _check(data, loss, optimizer)
    check_positive("accumulate", accumulate)
    if compute_dtype is not None:
        compute_dtype = check_float_dtype("compute_dtype", compute_dtype)
    placement: AnyPlacement = place(devices, parallel)
    if sharding is not None:
        if jax.process_count() > 1:
            raise InputError("sharding", "None with several processes", sharding)
        placement = sharding.placement(placement.devices)
    plan_of = functools.partial(
        epoch_plan,
        len(data.train),
        batch_size,
        seed=seed,
        shuffle=shuffle,
        drop_last=drop_last,
        widths=_widths(data, buckets),
    )
    plan = plan_of(epoch=0)
    steps, examples = plan.steps, plan.full.size + plan.rest.size
    if steps == 0:
        most = f"at most the {len(data.train)} training examples"
        raise InputError("batch_size", most, batch_size)
    graphdef, state = initialize(model, optimizer, seed)
    count = counter(correct, loss, data.train)
    program = Program(
        graphdef,
        loss,
        optimizer,
        transform,
        count,
        augment,
        placement.shards,
        accumulate,
        compute_dtype,
        non_finite == "skip",
    )
    train = checked_feed("data.train", data.train, program, state, placement)
    test = checked_feed("data.test", data.test, program, state, placement)
    state = placement.place(state)

    about: dict[str, Any] = {}
    if save is not None or jax.process_count() > 1:
        settings: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "shuffle": shuffle}
        settings |= {"drop_last": drop_last, "accumulate": accumulate, "buckets": buckets}
        about = fingerprint(program, state, data, settings)
        same = "the same model, data, versions and settings on every process"
        check_same("fit", same, {**about, "epochs": epochs})
    journal = begin(save, resume, about, state)
    if len(journal.history) > epochs:
        raise InputError("epochs", f"at least {len(journal.history)}, which are done", epochs)

    compiled = Compiled(program, placement)
    evaluate_seconds = 0.0
    evaluation = None
    first = jax.process_index() == 0
    so_far = RunSoFar(data, epochs, steps, resume, journal, graphdef)
    with (
        reporter(progress if first else "none", epochs=epochs, steps=steps) as report,
        keeper(save, about) as keep,
        listeners.listening(so_far),
    ):
        for epoch in range(len(journal.history), epochs):
            if listeners.reason is not None and journal.history:
                break
            plan = plan_of(epoch=epoch)
            _train_epoch(compiled, journal, train, plan, report, keep, listeners)
            began, compiling = time.perf_counter(), compiled.seconds
            evaluation = evaluate_state(compiled.run, program, journal.state, data.test, test)
            evaluate_seconds += time.perf_counter() - began - (compiled.seconds - compiling)
            if not np.isfinite(evaluation.loss):
                raise NonFiniteLossError(epoch + 1, None, evaluation.loss)
            each = predictions(data.train, 1)
            journal.end_epoch(_record(plan, program, journal, each, evaluation))
            report.epoch(journal.history[-1])
            try:
                listeners.epoch(journal.history[-1])
            finally:  # a callback that fails costs no epoch
                keep.after_epoch(journal)
        stopped = listeners.reason if len(journal.history) < epochs else None
        if stopped is not None:
            report.stopped(stopped)
    if evaluation is None:  # all epochs were done before
        evaluation = evaluate_state(compiled.run, program, journal.state, data.test, test)
    train_seconds = sum(record.seconds for record in journal.history)
    state = local(journal.state)
    return TrainingRun(
        model=merge(graphdef, state),
        state=state,
        history=tuple(journal.history),
        step_losses=np.concatenate(journal.losses),
        test=evaluation,
        timings=Timings(compiled.seconds, train_seconds, evaluate_seconds),
        examples_per_second=len(journal.history) * examples / train_seconds,
        device=placement.name,
        stopped=stopped,
    )


def _train_epoch(
    compiled: Compiled,
    journal: Journal,
    feed: Feed,
    plan: Plan,
    report: Reporter,
    keep: Keeper,
    listeners: Listeners,
) -> None:
    """Takes what steps of an epoch are left."""
    epoch, start = len(journal.history), journal.step_in_epoch
    room, stops = keep.pieces(feed.room(len(plan.full), plan.full.shape[1]), journal, plan.steps)
    pieces = cut(plan, start=start, room=room, stops=stops)
    source = feed.batches(pieces)
    if start:
        report.advance(start, float(journal.losses[-1][-1]))
    began, compiling = time.perf_counter(), compiled.seconds
    upcoming: Any = next(source, None)
    for piece in pieces:
        steps, size = piece.rows.shape
        state, measured = compiled.run(train_steps, size, journal.state, upcoming, piece.count)
        upcoming = next(source, None)  # read on while the device computes
        measured = jax.tree.map(operator.itemgetter(slice(steps)), jax.device_get(measured))
        bad = np.flatnonzero(~np.isfinite(measured.loss))
        if len(bad) and measured.skipped is None:
            step = journal.step_in_epoch + int(bad[0]) + 1
            raise NonFiniteLossError(epoch + 1, step, float(measured.loss[bad[0]]))
        now = time.perf_counter()
        journal.add(state, measured, now - began - (compiled.seconds - compiling))
        report.advance(steps, float(measured.loss[-1]))
        listeners.steps(journal.step, measured.loss)
        if upcoming is not None:
            keep.after_steps(journal)
        began, compiling = time.perf_counter(), compiled.seconds
    journal.state = dataclasses.replace(journal.state, epoch=journal.state.epoch + 1)


def _record(
    plan: Plan, program: Program, journal: Journal, each: int, evaluation: Evaluation
) -> EpochRecord:
    """The record of the epoch under way, of whose examples each asks for so many predictions."""
    sizes = np.full(plan.steps, plan.full.shape[1])
    if len(plan.rest):
        sizes[-1] = len(plan.rest)
    loss, correct, skipped = map(np.asarray, journal.epoch_measured())
    if skipped.all():
        raise NonFiniteLossError(len(journal.history) + 1, plan.steps, float(loss[-1]))
    loss, correct, sizes = loss[~skipped], correct[~skipped], sizes[~skipped]
    asked = each * int(sizes.sum())
    return EpochRecord(
        epoch=len(journal.history) + 1,
        train_loss=float(np.average(loss.astype(np.float64), weights=sizes)),
        train_accuracy=None if program.correct is None else int(correct.sum()) / asked,
        test_loss=evaluation.loss,
        test_accuracy=evaluation.accuracy,
        seconds=journal.seconds,
        skipped=int(skipped.sum()),
    )


def _widths(data: Dataset, buckets: int | None) -> np.ndarray | None:
    """The width that each training example runs at; None for one for all."""
    if buckets is None or check_positive("buckets", buckets) == 1:
        return None
    if not isinstance(data, TextDataset):
        raise InputError("buckets", "None or 1, but for a TextDataset", buckets)
    return data.widths(buckets)


def _check(data: Any, loss: Any, optimizer: Any) -> None:
    if not isinstance(data, Dataset):
        raise InputError("data", "a Dataset", f"a {type(data).__name__}")
    if not callable(loss):
        raise InputError("loss", "a function of (outputs, labels)", repr(loss))
    if not all(callable(getattr(optimizer, part, None)) for part in ("init", "update")):
        expected = "a gradient transformation, such as jaxnets.optimizers.sgd(0.01)"
        raise InputError("optimizer", expected, repr(optimizer))
