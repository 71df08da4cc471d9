"""The program ``jaxnets``. It stands outside the package, whose import takes a second.

Ctrl-C in that second ends it with a word, as later.
"""

import gc
import os
import signal
from types import FrameType


def console() -> None:
    """Runs the command of ``sys.argv`` and ends the process."""
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard:
        signal.signal(signal.SIGINT, _end)
    gc.disable()  # what is imported stays, and to look through it takes a seventh of a start
    from jaxnets import cli

    gc.freeze()
    gc.enable()
    if heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.console()


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"jaxnets: interrupted\n")
    os._exit(128 + number)
