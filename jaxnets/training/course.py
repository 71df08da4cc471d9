"""A run under way: epoch after epoch of compiled steps, evaluated and recorded."""

import dataclasses
import operator
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxnets.data.batching import Plan
from jaxnets.data.dataset import Dataset
from jaxnets.training.batches import Feed, cut
from jaxnets.training.callbacks import Listeners
from jaxnets.training.compiled import Compiled
from jaxnets.training.epoch import train_steps
from jaxnets.training.evaluation import evaluate_state
from jaxnets.training.placement import local
from jaxnets.training.progress import Reporter
from jaxnets.training.records import (
    EpochRecord,
    Evaluation,
    Task,
    Timings,
    TrainingRun,
    mean_loss,
    share,
)
from jaxnets.training.saving import Best, Journal, Keeper
from jaxnets.training.state import Program, TrainState, merge
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
        what = "gradient is not finite" if np.isfinite(self.loss) else f"loss is {self.loss}"
        return (
            f"the {what} at epoch {self.epoch}, {where}: training has diverged "
            "(a smaller learning rate may help), or inputs or labels are not what the loss takes"
        )


class Course:
    """Takes a run from where its journal is to its last epoch.

    Args:
        compiled: the program, for its devices.
        journal: how far the run is.
        data: what it trains and tests on.
        feeds: those of the training and of the test split.
        plan: from an epoch's number to its batches.
        epochs: how many the run is to have.
        best: holds the best epoch; None if the run ends with its last one.
    """

    def __init__(
        self,
        compiled: Compiled,
        journal: Journal,
        data: Dataset,
        feeds: tuple[Feed, Feed],
        plan: Callable[[int], Plan],
        epochs: int,
        best: Best | None = None,
    ) -> None:
        self._compiled, self._journal, self._data = compiled, journal, data
        self._train, self._test = feeds
        self._plan, self._epochs, self._best = plan, epochs, best
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
        for epoch in range(len(journal.history), self._epochs):
            if listeners.reason is not None and journal.history and not journal.step_in_epoch:
                break
            plan = self._plan(epoch)
            self._train_epoch(plan, report, keep, listeners)
            evaluation = self._evaluate()
            if not np.isfinite(evaluation.loss):
                raise NonFiniteLossError(epoch + 1, None, evaluation.loss)
            journal.end_epoch(self._record(plan, evaluation))
            report.epoch(journal.history[-1])
            if self._best is not None:
                self._best.see(journal)
            try:
                listeners.epoch(journal.history[-1])
            finally:  # a callback that fails costs no epoch
                keep.after_epoch(journal)
        if listeners.reason is not None and len(journal.history) < self._epochs:
            report.say(f"stopped: {listeners.reason}")
        if self._best is not None and self._best.epoch < len(journal.history):
            best = f"epoch {self._best.epoch}, the best by {self._best.metric}"
            report.say(f"restored: the weights of {best}")

    def result(self, reason: str | None) -> TrainingRun:
        """What has come of it.

        Args:
            reason: why a callback wanted it to stop.
        """
        journal, best, program = self._journal, self._best, self._compiled.program
        ended, test = journal.state, self._evaluation
        if best is not None and best.epoch < len(journal.history):
            ended, test = best.state, None
        if test is None:  # or all epochs were done before
            test = self._measured(ended)
        plan = self._plan(0)
        examples = len(journal.history) * (plan.full.size + plan.rest.size)
        train_seconds = sum(record.seconds for record in journal.history)
        state = local(ended)
        return TrainingRun(
            model=merge(program.graphdef, state),
            state=state,
            history=tuple(journal.history),
            step_losses=np.concatenate(journal.losses),
            test=test,
            timings=Timings(self._compiled.seconds, train_seconds, self._evaluate_seconds),
            examples_per_second=examples / train_seconds,
            device=self._compiled.placement.name,
            stopped=reason if len(journal.history) < self._epochs else None,
            restored=None if best is None else best.epoch,
            task=Task.of(self._data, program.transform),
        )

    def _train_epoch(
        self, plan: Plan, report: Reporter, keep: Keeper, listeners: Listeners
    ) -> None:
        """Takes what steps of an epoch are left."""
        journal, compiled, start = self._journal, self._compiled, self._journal.step_in_epoch
        room = self._train.room(len(plan.full), plan.full.shape[1])
        pieces = cut(plan, start=start, room=room, stops=keep.stops(journal, plan.steps))
        source = self._train.batches(pieces)
        if start:
            report.advance(start, float(journal.losses[-1][-1]))
        began, compiling = time.perf_counter(), compiled.seconds
        upcoming: Any = next(source, None)
        for piece in pieces:
            steps, size = piece.rows.shape
            state, measured = compiled.run(train_steps, size, journal.state, upcoming, piece.count)
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

    def _evaluate(self) -> Evaluation:
        """Measures the state, and the time that it takes."""
        began, compiling = time.perf_counter(), self._compiled.seconds
        self._evaluation = self._measured(self._journal.state)
        compiling = self._compiled.seconds - compiling
        self._evaluate_seconds += time.perf_counter() - began - compiling
        return self._evaluation

    def _measured(self, state: TrainState) -> Evaluation:
        compiled, split = self._compiled, self._data.test
        return evaluate_state(compiled.run, compiled.program, state, split, self._test)

    def _record(self, plan: Plan, evaluation: Evaluation) -> EpochRecord:
        each = evaluation.total // len(self._data.test)
        return epoch_record(plan, self._compiled.program, self._journal, evaluation, each)


def divergence(journal: Journal, measured: StepMetrics) -> NonFiniteLossError | None:
    """The first of the next steps whose loss is not finite, unless such steps are left out."""
    loss = np.asarray(measured.loss)
    bad = np.flatnonzero(~np.isfinite(loss))
    if not len(bad) or measured.skipped is not None:
        return None
    step = journal.step_in_epoch + int(bad[0]) + 1
    return NonFiniteLossError(len(journal.history) + 1, step, float(loss[bad[0]]))


def epoch_record(
    plan: Plan, program: Program, journal: Journal, evaluation: Evaluation, each: int = 1
) -> EpochRecord:
    """The record of the epoch under way.

    Args:
        plan: its batches.
        program: what was run.
        journal: what it measured.
        evaluation: what followed it.
        each: predictions of an example, where an older version did not save them.

    Raises:
        NonFiniteLossError: if every step was left out.
    """
    sizes = np.full(plan.steps, plan.full.shape[1])
    if len(plan.rest):
        sizes[-1] = len(plan.rest)
    measured = journal.epoch_measured(sizes * each)
    loss, correct, total, skipped = map(np.asarray, measured)
    if skipped.all():
        raise NonFiniteLossError(len(journal.history) + 1, plan.steps, float(loss[-1]))
    loss, correct, total, sizes = (x[~skipped] for x in (loss, correct, total, sizes))
    accuracy = share(int(correct.sum()), int(total.sum()))
    return EpochRecord(
        epoch=len(journal.history) + 1,
        train_loss=mean_loss(loss, sizes, program.adds_up),
        train_accuracy=None if program.correct is None else accuracy,
        test_loss=evaluation.loss,
        test_accuracy=evaluation.accuracy,
        seconds=journal.seconds,
        skipped=int(skipped.sum()),
    )
