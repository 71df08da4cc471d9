"""What a run writes for others to watch: JSON lines, TensorBoard's events, a profile."""

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
    """Finds what a run has measured and this has not written yet; the first process writes."""

    def __init__(self, path: Path | str, every: int | None) -> None:
        self._path = check_path("path", path)
        self._every = None if every is None else check_positive("every", every)
        self._step, self._epochs = 0, 0

    def steps(self, step: int, losses: np.ndarray) -> None:
        """Writes the losses of every so many steps."""
        self._go_on()

    def __call__(self, record: EpochRecord) -> None:
        """Writes the epoch."""
        self._go_on()

    def _go_on(self) -> None:
        if _is_first_process():
            self._write(self._new())

    def _write(self, rows: list[dict[str, Any]]) -> None:
        raise NotImplementedError

    def _new(self) -> list[dict[str, Any]]:
        """Rows for the steps and epochs since the last call, in the order in which they ended."""
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
        return sorted(rows, key=lambda row: row["step"])  # a step before the epoch that it ends


class JsonLines(_Log):
    """Writes a line of JSON for each epoch, and for every ``every`` steps.

    An epoch's line has what its ``EpochRecord`` has, and the number of its last step; a step's has
    ``step``, ``epoch`` and ``loss``. A number that is not finite is null. Where a run continues
    from a checkpoint, the file is written anew from what the checkpoint knows: no line is there
    twice and none is missing, whenever the run was killed.

    Args:
        path: the file.
        every: how many steps from a line to the next; None for lines of epochs alone.

    Raises:
        InputError: if ``every`` is not positive; when the run begins, if the file has something in
            it and no run continues, or something other than such lines.
        OSError: when it writes, if it cannot.
    """

    def __init__(self, path: Path | str, *, every: int | None = None) -> None:
        super().__init__(path, every)

    def begin(self, run: RunSoFar) -> None:
        """Writes what has been measured before."""
        super().begin(run)
        self._step, self._epochs = 0, 0
        if not _is_first_process():
            return
        self._check()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._path) as partial:
            partial.write_text(_lines(self._new()), encoding="utf-8")

    def _write(self, rows: list[dict[str, Any]]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_lines(rows))

    def _check(self) -> None:
        """Refuses to write over what is not this run's."""
        if not self._path.exists() or (self._path.is_file() and not self._path.stat().st_size):
            return
        if not self.run.resumed or not _is_log(self._path):
            kind = "lines of the resumed run" if self.run.resumed else "a new or empty file"
            raise InputError("path", kind, f"{str(self._path)!r}, which has other content")


class TensorBoard(_Log):
    """Writes TensorBoard event files; needs ``tensorboardX``, and no TensorFlow.

    ``loss/train``, ``loss/test`` and likewise every other metric of each epoch, the ``loss/step``
    of every so many steps, all over the number of the step. Where a run continues from
    a checkpoint, TensorBoard is told to forget what came after it.

    Args:
        directory: the run's folder; TensorBoard takes the folder of several runs too.
        every: how many steps from a ``loss/step`` to the next; None for none.
        histograms: whether to write a histogram of each parameter after each epoch.
        images: how many of the first training examples to show, if they are images of bytes.

    Raises:
        InputError: if an argument is bad; when the run begins, if the folder has events in it and
            no run continues, or images are asked for of what is none.
        ImportError: when the run begins, if tensorboardX is not installed.
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
        """Opens the folder."""
        super().begin(run)
        if not _is_first_process():
            return
        if self._images and not is_image(run.data.spec.inputs):
            raise InputError("images", "0 for data that are no images of bytes", self._images)
        there = len(list(self._path.glob(_EVENTS)))
        if there and not run.resumed:
            got = f"{str(self._path)!r}, which has some of another run"
            raise InputError("directory", "a folder without events", got)
        self._step, self._epochs = (run.step, len(run.history)) if there else (0, 0)
        package = require("tensorboardX", extra="tensorboard", feature="TensorBoard")
        self._writer = package.SummaryWriter(
            str(self._path),
            purge_step=run.step + 1 if there else None,
            filename_suffix=f".{there:03d}",  # a file begun in the same second is another
        )
        if self._images and not there:
            pixels = run.data.train.gather(np.arange(min(self._images, len(run.data.train))))[0]
            self._writer.add_images("examples/train", pixels, 0, dataformats="NHWC")
        self._go_on()

    def __call__(self, record: EpochRecord) -> None:
        """Writes the epoch, and histograms of the parameters."""
        if self._histograms and _is_first_process():
            for name, values in self.run.parameters.items():
                if np.isfinite(values).all():  # of others there is none
                    self._writer.add_histogram(
                        f"parameters/{name}", values.astype(np.float32), self.run.step
                    )
        super().__call__(record)

    def end(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()

    def _write(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            for key, value in row.items():
                if value is not None and not isinstance(value, list) and (tag := _tag(key)):
                    self._writer.add_scalar(tag, value, row["step"])
        self._writer.flush()


def _tag(name: str) -> str | None:
    """The tag of a value in a row, such as ``loss/train``; None for what is no metric."""
    part, _, metric = name.partition("_")
    if part in ("train", "test"):
        return f"{metric}/{part}"
    return {"loss": "loss/step", "skipped": "skipped"}.get(name)


class Profile(Callback):
    """Traces some steps once they are compiled, for TensorBoard's profiler and for Perfetto.

    It writes ``plugins/profile/…`` with ``perfetto_trace.json.gz`` in it: the next steps that one
    compiled program takes; on an accelerator these are an epoch, from the second one on.

    Args:
        directory: a folder.
    """

    def __init__(self, directory: Path | str) -> None:
        self._directory = check_path("directory", directory, "a folder")
        self._tracing, self._done = False, False

    def begin(self, run: RunSoFar) -> None:
        """Begins anew."""
        super().begin(run)
        self._tracing, self._done = False, False

    def steps(self, step: int, losses: np.ndarray) -> None:
        """Ends the trace, or begins it where the program runs again in this epoch."""
        if self._tracing:
            self._stop()
        elif len(losses) <= -step % self.run.steps_per_epoch:
            self._start()

    def __call__(self, record: EpochRecord) -> None:
        """Begins the trace if there was none yet."""
        if not self._tracing and record.epoch < self.run.epochs:
            self._start()

    def end(self) -> None:
        """Ends the trace; warns if there was none."""
        if self._tracing:
            self._stop()
        if not self._done and _is_first_process():
            text = f"no profile in {self._directory}: no steps were left after compilation"
            warnings.warn(text, UserWarning, stacklevel=2)

    def _start(self) -> None:
        if not self._done and _is_first_process():
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0  # every call of Python's would hide the rest
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
    """Rows as lines of JSON, which has no word for what is not finite."""
    return "".join(
        json.dumps({key: _finite(value) for key, value in row.items()}) + "\n" for row in rows
    )


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_log(path: Path) -> bool:
    """Whether a file begins with a line of ours."""
    begin = b'{"step": '  # of a line that a killed run may have left unfinished
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(begin)) == begin
