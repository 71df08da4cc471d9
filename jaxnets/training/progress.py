"""The display of training progress: a bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Literal, Protocol, get_args

from jaxnets.arrays import InputError, printable
from jaxnets.training.records import EpochRecord, in_words

Progress = Literal["auto", "bar", "lines", "none"]


#: Seconds of compilation after which a message appears.
PATIENCE = 5.0
_COMPILING = "compiling (once)"
_NO_LOSS = "loss –"


class Reporter(Protocol):
    """The protocol of progress displays."""

    def compiling(self) -> contextlib.AbstractContextManager[None]:
        """Returns a context within which a program is compiled."""

    def advance(self, steps: int, loss: float) -> None:
        """Shows that some steps are done, and the loss of the last one."""

    def epoch(self, record: EpochRecord) -> None:
        """Shows the record of an epoch after its evaluation."""

    def say(self, text: str) -> None:
        """Shows a message."""


class Silence:
    """A reporter that shows nothing."""

    def compiling(self) -> contextlib.AbstractContextManager[None]:
        """Does nothing."""
        return contextlib.nullcontext()

    def advance(self, steps: int, loss: float) -> None:
        """Does nothing."""

    def epoch(self, record: EpochRecord) -> None:
        """Does nothing."""

    def say(self, text: str) -> None:
        """Does nothing."""


class Lines(Silence):
    """A reporter that prints one line per epoch; the message on compilation goes to stderr."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._printed = False

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Prints a message the first time that compilation takes more than ``PATIENCE`` s."""
        timer = threading.Timer(PATIENCE, self._say_compiling)
        timer.daemon = True  # does not keep the process alive after an error
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _say_compiling(self) -> None:
        if not self._printed:
            self._printed = True
            print(_COMPILING, file=sys.stderr, flush=True)

    def epoch(self, record: EpochRecord) -> None:
        """Prints the epoch's line."""
        print(describe(record, self._epochs), flush=True)

    def say(self, text: str) -> None:
        """Prints the message."""
        print(printable(text, limit=None, lines=True), flush=True)


class Bar:
    """A reporter with a bar for the current epoch, and a line above it for each completed one."""

    def __init__(self, epochs: int, steps: int) -> None:
        from rich import progress, table, text

        class Remaining(progress.TimeRemainingColumn):
            def render(self, task: progress.Task) -> text.Text:
                """Returns the remaining time; nothing while compiling, to fit narrow terminals."""
                unknown = task.fields["now"] == _COMPILING
                return text.Text() if unknown else super().render(task)

        self._epochs = epochs
        # On a narrow terminal the bar becomes shorter, and this column is not cut off.
        whole = table.Column(no_wrap=True, min_width=2 * len(str(steps)) + 1)
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(table_column=whole),
            progress.TextColumn("{task.fields[now]}"),
            Remaining(),
            transient=True,
        )
        self._now = _NO_LOSS
        self._task = self._bar.add_task(f"epoch 1/{epochs}", total=steps, now=self._now)

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def advance(self, steps: int, loss: float) -> None:
        """Advances the bar and shows the loss."""
        self._now = f"loss {loss:.4f}"
        self._bar.update(self._task, advance=steps, now=self._now)

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Shows a message in place of the loss."""
        self._bar.update(self._task, now=_COMPILING, refresh=True)
        try:
            yield
        finally:
            self._bar.update(self._task, now=self._now, refresh=True)

    def epoch(self, record: EpochRecord) -> None:
        """Prints the epoch's line and begins the next bar."""
        self._bar.console.print(describe(record, self._epochs), highlight=False, soft_wrap=True)
        if record.epoch < self._epochs:
            description = f"epoch {record.epoch + 1}/{self._epochs}"
            self._now = _NO_LOSS
            self._bar.reset(self._task, description=description, now=self._now)

    def say(self, text: str) -> None:
        """Prints the message above the bar."""
        text = printable(text, limit=None, lines=True)
        self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)


def describe(record: EpochRecord, epochs: int) -> str:
    """Formats the record of an epoch as one line."""
    parts = [f"epoch {record.epoch}/{epochs}", in_words(record.train, "train ")]
    if record.test:
        parts.append(in_words(record.test, "test "))
    parts.append(f"{record.seconds:.1f} s")
    if record.skipped:
        parts.append(f"{record.skipped} steps skipped")
    return "  ".join(parts)


@contextlib.contextmanager
def reporter(progress: Progress, *, epochs: int, steps: int) -> Iterator[Reporter]:
    """Yields a reporter.

    Args:
        progress: ``"bar"``, ``"lines"``, ``"none"``, or ``"auto"``: a bar if standard output is a
            terminal, otherwise lines.
        epochs: number of epochs.
        steps: number of steps in each epoch.

    Raises:
        InputError: if ``progress`` is not one of these.
    """
    if progress not in get_args(Progress):
        raise InputError("progress", f"one of {', '.join(get_args(Progress))}", progress)
    if progress == "auto":
        progress = "bar" if sys.stdout.isatty() else "lines"
    if progress == "bar":
        with Bar(epochs, steps) as bar:
            yield bar
    else:
        yield Lines(epochs) if progress == "lines" else Silence()
