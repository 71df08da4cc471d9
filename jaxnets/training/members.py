"""Many runs under way at once, each with the order of its own seed."""

import dataclasses
import operator
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from jaxnets.data.batching import Plan
from jaxnets.training.batches import cut
from jaxnets.training.compiled import Compiled
from jaxnets.training.epoch import evaluate_members, train_members
from jaxnets.training.evaluation import Evaluation, evaluation, measure_split
from jaxnets.training.loop import Feeds, NonFiniteLossError, Work, divergence, epoch_record
from jaxnets.training.progress import Reporter
from jaxnets.training.records import EpochRecord, Timings
from jaxnets.training.replicates import MemberRun, TrainingRuns
from jaxnets.training.saving import Journal
from jaxnets.training.state import TrainState
from jaxnets.training.steps import StepMetrics


@dataclasses.dataclass
class Member:
    """One of many runs under way.

    Attributes:
        seed: its seed.
        learning_rate: its learning rate; None for the optimizer's own.
        journal: what it has measured so far; the state in it is that of all.
        diverged: where its loss was not finite.
        test: its last evaluation.
    """

    seed: int
    learning_rate: float | None
    journal: Journal
    diverged: NonFiniteLossError | None = None
    test: Evaluation | None = None

    @property
    def name(self) -> str:
        """What tells it from the others."""
        rate = "" if self.learning_rate is None else f", learning rate {self.learning_rate:g}"
        return f"seed {self.seed}{rate}"

    def add(self, measured: StepMetrics, seconds: float) -> None:
        """Some steps are done; what follows one whose loss is not finite is not recorded."""
        if self.diverged is not None:
            return
        self.diverged = divergence(self.journal, measured)
        if self.diverged is not None and self.diverged.step is not None:
            until = slice(self.diverged.step - self.journal.step_in_epoch)
            measured = jax.tree.map(operator.itemgetter(until), measured)
        self.journal.add(self.journal.state, measured, seconds)

    def end_epoch(self) -> None:
        """An epoch is done and evaluated."""
        if self.diverged is None:
            try:
                self.journal.end_epoch(epoch_record(self.journal, self.test))
            except NonFiniteLossError as error:
                self.diverged = error


class Members:
    """Trains many models on the same examples, each in its own order.

    Args:
        compiled: runs programs on the device.
        work: what they do.
        feeds: their data.
        members: the members.
        states: in which they begin, each array [members, …].
    """

    def __init__(
        self,
        compiled: Compiled,
        work: Work,
        feeds: Feeds,
        members: Sequence[Member],
        states: TrainState,
    ) -> None:
        self._compiled, self._work, self._feeds = compiled, work, feeds
        self._members, self._states = members, states
        self._train_seconds = self._evaluate_seconds = 0.0

    def run(self, report: Reporter) -> None:
        """Goes through the epochs, as long as a member has not diverged.

        Raises:
            NonFiniteLossError: of the first member, if all have diverged.
        """
        self._compiled.watched = report.compiling
        for epoch in range(self._work.epochs):
            began, going_on = time.perf_counter(), self._sound
            plan = self._plan(epoch)  # of many members this is no trifle
            self._train_seconds += time.perf_counter() - began
            self._train_epoch(plan, report)
            self._evaluate()
            for member in going_on:
                member.end_epoch()
                if member.diverged is not None:
                    report.say(f"{member.name}: {member.diverged}")
            if not self._sound:
                assert self._members[0].diverged is not None
                raise self._members[0].diverged
            report.epoch(_mean([member.journal.history[-1] for member in self._sound]))

    def result(self) -> TrainingRuns:
        """What has come of them."""
        timings = Timings(self._compiled.seconds, self._train_seconds, self._evaluate_seconds)
        plan = self._plan(0)
        count = self._work.epochs * (plan.full.size + plan.rest.size)
        speed, device = count / self._train_seconds, self._compiled.placement.name
        share = speed / len(self._members)
        made = [self._result(i, timings, share, device) for i in range(len(self._members))]
        return TrainingRuns(tuple(made), timings, speed, device)

    @property
    def _sound(self) -> list[Member]:
        return [member for member in self._members if member.diverged is None]

    def _plan(self, epoch: int) -> Plan:
        """The batches of all members, with an axis for the members behind the others."""
        seeds = list(dict.fromkeys(member.seed for member in self._members))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            plans = pool.map(lambda seed: self._work.batching.plan(seed, epoch), seeds)
            of_seed = dict(zip(seeds, plans, strict=True))
        every = [of_seed[member.seed] for member in self._members]
        full = np.stack([plan.full for plan in every], axis=-1)
        return Plan(full, np.stack([plan.rest for plan in every], axis=-1))

    def _train_epoch(self, plan: Plan, report: Reporter) -> None:
        compiled, feed = self._compiled, self._feeds.train
        room = feed.room(len(plan.full), plan.full.shape[1])
        pieces = cut(plan, room=room)
        began, compiling = time.perf_counter(), compiled.seconds
        for piece, batches in zip(pieces, feed.batches(pieces), strict=True):
            steps = len(piece.rows)
            self._states, found = compiled.run(
                train_members, self._work.step, self._states, batches, piece.count
            )
            found = jax.tree.map(lambda x, steps=steps: x[:, :steps], jax.device_get(found))
            seconds = time.perf_counter() - began - (compiled.seconds - compiling)
            self._train_seconds += seconds
            for number, member in enumerate(self._members):
                member.add(jax.tree.map(operator.itemgetter(number), found), seconds)
            losses = [float(member.journal.losses[-1][-1]) for member in self._sound]
            report.advance(steps, float(np.mean(losses or np.nan)))
            began, compiling = time.perf_counter(), compiled.seconds
        self._states = dataclasses.replace(self._states, epoch=self._states.epoch + 1)

    def _evaluate(self) -> None:
        compiled, work = self._compiled, self._work
        if self._feeds.test is None or work.objective is None:
            return
        began, compiling = time.perf_counter(), compiled.seconds
        split, objective = work.data.test, work.objective
        found = measure_split(
            compiled.run, evaluate_members, objective, self._states, split, self._feeds.test
        )
        seconds = time.perf_counter() - began - (compiled.seconds - compiling)
        self._evaluate_seconds += seconds
        for number, member in enumerate(self._members):
            own = [jax.tree.map(operator.itemgetter(number), piece.metrics) for piece in found]
            member.test = evaluation(len(split), own)

    def _result(self, number: int, timings: Timings, speed: float, device: str) -> MemberRun:
        member = self._members[number]
        state = jax.tree.map(operator.itemgetter(number), self._states)
        return MemberRun(
            model=state.model,
            state=state,
            history=tuple(member.journal.history),
            step_losses=np.concatenate(member.journal.losses),
            test=member.test,
            timings=timings,
            examples_per_second=speed,
            device=device,
            seed=member.seed,
            learning_rate=member.learning_rate,
            diverged=member.diverged,
            task=self._work.task(),
        )


def _mean(records: Sequence[EpochRecord]) -> EpochRecord:
    """The record of an epoch that a person sees of many runs."""

    def mean(parts: list[Mapping[str, Any]]) -> dict[str, Any]:
        return {name: np.mean([part[name] for part in parts], axis=0) for name in parts[0]}

    return EpochRecord(
        epoch=records[0].epoch,
        train=mean([record.train for record in records]),
        test=mean([record.test for record in records]),
        seconds=float(np.mean([record.seconds for record in records])),
        skipped=sum(record.skipped for record in records),
    )
