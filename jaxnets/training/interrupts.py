"""Requests to stop: Ctrl-C, and SIGTERM, which schedulers send before they end a job."""

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

_HEARD = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A run was interrupted by a signal, after it saved its state.

    Args:
        signum: the number of the signal.
        directory: the folder of checkpoints.
        step: number of completed steps.

    Attributes:
        signal: the signal.
        directory: the folder of checkpoints.
        step: number of completed steps.
    """

    def __init__(self, signum: int, directory: Path, step: int) -> None:
        super().__init__(signum, directory, step)
        self.signal, self.directory, self.step = signal.Signals(signum), directory, step

    @property
    def exit_code(self) -> int:
        """The conventional exit code of a program ended by a signal: 128 plus its number."""
        return 128 + self.signal

    def __str__(self) -> str:
        return f"stopped by {self.signal.name} after step {self.step}, saved in {self.directory}"


class Interrupts:
    """A context that records one Ctrl-C or SIGTERM; a second one ends the process immediately.

    Outside the main thread, where Python handles no signals, it does nothing.

    Attributes:
        signal: the number of the signal received; None if there was none.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        """Installs the signal handlers."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._hear) for number in _HEARD}
        return self

    def __exit__(self, *_: object) -> None:
        """Restores the previous handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, signal.SIG_DFL)  # for the second one


class Heard:
    """A context that records Ctrl-C and raises ``KeyboardInterrupt`` as Python does by default.

    The exception is lost if it is raised during garbage collection, in a callback of JAX: Python
    prints it and the program continues. The training loop therefore also checks ``signal``.

    Attributes:
        signal: the number of the signal received; None if there was none.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: Any = None

    def __enter__(self) -> "Heard":
        """Installs the handler, unless the program has its own."""
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        """Restores the default handler."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        raise KeyboardInterrupt
