"""One writer a folder: a lock that ends with the process that holds it."""

import contextlib
import os
import socket
from pathlib import Path
from typing import IO

from jaxnets.arrays import InputError

_FILE = "lock"


def lock(directory: Path) -> IO[str]:
    """Makes a folder and holds it for writing, until the file that is returned is closed.

    The operating system lets go of it too when the process ends, however it ends.

    Raises:
        InputError: if the folder cannot be written to, or another process holds it.
    """
    import fcntl

    with contextlib.ExitStack() as failing:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            file = failing.enter_context(open(directory / _FILE, "a+"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(0)
            file.write(f"process {os.getpid()} on host {socket.gethostname()}")
            file.flush()
        except BlockingIOError as error:
            file.seek(0)
            got = f"{directory}, to which {file.read() or 'another process'} is writing"
            raise InputError(
                "directory", "a folder to which no other run is writing", got
            ) from error
        except OSError as error:
            got = f"{error.filename or directory}: {error.strerror}"
            raise InputError("directory", "a folder that can be written to", got) from error
        failing.pop_all()
    return file
