"""The program ``jaxnets``. It stands outside the package, whose import takes a second.

Ctrl-C in that second ends it with a word, as later.
"""

import os
import signal
from types import FrameType


def console() -> None:
    """Runs the command of ``sys.argv`` and ends the process."""
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, _end)
    from jaxnets import cli

    if heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.console()


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"jaxnets: interrupted\n")
    os._exit(128 + number)
