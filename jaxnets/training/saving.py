"""When a run saves, what it saves, and how it resumes."""

import dataclasses
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import (
    InputError,
    check_bool,
    check_integer,
    check_number,
    check_path,
    check_positive,
)
from jaxnets.json_files import WRONG, reason
from jaxnets.training.checkpoints import Checkpoints, Saved, read
from jaxnets.training.counts import check_counted
from jaxnets.training.evaluation import over_batches
from jaxnets.training.fingerprint import differences, machine, other_bits
from jaxnets.training.interrupts import Heard, Interrupted, Interrupts
from jaxnets.training.objective import Measured
from jaxnets.training.processes import check_same, gathered, of_first
from jaxnets.training.records import EpochRecord, Metric, best_epoch, check_metric, goodness
from jaxnets.training.state import TrainState
from jaxnets.training.steps import StepMetrics


@dataclasses.dataclass(frozen=True)
class Saving:
    """Where and how often a run saves, in addition to after each epoch.

    Args:
        directory: the folder of the run's checkpoints, and of no other's.
        steps: saves after every so many steps as well.
        minutes: saves as well when so many have gone by.
        keep: how many of the newest checkpoints to keep; that of the best epoch stays too.
        same_bits: refuses to continue a run where it may not end with the bits that it would have
            had: on another processor, with another number of cores or devices, other versions, or
            other native kernels. Otherwise a warning says so; of devices it does not, as those are
            chosen.
        metric: by which an epoch is the best, see ``EpochRecord``; of equally good ones it is the
            last. None for the metric of ``EarlyStopping``, or else the test loss.

    Raises:
        InputError: if the folder is no path, a number is not positive, ``same_bits`` is no truth
            value, or there is no such metric.
    """

    directory: Path | str
    steps: int | None = None
    minutes: float | None = None
    keep: int = 3
    same_bits: bool = False
    metric: Metric | None = None

    def __post_init__(self) -> None:
        """Checks the folder and the numbers."""
        check_path("directory", self.directory, "a folder")
        check_bool("same_bits", self.same_bits)
        if self.steps is not None:
            check_positive("steps", self.steps)
        if self.minutes is not None:
            check_number("minutes", self.minutes, above=0)
        check_positive("keep", self.keep)
        if self.metric is not None:
            check_metric(self.metric)


@dataclasses.dataclass(repr=False)
class Journal:
    """How far a run is, and what it has measured so far.

    Attributes:
        state: the training state.
        losses: of every step so far.
        measured: metrics by name of the steps of the epoch under way, [steps, …] in each piece.
        skipped: those of its steps, counted from 0, whose update was left out.
        seconds: of training in the epoch under way.
        history: the epochs that are done.
        stopped: why the run is to end with the epoch under way; None if it is not, or if that can
            be told from the history.
    """

    state: TrainState
    losses: list[np.ndarray] = dataclasses.field(default_factory=list)
    measured: list[Measured] = dataclasses.field(default_factory=list)
    skipped: list[int] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    history: list[EpochRecord] = dataclasses.field(default_factory=list)
    stopped: str | None = None

    @property
    def step(self) -> int:
        """Steps done."""
        return sum(map(len, self.losses))

    @property
    def step_in_epoch(self) -> int:
        """Steps done of the epoch under way."""
        return sum(len(jax.tree.leaves(piece)[0]) for piece in self.measured)

    def add(self, state: TrainState, found: StepMetrics, seconds: float) -> None:
        """Some steps are done.

        Raises:
            InputError: if one has more correct predictions than predictions.
        """
        check_counted(found.metrics)
        self.state = state
        if found.skipped is not None:
            self.skipped += (self.step_in_epoch + np.flatnonzero(found.skipped)).tolist()
        self.losses.append(np.asarray(found.loss))
        self.measured.append(found.metrics)
        self.seconds += seconds

    @property
    def epoch_measured(self) -> Measured:
        """The metrics of the steps of the epoch under way, [steps, …]."""
        return jax.tree.map(lambda *parts: np.concatenate(parts), *self.measured)

    def epoch_metrics(self) -> dict[str, Any] | None:
        """Metrics by name over the epoch under way; None if every step was left out."""
        steps = self.step_in_epoch
        taken = np.isin(np.arange(steps), self.skipped, invert=True)
        if not taken.any():
            return None
        return over_batches(jax.tree.map(lambda x: x[taken], self.epoch_measured))

    def end_epoch(self, record: EpochRecord) -> None:
        """An epoch is done and evaluated."""
        self.history.append(record)
        self.measured, self.skipped, self.seconds = [], [], 0.0


class Best:
    """The state after a run's best epoch, held in memory.

    Args:
        metric: by which an epoch is the best.
        journal: how far the run is.
        saving: where the best epoch is saved, if the run has gone past it.
        shapes: of what a step measures.

    Attributes:
        epoch: its number, from 1; 0 before the first one is done.
        state: the state after it.

    Raises:
        InputError: if the run has gone past its best epoch, and the weights were not kept.
    """

    def __init__(
        self, metric: Metric, journal: Journal, saving: Saving | None, shapes: StepMetrics
    ) -> None:
        self.metric, self.epoch = metric, 0
        if not journal.history:
            return
        best, done = best_epoch(journal.history, metric), len(journal.history)
        if best == done and not journal.step_in_epoch:
            self.see(journal)
            return
        assert saving is not None  # the history comes from there
        step = (journal.step - journal.step_in_epoch) // done * best
        self.epoch = best
        self.state = _saved_state(saving, step, best, Journal(journal.state), shapes)

    def see(self, journal: Journal) -> None:
        """An epoch is done: holds it if it is the best so far."""
        if best_epoch(journal.history, self.metric) == len(journal.history):
            self.epoch = len(journal.history)
            self.state = jax.tree.map(jnp.copy, journal.state)  # the next step takes its memory


def _saved_state(
    saving: Saving, step: int, epoch: int, like: Journal, shapes: StepMetrics
) -> TrainState:
    found = fault = None
    try:
        found = read(saving.directory, step)
    except InputError as error:
        fault = error.got
    if found is None:
        expected = f"False, or the weights of epoch {epoch}, the best so far"
        got = fault or f"no step-{step} in {saving.directory}"
        raise InputError("restore_best", expected, got)
    return _journal(found, like.state, shapes).state


class Keeper:
    """Saves a run's journal when it is time to, and when somebody asks the run to stop.

    Args:
        checkpoints: where; None saves nothing.
        saving: how often.
        about: what is trained on what, see ``fingerprint``.
        devices: how many share a batch.
        interrupts: who tells of a request to stop.
        metric: by which an epoch is the best.
    """

    def __init__(
        self,
        checkpoints: Checkpoints | None,
        saving: Saving | None,
        about: dict[str, Any],
        devices: int,
        interrupts: Interrupts | Heard,
        metric: Metric,
    ) -> None:
        self._checkpoints, self._saving = checkpoints, saving
        self._about, self._devices = about, devices
        self._interrupts, self._metric = interrupts, metric
        self._saved_at = time.monotonic()

    def stops(self, journal: Journal, steps: int) -> range:
        """After which steps of an epoch a program has to end, so that it can be saved in time.

        Args:
            journal: how far the run is.
            steps: of an epoch.
        """
        every = None if self._saving is None else self._saving.steps
        if every is None:
            return range(0)
        return range(-len(journal.history) * steps % every, steps, every)

    def after_steps(self, journal: Journal) -> None:
        """Some steps are done, and more of the epoch follow.

        Raises:
            Interrupted: if a request to stop has come; all is saved then.
        KeyboardInterrupt: likewise, if nothing is to be saved.
        """
        asked, due = self._agreed(journal.step)
        if asked is not None or due:
            self._save(journal, score=None)
            self._stop_if_asked(asked, journal)

    def after_epoch(self, journal: Journal) -> None:
        """An epoch is done.

        Raises:
            Interrupted: if a request to stop has come; all is saved then.
        KeyboardInterrupt: likewise, if nothing is to be saved.
        """
        asked, _ = self._agreed(journal.step)
        if asked is None:  # the run ends here; resuming it trains further
            journal.stopped = None
        if self._checkpoints is not None:
            self._save(journal, goodness(journal.history[-1], self._metric))
        self._stop_if_asked(asked, journal)

    def _agreed(self, step: int) -> tuple[int | None, bool]:
        """The request to stop, if one has come to any process, and whether it is time to save."""
        if self._saving is None:
            if self._interrupts.signal is not None:  # and whoever was interrupted took no notice
                raise KeyboardInterrupt
            return None, False
        own = np.array([self._interrupts.signal or 0, self._due(step)])
        asked, due = gathered(own).max(axis=0)
        return int(asked) or None, bool(due)

    def _due(self, step: int) -> bool:
        assert self._saving is not None
        if self._saving.steps is not None and step % self._saving.steps == 0:
            return True
        minutes = self._saving.minutes
        return minutes is not None and time.monotonic() - self._saved_at >= 60 * minutes

    def _save(self, journal: Journal, score: float | None) -> None:
        if self._checkpoints is None:
            return
        record = {
            "about": self._about,
            "machine": machine(self._devices),
            "step_in_epoch": journal.step_in_epoch,
            "measured": sorted(journal.measured[0]) if journal.measured else [],
            "skipped": journal.skipped,
            "seconds": journal.seconds,
            "history": [epoch.row() for epoch in journal.history],
            "stopped": journal.stopped,
        }
        metric = None if score is None else self._metric
        step, tree = journal.step, _tree(journal)
        self._checkpoints.save(tree, record, step=step, score=score, metric=metric)
        self._saved_at = time.monotonic()

    def _stop_if_asked(self, signum: int | None, journal: Journal) -> None:
        if signum is not None and self._checkpoints is not None:
            self._checkpoints.wait()
            raise Interrupted(signum, self._checkpoints.directory, journal.step)


@contextmanager
def keeper(
    saving: Saving | None, about: dict[str, Any], devices: int, since: int, metric: Metric
) -> Iterator[Keeper]:
    """What saves a run while it trains, from a step on; signals to stop are heard as long."""
    if saving is None:
        with Heard() as heard:
            yield Keeper(None, None, about, devices, heard, metric)
        return
    held = Checkpoints(saving.directory, keep=saving.keep, since=since)
    with held as checkpoints, Interrupts() as interrupts:
        yield Keeper(checkpoints, saving, about, devices, interrupts, metric)


def begin(
    saving: Saving | None,
    resume: bool,
    about: dict[str, Any],
    devices: int,
    state: TrainState,
    shapes: StepMetrics,
) -> Journal:
    """The journal with which a run begins: a new one, or that of a run which was saved.

    Args:
        saving: where runs are saved.
        resume: whether to continue what is saved there.
        about: what is to be trained on what; see ``fingerprint``.
        devices: how many share a batch.
        state: in which training begins; what is read goes where its arrays are.
        shapes: of what a step measures.

    Raises:
        InputError: if something else was trained there, item by item; or if something is saved and
            the run is to be a new one; or if the bits may be others, and are to be the same.
    """
    if saving is None:
        return Journal(state)
    journals: list[Journal] = []

    def fault(saved: Saved) -> str | None:
        if wrong := unusable(saved):
            return wrong
        if resume and not differences(saved.record["about"], about):
            try:
                journals.append(_journal(saved, state, shapes))
            except (OSError, InputError) as error:
                return reason(error)
        return None

    saved = read(saving.directory, fault=fault)
    check_same("save", "a folder that every process sees", None if saved is None else saved.step)
    if saved is None:
        return Journal(state)
    if not resume:
        got = f"{saving.directory}, in which one is saved: resume=True continues it"
        raise InputError("save", "a folder without a run's checkpoints", got)
    faults = differences(saved.record["about"], about)
    if faults:
        expected = f"the run saved in {saving.directory}"
        raise InputError("resume", expected, f"another: {'; '.join(faults)}", whole=True)
    _compare_bits(saving, saved, about, devices)
    return journals[0]


def unusable(saved: Saved) -> str | None:
    """Why no run can continue from what was saved beside a state, in words; None if one can."""
    try:
        _check_record(saved.record, saved.step)
    except WRONG as error:
        return f"its record: {reason(error)}"
    return None


def _check_record(record: dict[str, Any], step: int) -> None:
    """Checks that what was saved beside a state is what ``Keeper`` saves."""
    in_epoch = check_integer("step_in_epoch", record["step_in_epoch"], least=0, most=step)
    for number in record.get("skipped", []):
        check_integer("skipped", number, least=0, most=in_epoch)
    check_number("seconds", record["seconds"], least=0)
    described = {"about": record["about"], "machine": record.get("machine", {})}
    for name, part in (("about", "versions"), ("machine", "kernels")):
        value = described[name]
        if not isinstance(value, dict) or not isinstance(value.get(part, {}), dict):
            raise InputError(name, f"a description with {part}", type(value).__name__)
    if not isinstance(record.get("stopped"), str | None):
        raise InputError("stopped", "a reason or null", type(record["stopped"]).__name__)
    if not isinstance(record["history"], list):
        raise InputError("history", "a list of epochs", type(record["history"]).__name__)
    for place, epoch in enumerate(record["history"], start=1):
        EpochRecord.of_row(epoch, place)


def _compare_bits(saving: Saving, saved: Saved, about: dict[str, Any], devices: int) -> None:
    """Says where a run may not end with the bits that it would have had, or refuses."""
    before = {"versions": saved.record["about"].get("versions", {})}
    before |= saved.record.get("machine", {})  # of a run saved before there was one
    now = {"versions": about["versions"], **machine(devices, before.get("kernels", ()))}
    if not saving.same_bits:
        before.pop("devices", None)  # which are chosen, and another number is told elsewhere
    changed = of_first("; ".join(other_bits(before, now))[:1000])
    if changed and saving.same_bits:
        expected = f"what the run in {saving.directory} was saved with, for the same bits"
        raise InputError("resume", expected, changed)
    if changed and jax.process_index() == 0:
        text = f"the run may end with other bits than without a pause: {changed}"
        warnings.warn(text, UserWarning, stacklevel=4)


def _tree(journal: Journal) -> dict[str, Any]:
    none = np.zeros(0, jnp.zeros(0, float).dtype)
    measured = journal.epoch_measured if journal.measured else {}
    losses = np.concatenate([none, *journal.losses])
    return {"state": journal.state, "losses": losses, "measured": measured}


def _journal(saved: Saved, state: TrainState, shapes: StepMetrics) -> Journal:
    begun = saved.record["step_in_epoch"]
    like = _tree(Journal(state))
    like["losses"] = np.resize(like["losses"], saved.step)
    if "measured" not in saved.record:
        _as_of_old(saved.record, like)
    elif begun:
        like["measured"] = jax.tree.map(
            lambda x: np.zeros((begun, *x.shape), x.dtype), shapes.metrics
        )
    tree = saved.restore(like)
    history = enumerate(saved.record["history"], start=1)
    return Journal(
        state=tree["state"],
        losses=[tree["losses"]],
        measured=[tree["measured"]] if begun else [],
        skipped=saved.record.get("skipped", []),  # of a run saved before there were any
        seconds=saved.record["seconds"],
        history=[EpochRecord.of_row(row, place) for place, row in history],
        stopped=saved.record.get("stopped"),
    )


def _as_of_old(record: dict[str, Any], like: dict[str, Any]) -> None:
    """Has a tree look like those of older versions, which counted correct predictions alone.

    Raises:
        InputError: if the checkpoint was saved within an epoch, of which these say too little.
    """
    if record["step_in_epoch"]:
        expected = "0, as an older version saved it (the end of an epoch can be gone on from)"
        raise InputError("step_in_epoch", expected, record["step_in_epoch"])
    del like["measured"]
    names = ("correct", "totals") if "counted" in record else ("correct",)
    like |= {name: np.zeros(0, np.int32) for name in names}
