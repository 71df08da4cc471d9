"""A lock on a folder, so that only one process writes to it."""

import contextlib
import os
import socket
from pathlib import Path
from typing import IO

from jaxnets.arrays import InputError

_FILE = "lock"


def lock(directory: Path) -> IO[str]:
    """Creates a folder and locks it for writing until the returned file is closed.

    The operating system also releases the lock when the process ends, even if it is killed.

    Raises:
        InputError: if the folder cannot be written to, or another process has locked it.
    """
    import fcntl  # not available on Windows, where the package can still be imported

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
            got = f"{directory}, which {file.read() or 'another process'} is writing to"
            raise InputError(
                "directory", "a folder that no other run is writing to", got
            ) from error
        except OSError as error:
            got = f"{error.filename or directory}: {error.strerror}"
            raise InputError("directory", "a folder that can be written to", got) from error
        failing.pop_all()
    return file
