"""Callbacks that write a run's progress: as JSON lines, TensorBoard events, or a profile."""

import json
import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets.arrays import InputError, check_bool, check_integer, check_path, check_positive
from jaxnets.data.survey import is_image
from jaxnets.disk import replacing
from jaxnets.optional import require
from jaxnets.training.callbacks import Callback, RunSoFar
from jaxnets.training.records import EpochRecord

_EVENTS = "events.out.tfevents.*"


class _Log(Callback):
    """Base class of callbacks that write the steps and epochs since their last call.

    Only the first process writes.
    """

    def __init__(self, path: Path | str, every: int | None) -> None:
        self._path = check_path("path", path)
        self._every = None if every is None else check_positive("every", every)
        self._step, self._epochs = 0, 0

    def steps(self, step: int, losses: np.ndarray) -> None:
        """Writes the losses of every ``every`` steps."""
        self._update()

    def __call__(self, record: EpochRecord) -> None:
        """Writes the epoch."""
        self._update()

    def _update(self) -> None:
        if _is_first_process():
            self._write(self._new())

    def _write(self, rows: list[dict[str, Any]]) -> None:
        raise NotImplementedError

    def _new(self) -> list[dict[str, Any]]:
        """Returns rows for the steps and epochs since the last call, in the order they ended."""
        run, rows = self.run, []
        if self._every is not None:
            losses, first = run.losses, self._step + self._every - self._step % self._every
            for step in range(first, run.step + 1, self._every):
                epoch = 1 + (step - 1) // run.steps_per_epoch
                rows.append({"step": step, "epoch": epoch, "loss": float(losses[step - 1])})
        for record in run.history[self._epochs :]:
            step = record.epoch * run.steps_per_epoch
            rows.append({"step": step, **record.row()})
        self._step, self._epochs = run.step, len(run.history)
        return sorted(rows, key=lambda row: row["step"])  # stable: an epoch follows its last step


class JsonLines(_Log):
    """Writes a line of JSON for each epoch, and for every ``every`` steps.

    The line of an epoch has the values of its ``EpochRecord`` and the number of its last step; the
    line of a step has ``step``, ``epoch`` and ``loss``. A number that is not finite is written as
    null. If a run resumes from a checkpoint, the file is rewritten from the checkpoint's history,
    so that no line is duplicated or missing even if the run was killed.

    Args:
        path: the file.
        every: number of steps between the lines of steps; None for lines of epochs only.

    Raises:
        InputError: if ``every`` is not positive. ``fit`` raises it if the file is not empty and the
            run does not resume, or the file has other content.
        OSError: by ``fit``, if the file cannot be written.
    """

    def __init__(self, path: Path | str, *, every: int | None = None) -> None:
        super().__init__(path, every)

    def begin(self, run: RunSoFar) -> None:
        """Writes the history of a resumed run."""
        super().begin(run)
        self._step, self._epochs = 0, 0
        if not _is_first_process():
            return
        self._check()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Rewritten, because a killed run may have written lines after its last checkpoint.
        with replacing(self._path) as partial:
            partial.write_text(_lines(self._new()), encoding="utf-8")

    def _write(self, rows: list[dict[str, Any]]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_lines(rows))

    def _check(self) -> None:
        """Checks that the file may be replaced: it is empty, or the log of the resumed run."""
        if not self._path.exists() or (self._path.is_file() and not self._path.stat().st_size):
            return
        if not self.run.resumed or not _is_log(self._path):
            kind = "lines of the resumed run" if self.run.resumed else "a new or empty file"
            raise InputError("path", kind, f"{str(self._path)!r}, which has other content")


class TensorBoard(_Log):
    """Writes TensorBoard event files; requires ``tensorboardX``, not TensorFlow.

    The scalars are every metric of each epoch, such as ``loss/train`` and ``loss/test``, and the
    loss of every ``every`` steps as ``loss/step``; the x-axis is the number of the step. If a run
    resumes from a checkpoint, events after the checkpoint are purged.

    Args:
        directory: the folder of this run's event files. TensorBoard can show a folder of several
            such folders.
        every: number of steps between values of ``loss/step``; None for none.
        histograms: whether to write a histogram of each parameter after each epoch.
        images: number of training examples to show, if they are uint8 images.

    Raises:
        InputError: if an argument is invalid. ``fit`` raises it if the folder has events and the
            run does not resume, or ``images`` is positive and the data are not uint8 images.
        ImportError: by ``fit``, if tensorboardX is not installed.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        every: int | None = 100,
        histograms: bool = True,
        images: int = 0,
    ) -> None:
        super().__init__(directory, every)
        self._histograms = check_bool("histograms", histograms)
        self._images = check_integer("images", images, least=0)
        self._writer: Any = None

    def begin(self, run: RunSoFar) -> None:
        """Opens a new event file."""
        super().begin(run)
        if not _is_first_process():
            return
        if self._images and not is_image(run.data.spec.inputs):
            raise InputError("images", "0 for data that are not uint8 images", self._images)
        there = len(list(self._path.glob(_EVENTS)))
        if there and not run.resumed:
            got = f"{str(self._path)!r}, which has events of another run"
            raise InputError("directory", "a folder without events", got)
        self._step, self._epochs = (run.step, len(run.history)) if there else (0, 0)
        package = require("tensorboardX", extra="tensorboard", feature="TensorBoard")
        self._writer = package.SummaryWriter(
            str(self._path),
            purge_step=run.step + 1 if there else None,
            filename_suffix=f".{there:03d}",  # names contain only the second of their creation
        )
        if self._images and not there:
            pixels = run.data.train.gather(np.arange(min(self._images, len(run.data.train))))[0]
            self._writer.add_images("examples/train", pixels, 0, dataformats="NHWC")
        self._update()

    def __call__(self, record: EpochRecord) -> None:
        """Writes the epoch, and histograms of the parameters."""
        if self._histograms and _is_first_process():
            for name, values in self.run.parameters.items():
                if np.isfinite(values).all():  # a histogram needs finite bounds
                    self._writer.add_histogram(
                        f"parameters/{name}", values.astype(np.float32), self.run.step
                    )
        super().__call__(record)

    def end(self) -> None:
        """Closes the event file."""
        if self._writer is not None:
            self._writer.close()

    def _write(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            for key, value in row.items():
                if value is not None and not isinstance(value, list) and (tag := _tag(key)):
                    self._writer.add_scalar(tag, value, row["step"])
        self._writer.flush()


def _tag(name: str) -> str | None:
    """Returns the tag of a value in a row, such as ``loss/train``; None if it is not a metric."""
    part, _, metric = name.partition("_")
    if part in ("train", "test"):
        return f"{metric}/{part}"
    return {"loss": "loss/step", "skipped": "skipped"}.get(name)


class Profile(Callback):
    """Profiles some steps after compilation, for TensorBoard's profiler and for Perfetto.

    It writes ``plugins/profile/…``, which includes ``perfetto_trace.json.gz``. The profile covers
    the second call of a compiled program: part of the first epoch on a CPU, the second epoch on an
    accelerator.

    Args:
        directory: the folder to write to.

    Raises:
        InputError: if ``directory`` is not a path.
    """

    def __init__(self, directory: Path | str) -> None:
        self._directory = check_path("directory", directory, "a folder")
        self._tracing, self._done = False, False

    def begin(self, run: RunSoFar) -> None:
        """Resets the callback for a new run."""
        super().begin(run)
        self._tracing, self._done = False, False

    def steps(self, step: int, losses: np.ndarray) -> None:
        """Stops the profile, or starts it if the program runs again in this epoch."""
        if self._tracing:
            self._stop()
        elif len(losses) <= -step % self.run.steps_per_epoch:
            self._start()

    def __call__(self, record: EpochRecord) -> None:
        """Starts the profile if it has not been taken yet."""
        if not self._tracing and record.epoch < self.run.epochs:
            self._start()

    def end(self) -> None:
        """Stops the profile; warns if none was taken."""
        if self._tracing:
            self._stop()
        if not self._done and _is_first_process():
            text = f"no profile in {self._directory}: no steps were left after compilation"
            warnings.warn(text, UserWarning, stacklevel=2)

    def _start(self) -> None:
        if not self._done and _is_first_process():
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # events of Python calls would hide the others
            jax.profiler.start_trace(
                str(self._directory), create_perfetto_trace=True, profiler_options=options
            )
            self._tracing = True

    def _stop(self) -> None:
        jax.profiler.stop_trace()
        self._tracing, self._done = False, True


def _is_first_process() -> bool:
    return jax.process_index() == 0


def _lines(rows: Iterable[dict[str, Any]]) -> str:
    """Formats rows as lines of JSON, with null for numbers that are not finite."""
    return "".join(
        json.dumps({key: _finite(value) for key, value in row.items()}) + "\n" for row in rows
    )


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_log(path: Path) -> bool:
    """Whether a file begins like a line that ``JsonLines`` writes."""
    begin = b'{"step": '  # only the beginning, because a killed run may leave an unfinished line
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(begin)) == begin
