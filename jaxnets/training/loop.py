"""The training loop: compiled steps, evaluated and recorded after each epoch."""

import dataclasses
import math
import operator
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from jaxnets.data.batching import Plan
from jaxnets.data.dataset import Dataset
from jaxnets.training.batches import Feed, cut
from jaxnets.training.batching import Batching
from jaxnets.training.callbacks import Listeners
from jaxnets.training.compiled import Compiled
from jaxnets.training.epoch import (
    evaluate_batches,
    evaluate_members,
    one_step,
    train_members,
    train_steps,
)
from jaxnets.training.evaluation import (
    Evaluation,
    as_batch,
    batch_of,
    checked_feed,
    evaluation,
    measure_split,
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
        step: the step within the epoch, counted from 1; None for the evaluation after the epoch.
        loss: the loss, which is finite if only the gradient is not.
    """

    def __init__(self, epoch: int, step: int | None, loss: float) -> None:
        super().__init__(epoch, step, loss)
        self.epoch, self.step, self.loss = epoch, step, loss

    def __str__(self) -> str:
        where = "the test" if self.step is None else f"step {self.step}"
        what = "gradient is not finite" if np.isfinite(self.loss) else f"loss is {self.loss}"
        return (
            f"the {what} at epoch {self.epoch}, {where}: training has diverged "
            "(a smaller learning rate may help), or inputs or labels are invalid for the loss"
        )


class Feeds(NamedTuple):
    """The feed of the training split, and that of the test split or None."""

    train: Feed
    test: Feed | None


@dataclass(frozen=True)
class Work:
    """The settings of a run, without its weights and its seed.

    Attributes:
        step: the training step.
        objective: the objective that is evaluated after each epoch; None for none.
        batching: the data and how they are divided into batches.
        epochs: number of epochs when the run is complete.
    """

    step: Step
    objective: Objective | None
    batching: Batching
    epochs: int

    @property
    def data(self) -> Dataset:
        """The data set to train and test on."""
        return self.batching.data

    @property
    def untested(self) -> bool:
        """Whether nothing is evaluated."""
        return self.objective is None or self.data.test is None

    def feeds(self, state: TrainState, placement: Placement) -> Feeds:
        """Checks the splits and makes their feeds.

        Raises:
            InputError: see ``checked_feed``.
        """
        data, names = self.data, self.data.class_names
        # Training data are checked with the step's own objective, which may be None for a custom
        # step; then nothing is known about them.
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
        """Returns the shapes of a step's metrics."""
        train = self.data.train
        size = min(batch_of(train, self.batching.batch_size), len(train))
        return jax.eval_shape(one_step(self.step), state, as_batch(train, size))[1]

    def task(self) -> Task:
        """Returns the description of the model's inputs and outputs."""
        return Task.of(self.data, getattr(self.objective, "transform", None))


@dataclass
class Member:
    """A run in progress: a single run, or one of several trained together.

    Attributes:
        seed: the seed of the order of the examples.
        journal: the progress of the run. The first member's journal has the state of all members.
        learning_rate: the learning rate; None for the optimizer's own.
        diverged: the error at which the run diverged; None if it has not.
        test: the last evaluation.
    """

    seed: int
    journal: Journal
    learning_rate: float | None = None
    diverged: NonFiniteLossError | None = None
    test: Evaluation | None = None

    @property
    def name(self) -> str:
        """The seed and learning rate, which identify the member."""
        rate = "" if self.learning_rate is None else f", learning rate {self.learning_rate:g}"
        return f"seed {self.seed}{rate}"

    def add(self, state: TrainState, found: StepMetrics, seconds: float) -> None:
        """Adds the results of some steps, up to the first one whose loss is not finite."""
        if self.diverged is not None:
            return
        self.diverged = divergence(self.journal, found)
        if self.diverged is not None and self.diverged.step is not None:
            until = slice(self.diverged.step - self.journal.step_in_epoch)
            found = jax.tree.map(operator.itemgetter(until), found)
        self.journal.add(state, found, seconds)

    def end_epoch(self) -> None:
        """Adds the record of an epoch, after its evaluation, unless the run has diverged."""
        if self.diverged is None:
            try:
                self.journal.end_epoch(epoch_record(self.journal, self.test))
            except NonFiniteLossError as error:
                self.diverged = error


class Loop:
    """Trains one run, or several in one program, to the last epoch.

    Args:
        compiled: runs programs on the devices.
        work: the settings of the runs.
        feeds: the feeds of the splits.
        members: the runs.
        together: whether the arrays of the state have a leading axis for the members.
        best: keeps the state of a single run's best epoch; None to end with the last epoch's.
    """

    def __init__(
        self,
        compiled: Compiled,
        work: Work,
        feeds: Feeds,
        members: Sequence[Member],
        *,
        together: bool = False,
        best: Best | None = None,
    ) -> None:
        self._compiled, self._work, self._feeds = compiled, work, feeds
        self._members, self._together, self._best = members, together, best
        self._evaluate_seconds = 0.0

    @property
    def _journal(self) -> Journal:
        return self._members[0].journal

    @property
    def _not_diverged(self) -> list[Member]:
        return [member for member in self._members if member.diverged is None]

    def run(self, report: Reporter, keep: Keeper, listeners: Listeners) -> None:
        """Trains the remaining epochs, or until a callback stops the run.

        Raises:
            NonFiniteLossError: see ``fit``.
            Interrupted: see ``fit``.
        """
        journal, epochs = self._journal, self._work.epochs
        self._compiled.watched = report.compiling
        for epoch in range(len(journal.history), epochs):
            # A run that a callback stopped within an epoch first completes the epoch, so that its
            # history consists of whole epochs.
            if listeners.reason is not None and journal.history and not journal.step_in_epoch:
                break
            active = self._not_diverged
            self._train_epoch(self._plan(epoch), report, keep, listeners)
            self._evaluate()
            record = self._end_epoch(active, report)
            if self._best is not None:
                self._best.see(journal)
            try:
                listeners.epoch(record)
            finally:  # saved even if a callback fails, so that the epoch is not lost
                keep.after_epoch(journal)
        if listeners.reason is not None and len(journal.history) < epochs:
            report.say(f"stopped: {listeners.reason}")
        if self._best is not None and self._best.epoch < len(journal.history):
            best = f"epoch {self._best.epoch}, the best by {self._best.metric}"
            report.say(f"restored: the weights of {best}")

    def results(self, reason: str | None) -> list[TrainingRun]:
        """Returns the result of each run; the timings are those of all runs together.

        Args:
            reason: why a callback stopped the runs; None if none did.
        """
        journals, best = [member.journal for member in self._members], self._best
        restored = best is not None and best.epoch < len(self._journal.history)
        ended = best.state if best is not None and restored else self._journal.state
        if restored or self._members[0].test is None:  # no epoch left when the run resumed
            self._measure(ended)
        seconds = max(sum(record.seconds for record in each.history) for each in journals)
        epochs = max(len(each.history) for each in journals)
        # ``seconds`` is zero if the clock is too coarse for a tiny run.
        speed = epochs * self._work.batching.examples / seconds if seconds else math.nan
        stopped = reason if len(self._journal.history) < self._work.epochs else None
        made = []
        for member, state in zip(self._members, self._each(local(ended)), strict=True):
            run = TrainingRun(
                model=state.model,
                state=state,
                history=tuple(member.journal.history),
                step_losses=np.concatenate(member.journal.losses),
                test=cast(Evaluation, member.test),  # none without a test split
                timings=Timings(self._compiled.seconds, seconds, self._evaluate_seconds),
                examples_per_second=speed,
                device=self._compiled.placement.name,
                stopped=stopped,
                restored=None if best is None else best.epoch,
                task=self._work.task(),
            )
            made.append(run)
        return made

    def _each(self, tree: Any) -> list[Any]:
        """Splits a pytree by member; with several members its arrays are [members, …]."""
        if not self._together:
            return [tree]
        numbers = range(len(self._members))
        return [jax.tree.map(operator.itemgetter(number), tree) for number in numbers]

    def _plan(self, epoch: int) -> Plan:
        """Returns the batches of an epoch; with several members they have a last axis for these."""
        batching = self._work.batching
        if not self._together:
            return batching.plan(self._members[0].seed, epoch)
        seeds = list(dict.fromkeys(member.seed for member in self._members))
        # Threads help because NumPy releases the GIL while it sorts.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            plans = pool.map(lambda seed: batching.plan(seed, epoch), seeds)
            of_seed = dict(zip(seeds, plans, strict=True))
        every = [of_seed[member.seed] for member in self._members]
        full = np.stack([plan.full for plan in every], axis=-1)
        return Plan(full, np.stack([plan.rest for plan in every], axis=-1))

    def _train_epoch(
        self, plan: Plan, report: Reporter, keep: Keeper, listeners: Listeners
    ) -> None:
        """Takes the remaining steps of an epoch."""
        journal, compiled, feed = self._journal, self._compiled, self._feeds.train
        start, train = journal.step_in_epoch, train_members if self._together else train_steps
        room = feed.room(len(plan.full), plan.full.shape[1])
        pieces = cut(plan, start=start, room=room, stops=keep.stops(journal, plan.steps))
        source = feed.batches(pieces)
        if start:
            report.advance(start, float(journal.losses[-1][-1]))
        began, compiling = time.perf_counter(), compiled.seconds
        upcoming: Any = next(source, None)
        for piece in pieces:
            state, found = compiled.run(
                train, self._work.step, journal.state, upcoming, piece.count
            )
            upcoming = next(source, None)  # read while the device computes
            every = self._each(jax.device_get(found))  # waits for the device
            seconds = time.perf_counter() - began - (compiled.seconds - compiling)
            for member, measured in zip(self._members, every, strict=True):
                # The program returns ``room`` entries, of which the last ones may be padding.
                done = jax.tree.map(operator.itemgetter(slice(len(piece.rows))), measured)
                member.add(state, done, seconds)
            journal.state = state
            self._raise_if_all_diverged()
            last = [member.journal.losses[-1][-1] for member in self._not_diverged]
            report.advance(len(piece.rows), float(np.mean(last)))
            listeners.steps(journal.step, journal.losses[-1])
            if upcoming is not None:  # the checkpoint after the last piece is that of the epoch
                keep.after_steps(journal)
            began, compiling = time.perf_counter(), compiled.seconds
        journal.state = dataclasses.replace(journal.state, epoch=journal.state.epoch + 1)

    def _end_epoch(self, active: list[Member], report: Reporter) -> EpochRecord:
        for member in active:
            member.end_epoch()
        self._raise_if_all_diverged()
        for member in active:
            if member.diverged is not None:
                report.say(f"{member.name}: {member.diverged}")
        record = _mean([member.journal.history[-1] for member in self._not_diverged])
        report.epoch(record)
        return record

    def _raise_if_all_diverged(self) -> None:
        if not self._not_diverged:
            assert self._members[0].diverged is not None
            raise self._members[0].diverged

    def _evaluate(self) -> None:
        """Evaluates the state, and adds the time without compilation."""
        began, compiling = time.perf_counter(), self._compiled.seconds
        self._measure(self._journal.state)
        compiling = self._compiled.seconds - compiling
        self._evaluate_seconds += time.perf_counter() - began - compiling

    def _measure(self, state: TrainState) -> None:
        work, test = self._work, self._feeds.test
        if work.objective is None or test is None:
            return
        split, run = work.data.test, self._compiled.run
        function = evaluate_members if self._together else evaluate_batches
        found = measure_split(run, function, work.objective, state, split, test)
        for member, pieces in zip(self._members, self._each(found), strict=True):
            member.test = evaluation(len(split), [piece.metrics for piece in pieces])


def _mean(records: Sequence[EpochRecord]) -> EpochRecord:
    """Averages the records of an epoch of several runs, for the progress line."""

    def mean(parts: list[Mapping[str, Any]]) -> dict[str, Any]:
        return {name: np.mean([part[name] for part in parts], axis=0) for name in parts[0]}

    if len(records) == 1:
        return records[0]
    return EpochRecord(
        epoch=records[0].epoch,
        train=mean([record.train for record in records]),
        test=mean([record.test for record in records]),
        seconds=float(np.mean([record.seconds for record in records])),
        skipped=sum(record.skipped for record in records),
    )


def divergence(journal: Journal, measured: StepMetrics) -> NonFiniteLossError | None:
    """Returns the error of the first step with a non-finite loss; None if such steps are skipped.

    Args:
        journal: the progress of the run before these steps.
        measured: the metrics of these steps.
    """
    loss = np.asarray(measured.loss)
    bad = np.flatnonzero(~np.isfinite(loss))
    if not len(bad) or measured.skipped is not None:
        return None
    step = journal.step_in_epoch + int(bad[0]) + 1
    return NonFiniteLossError(len(journal.history) + 1, step, float(loss[bad[0]]))


def epoch_record(journal: Journal, test: Evaluation | None) -> EpochRecord:
    """Makes the record of the current epoch.

    Args:
        journal: the progress of the run.
        test: the evaluation after the epoch; None without a test split.

    Raises:
        NonFiniteLossError: if every step was skipped, or the test loss is not finite.
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
