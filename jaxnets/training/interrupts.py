"""Requests to stop: Ctrl-C, and the signal by which machines are taken back."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

_HEARD = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A run was interrupted by a signal, after it saved its state.

    Args:
        signum: the number of the signal that asked.
        directory: where it is saved.
        step: steps done.

    Attributes:
        signal: what asked.
        directory: where it is saved.
        step: steps done.
    """

    def __init__(self, signum: int, directory: Path, step: int) -> None:
        super().__init__(signum, directory, step)
        self.signal, self.directory, self.step = signal.Signals(signum), directory, step

    @property
    def exit_code(self) -> int:
        """What a program ends with by convention: 128 and the signal's number."""
        return 128 + self.signal

    def __str__(self) -> str:
        return f"stopped by {self.signal.name} after step {self.step}, saved in {self.directory}"


class Interrupts:
    """Catches one Ctrl-C or SIGTERM while it is entered; a second one ends the process immediately.

    In a thread other than the main one, where Python hears no signals, it does nothing.

    Attributes:
        signal: what was heard; None so far.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        """Begins to listen."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in _HEARD}
        return self

    def __exit__(self, *_: object) -> None:
        """Gives the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, signal.SIG_DFL)


class Heard:
    """Remembers that Ctrl-C came while it is entered, and interrupts what runs as Python does.

    Where Python interrupts the garbage collector, in which JAX has a callback, that is the end of
    it, and the program runs on. So whoever can stop looks here whether it should have.

    Attributes:
        signal: what was heard; None so far.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: Any = None

    def __enter__(self) -> "Heard":
        """Begins to listen, unless somebody else does."""
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        """Gives the signal back."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        raise KeyboardInterrupt
