"""Checkpoints during training: when a run saves, what it saves, and how it resumes."""

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
        directory: the folder of the run's checkpoints; each run needs its own.
        steps: number of steps between checkpoints within an epoch; None for none.
        minutes: minutes between checkpoints within an epoch; None for none.
        keep: number of newest checkpoints to keep; the best epoch's checkpoint is kept as well.
        same_bits: whether to raise if a resumed run might not reproduce an uninterrupted one bit
            for bit: on another processor, with another number of cores or devices, other versions,
            or other native kernels. If False, a warning names the differences, except for the
            number of devices, which is an argument.
        metric: the metric that selects the best epoch, see ``EpochRecord``; the last epoch if
            several are equal. None for the metric of ``EarlyStopping``, or else the test loss.

    Raises:
        InputError: if ``directory`` is not a path, a number is not positive, ``same_bits`` is not
            a bool, or ``metric`` is not the name of a metric.
    """

    directory: Path | str
    steps: int | None = None
    minutes: float | None = None
    keep: int = 3
    same_bits: bool = False
    metric: Metric | None = None

    def __post_init__(self) -> None:
        """Checks the arguments."""
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
    """The progress of a run: its state and everything measured so far.

    Attributes:
        state: the training state.
        losses: the loss of every step so far, in pieces [steps].
        measured: metrics by name of the steps of the current epoch, [steps, …] in each piece.
        skipped: the skipped steps of the current epoch, counted from 0.
        seconds: training time in the current epoch.
        history: the records of the completed epochs.
        stopped: why the run is to end with the current epoch; None if it is not, or if the
            callbacks decide so again from the history.
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
        """Number of completed steps."""
        return sum(map(len, self.losses))

    @property
    def step_in_epoch(self) -> int:
        """Number of completed steps in the current epoch."""
        return sum(len(jax.tree.leaves(piece)[0]) for piece in self.measured)

    def add(self, state: TrainState, found: StepMetrics, seconds: float) -> None:
        """Adds the results of some steps.

        Raises:
            InputError: if a step counted more correct predictions than predictions.
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
        """The metrics of the steps of the current epoch, [steps, …]."""
        return jax.tree.map(lambda *parts: np.concatenate(parts), *self.measured)

    def epoch_metrics(self) -> dict[str, Any] | None:
        """Returns the metrics of the current epoch by name; None if every step was skipped."""
        steps = self.step_in_epoch
        taken = np.isin(np.arange(steps), self.skipped, invert=True)
        if not taken.any():
            return None
        return over_batches(jax.tree.map(lambda x: x[taken], self.epoch_measured))

    def end_epoch(self, record: EpochRecord) -> None:
        """Adds the record of an epoch, after its evaluation."""
        self.history.append(record)
        self.measured, self.skipped, self.seconds = [], [], 0.0


class Best:
    """Keeps a copy of the state after a run's best epoch in memory.

    Args:
        metric: the metric that selects the best epoch.
        journal: the progress of the run.
        saving: how the run saves; a resumed run reads its best epoch's checkpoint from there.
        shapes: the shapes of a step's metrics.

    Attributes:
        epoch: number of the best epoch, from 1; 0 before the first one.
        state: the state after the best epoch.

    Raises:
        InputError: if the run resumed after its best epoch, and that epoch's checkpoint was not
            kept.
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
        assert saving is not None  # only a resumed run has a history
        # All epochs have the same number of steps, so this is the last step of epoch ``best``.
        step = (journal.step - journal.step_in_epoch) // done * best
        self.epoch = best
        self.state = _saved_state(saving, step, best, Journal(journal.state), shapes)

    def see(self, journal: Journal) -> None:
        """Copies the state after an epoch, if the epoch is the best so far."""
        if best_epoch(journal.history, self.metric) == len(journal.history):
            self.epoch = len(journal.history)
            # Copied, because the next step donates the buffers of the state.
            self.state = jax.tree.map(jnp.copy, journal.state)


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
    """Saves a run's journal when a checkpoint is due, and when a signal requests a stop.

    Args:
        checkpoints: the folder of checkpoints; None saves nothing.
        saving: how often to save.
        about: the run's ``fingerprint``.
        devices: number of devices that share a batch.
        interrupts: records requests to stop.
        metric: the metric that selects the best epoch.
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
        """Returns the steps of an epoch at which the compiled program must stop for a checkpoint.

        Args:
            journal: the progress of the run.
            steps: number of steps in an epoch.
        """
        every = None if self._saving is None else self._saving.steps
        if every is None:
            return range(0)
        # Checkpoints are due at multiples of ``every`` over all epochs; this is the first one in
        # the current epoch.
        return range(-len(journal.history) * steps % every, steps, every)

    def after_steps(self, journal: Journal) -> None:
        """Saves after some steps within an epoch, if a checkpoint is due.

        Raises:
            Interrupted: if a stop was requested; the run is saved first.
            KeyboardInterrupt: if a stop was requested and the run does not save.
        """
        signum, due = self._agreed(journal.step)
        if signum is not None or due:
            self._save(journal, score=None)
            self._stop_if_requested(signum, journal)

    def after_epoch(self, journal: Journal) -> None:
        """Saves after an epoch.

        Raises:
            Interrupted: if a stop was requested; the run is saved first.
            KeyboardInterrupt: if a stop was requested and the run does not save.
        """
        signum, _ = self._agreed(journal.step)
        if signum is None:  # a stopped run ends here, and continues if it is resumed
            journal.stopped = None
        if self._checkpoints is not None:
            self._save(journal, goodness(journal.history[-1], self._metric))
        self._stop_if_requested(signum, journal)

    def _agreed(self, step: int) -> tuple[int | None, bool]:
        """Returns the signal that any process received, or None, and whether a save is due."""
        if self._saving is None:
            if self._interrupts.signal is not None:  # its KeyboardInterrupt was swallowed
                raise KeyboardInterrupt
            return None, False
        # All processes must save at the same step, although clocks differ and a signal may reach
        # only one of them.
        own = np.array([self._interrupts.signal or 0, self._due(step)])
        signum, due = gathered(own).max(axis=0)
        return int(signum) or None, bool(due)

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

    def _stop_if_requested(self, signum: int | None, journal: Journal) -> None:
        if signum is not None and self._checkpoints is not None:
            self._checkpoints.wait()
            raise Interrupted(signum, self._checkpoints.directory, journal.step)


@contextmanager
def keeper(
    saving: Saving | None, about: dict[str, Any], devices: int, since: int, metric: Metric
) -> Iterator[Keeper]:
    """Yields the ``Keeper`` of a run that begins after step ``since``, and handles signals."""
    if saving is None:
        with Heard() as heard:
            yield Keeper(None, None, about, devices, heard, metric)
        return
    folder = Checkpoints(saving.directory, keep=saving.keep, since=since)
    with folder as checkpoints, Interrupts() as interrupts:
        yield Keeper(checkpoints, saving, about, devices, interrupts, metric)


def begin(
    saving: Saving | None,
    resume: bool,
    about: dict[str, Any],
    devices: int,
    state: TrainState,
    shapes: StepMetrics,
) -> Journal:
    """Returns a new journal, or the journal of the saved run that is to be resumed.

    Args:
        saving: how and where the run saves.
        resume: whether to resume the saved run.
        about: the run's ``fingerprint``.
        devices: number of devices that share a batch.
        state: the initial state; saved arrays are placed on the devices of its arrays.
        shapes: the shapes of a step's metrics.

    Raises:
        InputError: if the saved run differs from this one (the message names the differences), if
            there is a saved run and ``resume`` is False, or if ``same_bits`` is set and the result
            may differ.
    """
    if saving is None:
        return Journal(state)
    journals: list[Journal] = []

    # ``read`` calls this for each checkpoint until one is usable. A checkpoint whose arrays cannot
    # be restored counts as damaged, so it is restored here. One of another run does not, because
    # that must be reported instead of searching for an older one.
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
    # Processes on different file systems would find different checkpoints.
    check_same("save", "a folder shared by all processes", None if saved is None else saved.step)
    if saved is None:
        return Journal(state)
    if not resume:
        got = f"{saving.directory}, which has some; resume=True continues that run"
        raise InputError("save", "a folder without a run's checkpoints", got)
    faults = differences(saved.record["about"], about)
    if faults:
        expected = f"the run saved in {saving.directory}"
        raise InputError("resume", expected, f"another: {'; '.join(faults)}", whole=True)
    _compare_bits(saving, saved, about, devices)
    return journals[0]


def unusable(saved: Saved) -> str | None:
    """Returns why the record of a checkpoint cannot be resumed from; None if it can."""
    try:
        _check_record(saved.record, saved.step)
    except WRONG as error:
        return f"its record: {reason(error)}"
    return None


def _check_record(record: dict[str, Any], step: int) -> None:
    """Checks that the record of a checkpoint has the form that ``Keeper`` writes."""
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
    """Warns, or raises if ``same_bits`` is set, if the resumed run may differ in some bits."""
    before = {"versions": saved.record["about"].get("versions", {})}
    before |= saved.record.get("machine", {})  # older versions did not save it
    now = {"versions": about["versions"], **machine(devices, before.get("kernels", ()))}
    if not saving.same_bits:
        before.pop("devices", None)  # an argument of ``fit``, so the user has chosen it
    # Process 0 decides, so that either all processes raise or none.
    changed = of_first("; ".join(other_bits(before, now))[:1000])
    if changed and saving.same_bits:
        expected = f"the machine and versions of the run in {saving.directory}, for the same bits"
        raise InputError("resume", expected, changed)
    if changed and jax.process_index() == 0:
        text = f"the resumed run may differ in some bits from an uninterrupted one: {changed}"
        warnings.warn(text, UserWarning, stacklevel=4)


def _tree(journal: Journal) -> dict[str, Any]:
    none = np.zeros(0, jnp.zeros(0, float).dtype)  # float64 only with jax_enable_x64
    measured = journal.epoch_measured if journal.measured else {}
    losses = np.concatenate([none, *journal.losses])
    return {"state": journal.state, "losses": losses, "measured": measured}


def _journal(saved: Saved, state: TrainState, shapes: StepMetrics) -> Journal:
    begun = saved.record["step_in_epoch"]
    like = _tree(Journal(state))
    like["losses"] = np.resize(like["losses"], saved.step)
    if "measured" not in saved.record:
        _to_old_structure(saved.record, like)
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
        skipped=saved.record.get("skipped", []),  # older versions did not save it
        seconds=saved.record["seconds"],
        history=[EpochRecord.of_row(row, place) for place, row in history],
        stopped=saved.record.get("stopped"),
    )


def _to_old_structure(record: dict[str, Any], like: dict[str, Any]) -> None:
    """Changes a tree to the structure of older versions, which saved no metrics but ``correct``.

    Raises:
        InputError: if the checkpoint was saved within an epoch, whose metrics cannot be restored.
    """
    if record["step_in_epoch"]:
        expected = "0, as checkpoints of older versions can be resumed only between epochs"
        raise InputError("step_in_epoch", expected, record["step_in_epoch"])
    del like["measured"]
    names = ("correct", "totals") if "counted" in record else ("correct",)
    like |= {name: np.zeros(0, np.int32) for name in names}
