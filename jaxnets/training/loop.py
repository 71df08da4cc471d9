"""The loop of training: epoch after epoch of compiled steps, evaluated and recorded."""

import dataclasses
import operator
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnets.data.batching import Plan
from jaxnets.data.dataset import Dataset
from jaxnets.training.batches import Feed, cut
from jaxnets.training.batching import Batching
from jaxnets.training.callbacks import Listeners
from jaxnets.training.compiled import Compiled
from jaxnets.training.epoch import one_step, train_steps
from jaxnets.training.evaluation import (
    Evaluation,
    as_batch,
    batch_of,
    checked_feed,
    evaluate_state,
)
from jaxnets.training.objective import Objective
from jaxnets.training.placement import Placement, local
from jaxnets.training.progress import Reporter
from jaxnets.training.records import EpochRecord, Task, Timings, TrainingRun
from jaxnets.training.saving import Best, Journal, Keeper
from jaxnets.training.state import TrainState
from jaxnets.training.steps import Step, StepMetrics


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


class Feeds(NamedTuple):
    """The feeds of the training and of the test split; None without one."""

    train: Feed
    test: Feed | None


@dataclass(frozen=True)
class Work:
    """What a run does, whatever its weights and its seed.

    Attributes:
        step: how it trains.
        objective: what it evaluates after each epoch; None for nothing.
        batching: its data and their batches.
        epochs: how many it is to have.
    """

    step: Step
    objective: Objective | None
    batching: Batching
    epochs: int

    @property
    def data(self) -> Dataset:
        """What it trains and tests on."""
        return self.batching.data

    @property
    def untested(self) -> bool:
        """Whether nothing is evaluated."""
        return self.objective is None or self.data.test is None

    def feeds(self, state: TrainState, placement: Placement) -> Feeds:
        """The splits on their way to the devices, looked at.

        Raises:
            InputError: see ``checked_feed``.
        """
        data, names = self.data, self.data.class_names
        own = getattr(self.step, "evaluation", None)
        train = checked_feed(
            "data.train", data.train, own, state, placement, names, self.batching.batch_size
        )
        if self.untested:
            return Feeds(train, None)
        return Feeds(
            train, checked_feed("data.test", data.test, self.objective, state, placement, names)
        )

    def measured(self, state: TrainState) -> StepMetrics:
        """The shapes of what a step measures."""
        train = self.data.train
        size = min(batch_of(train, self.batching.batch_size), len(train))
        return jax.eval_shape(one_step(self.step), state, as_batch(train, size))[1]

    def task(self) -> Task:
        """What the model takes and gives."""
        return Task.of(self.data, getattr(self.objective, "transform", None))


class Loop:
    """Takes a run from where its journal is to its last epoch.

    Args:
        compiled: runs programs on the devices.
        work: what it does.
        feeds: its data.
        seed: of the order of the examples.
        journal: how far the run is.
        best: holds the best epoch; None if the run ends with its last one.
    """

    def __init__(
        self,
        compiled: Compiled,
        work: Work,
        feeds: Feeds,
        seed: int,
        journal: Journal,
        best: Best | None = None,
    ) -> None:
        self._compiled, self._work, self._feeds, self._seed = compiled, work, feeds, seed
        self._journal, self._best = journal, best
        self._evaluation: Evaluation | None = None
        self._evaluate_seconds = 0.0

    def run(self, report: Reporter, keep: Keeper, listeners: Listeners) -> None:
        """Goes through the epochs that are left, or those up to where a callback stops it.

        Raises:
            NonFiniteLossError: see ``fit``.
            Interrupted: see ``fit``.
        """
        journal = self._journal
        self._compiled.watched = report.compiling
        for epoch in range(len(journal.history), self._work.epochs):
            if listeners.reason is not None and journal.history and not journal.step_in_epoch:
                break
            self._train_epoch(self._work.batching.plan(self._seed, epoch), report, keep, listeners)
            self._evaluate()
            journal.end_epoch(epoch_record(journal, self._evaluation))
            report.epoch(journal.history[-1])
            if self._best is not None:
                self._best.see(journal)
            try:
                listeners.epoch(journal.history[-1])
            finally:  # a callback that fails costs no epoch
                keep.after_epoch(journal)
        if listeners.reason is not None and len(journal.history) < self._work.epochs:
            report.say(f"stopped: {listeners.reason}")
        if self._best is not None and self._best.epoch < len(journal.history):
            best = f"epoch {self._best.epoch}, the best by {self._best.metric}"
            report.say(f"restored: the weights of {best}")

    def result(self, reason: str | None) -> TrainingRun:
        """What has come of it.

        Args:
            reason: why a callback wanted it to stop.
        """
        journal, best, work = self._journal, self._best, self._work
        ended, test = journal.state, self._evaluation
        if best is not None and best.epoch < len(journal.history):
            ended, test = best.state, None
        if test is None:  # or all epochs were done before
            test = self._measured(ended)
        plan = work.batching.plan(self._seed, 0)
        examples = len(journal.history) * (plan.full.size + plan.rest.size)
        train_seconds = sum(record.seconds for record in journal.history)
        state = local(ended)
        return TrainingRun(
            model=state.model,
            state=state,
            history=tuple(journal.history),
            step_losses=np.concatenate(journal.losses),
            test=test,
            timings=Timings(self._compiled.seconds, train_seconds, self._evaluate_seconds),
            examples_per_second=examples / train_seconds,
            device=self._compiled.placement.name,
            stopped=reason if len(journal.history) < work.epochs else None,
            restored=None if best is None else best.epoch,
            task=work.task(),
        )

    def _train_epoch(
        self, plan: Plan, report: Reporter, keep: Keeper, listeners: Listeners
    ) -> None:
        """Takes what steps of an epoch are left."""
        journal, compiled, start = self._journal, self._compiled, self._journal.step_in_epoch
        feed = self._feeds.train
        room = feed.room(len(plan.full), plan.full.shape[1])
        pieces = cut(plan, start=start, room=room, stops=keep.stops(journal, plan.steps))
        source = feed.batches(pieces)
        if start:
            report.advance(start, float(journal.losses[-1][-1]))
        began, compiling = time.perf_counter(), compiled.seconds
        upcoming: Any = next(source, None)
        for piece in pieces:
            steps = len(piece.rows)
            state, measured = compiled.run(
                train_steps, self._work.step, journal.state, upcoming, piece.count
            )
            upcoming = next(source, None)  # read on while the device computes
            measured = jax.tree.map(operator.itemgetter(slice(steps)), jax.device_get(measured))
            if (error := divergence(journal, measured)) is not None:
                raise error
            now = time.perf_counter()
            journal.add(state, measured, now - began - (compiled.seconds - compiling))
            report.advance(steps, float(measured.loss[-1]))
            listeners.steps(journal.step, measured.loss)
            if upcoming is not None:
                keep.after_steps(journal)
            began, compiling = time.perf_counter(), compiled.seconds
        journal.state = dataclasses.replace(journal.state, epoch=journal.state.epoch + 1)

    def _evaluate(self) -> None:
        """Measures the state, and the time that it takes."""
        began, compiling = time.perf_counter(), self._compiled.seconds
        self._evaluation = self._measured(self._journal.state)
        compiling = self._compiled.seconds - compiling
        self._evaluate_seconds += time.perf_counter() - began - compiling

    def _measured(self, state: TrainState) -> Evaluation | None:
        work = self._work
        if work.objective is None or self._feeds.test is None:
            return None
        run = self._compiled.run
        return evaluate_state(run, work.objective, state, work.data.test, self._feeds.test)


def divergence(journal: Journal, measured: StepMetrics) -> NonFiniteLossError | None:
    """The first of the next steps whose loss is not finite, unless such steps are left out."""
    loss = np.asarray(measured.loss)
    bad = np.flatnonzero(~np.isfinite(loss))
    if not len(bad) or measured.skipped is not None:
        return None
    step = journal.step_in_epoch + int(bad[0]) + 1
    return NonFiniteLossError(len(journal.history) + 1, step, float(loss[bad[0]]))


def epoch_record(journal: Journal, test: Evaluation | None) -> EpochRecord:
    """The record of the epoch under way.

    Args:
        journal: what it measured.
        test: what followed it; None without a test split.

    Raises:
        NonFiniteLossError: if every step was left out, or the test loss is not finite.
    """
    epoch = len(journal.history) + 1
    metrics = journal.epoch_metrics()
    if metrics is None:
        raise NonFiniteLossError(epoch, journal.step_in_epoch, float(journal.losses[-1][-1]))
    if test is not None and not np.isfinite(test.loss):
        raise NonFiniteLossError(epoch, None, test.loss)
    return EpochRecord(
        epoch=epoch,
        train=metrics,
        test={} if test is None else test.metrics,
        seconds=journal.seconds,
        skipped=len(journal.skipped),
    )
