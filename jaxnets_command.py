"""Entry point of the command ``jaxnets``.

This module is outside the package because importing the package takes a second. The module
installs its interrupt handler first, so that Ctrl-C during the import prints one line instead of a
traceback.
"""

import gc
import os
import signal
from types import FrameType


def console() -> None:
    """Runs the command in ``sys.argv`` and ends the process."""
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default:
        signal.signal(signal.SIGINT, _end)
    gc.disable()  # imported objects stay alive; scanning them takes a seventh of the start-up time
    from jaxnets import cli

    gc.freeze()
    gc.enable()
    if is_default:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.console()


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"jaxnets: interrupted\n")
    os._exit(128 + number)
