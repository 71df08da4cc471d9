"""Caches: compiled programs on disk, and free memory in the process."""

import contextlib
import ctypes
import functools
import logging
import os
import stat
import sys
from pathlib import Path
from typing import Any, cast

import jax

VARIABLE = "JAXNETS_CACHE"

_WORDS = {
    **dict.fromkeys(("", "on", "1", "yes", "true"), True),
    **dict.fromkeys(("off", "0", "no", "false"), False),
}
_LEAST_ROOM = 16 * 2**20  # bytes, for the programs of some runs
# Of glibc's mallopt, by its number in malloc.h.
_ARENAS, _MAPPED_BLOCKS, _TRIM_THRESHOLD = -8, -4, -1
_MOST_FREE = 2**31 - 1  # bytes; mallopt takes no more
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_ENTER = stat.S_IXGRP | stat.S_IXOTH


def keep_programs() -> None:
    """Stores programs that this process compiles in the user's cache folder, for later processes.

    The folder is that of the environment variable ``JAXNETS_CACHE``, of which ``off`` keeps
    nothing; else ``jaxnets`` in ``XDG_CACHE_HOME`` or in ``~/.cache``. A cache that JAX has been
    given already stays as it is. Where the folder cannot be written to, its disk is full, or others
    can write to it, nothing is kept.

    The command line and the examples call this; importing jaxnets changes no setting.
    """
    config = cast(Any, jax.config)
    if config.jax_compilation_cache_dir or (kept := folder()) is None:
        return
    _remove_foreign_programs(kept)
    config.update("jax_compilation_cache_dir", str(kept))
    config.update("jax_persistent_cache_min_compile_time_secs", 0.01)


def keep_memory() -> None:
    """Keeps memory that programs free on a CPU in this process, for their next allocations.

    A program takes its intermediate values' memory from the system when it begins, and gives it
    back when it ends. The system clears each page again: that can take a fifth of the time of a
    training step or of inference, where each of them is a program of its own, as in a loop of your
    own around ``train_step``, or with ``predictor``. ``fit`` runs many steps in one program, and
    gains little.

    Call it before the first computation, as threads that run already may continue as before. It
    sets three options of the C library's ``malloc``, for the whole process: memory from one heap,
    which holds large blocks too, and of which up to 2 GiB are kept free. The process holds more
    memory than it would otherwise, in our measurements up to 2.5 times as much, until it ends.
    Elsewhere than on Linux with glibc nothing changes.
    """
    library: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(library, "gnu_get_libc_version"):
        options = (_ARENAS, 1), (_MAPPED_BLOCKS, 0), (_TRIM_THRESHOLD, _MOST_FREE)
        for option, value in options:  # each alone leaves all faults, or most
            library.mallopt(option, value)


def folder() -> Path | None:
    """The folder of what is compiled, made if it is not there; None if nothing is kept.

    What it holds is run, so it is this user's alone: one that others own or write to is not used,
    which is said once.
    """
    given = os.environ.get(VARIABLE, "")
    if switched(given) is False:
        return None
    try:
        found = _default() if switched(given) else Path(given)
        _make(found)
        found = found.resolve()  # a link that is changed later changes nothing
        status = found.stat()
    except (OSError, RuntimeError, ValueError):
        return None
    if not stat.S_ISDIR(status.st_mode):
        return None
    if fault := distrust(status) or _lack_of_room(found):
        say_once(f"{found} is not used as a cache: {fault}; {VARIABLE} names another")
        return None
    return found if os.access(found, os.W_OK | os.X_OK) else None


def switched(text: str) -> bool | None:
    """Whether a variable's text means on, as no text does, or off; None if it means neither."""
    return _WORDS.get(text.lower())


def distrust(status: os.stat_result) -> str | None:
    """Why code in this file or folder is not run, in words: because others could write it."""
    if not hasattr(os, "geteuid"):
        return None
    if status.st_uid != os.geteuid():
        return f"it belongs to user {status.st_uid}, not to user {os.geteuid()}"
    if status.st_mode & _OTHERS_WRITE:
        mode = stat.S_IMODE(status.st_mode)
        return f"other users can write to it (mode {mode:04o}, until chmod go-w)"
    return None


@functools.cache
def say_once(text: str) -> None:
    """Prints a line about a fault that the user may want to fix, once."""
    logging.getLogger("jaxnets").warning("jaxnets: %s", text)


def _default() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "jaxnets"


def _make(path: Path) -> None:
    """Makes a folder and its parents, for this user alone whatever the umask."""
    for missing in reversed([one for one in (path, *path.parents) if not one.exists()]):
        with contextlib.suppress(FileExistsError):
            missing.mkdir(mode=stat.S_IRWXU)
            missing.chmod(stat.S_IRWXU)


def _lack_of_room(path: Path) -> str | None:
    """Why nothing can be kept in a folder, in words: JAX would leave cut files, and complain."""
    if not hasattr(os, "statvfs"):
        return None
    room = os.statvfs(path)
    return "its disk is full" if room.f_bavail * room.f_frsize < _LEAST_ROOM else None


def _remove_foreign_programs(path: Path) -> None:
    """Removes programs that others wrote, or could have written, while the folder was theirs too.

    JAX's own files may be writable by a group, where the umask says so: where nobody else can enter
    the folder that does no harm.
    """
    about = path.stat()
    entered = about.st_mode & _OTHERS_ENTER
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            foreign = distrust(status) if entered else status.st_uid != about.st_uid
            if foreign and entry.name.endswith(("-cache", "-atime")):
                os.unlink(entry)
