"""The on-disk cache of compiled programs, and the reuse of freed memory within a process."""

import contextlib
import ctypes
import logging
import os
import stat
import sys
import threading
from pathlib import Path
from typing import Any, cast

import jax

VARIABLE = "JAXNETS_CACHE"

_WORDS = {
    **dict.fromkeys(("", "on", "1", "yes", "true"), True),
    **dict.fromkeys(("off", "0", "no", "false"), False),
}
_LEAST_ROOM = 16 * 2**20  # bytes, enough for the programs of a few runs
# Options of glibc's mallopt; the numbers are from malloc.h.
_ARENAS, _MAPPED_BLOCKS, _TRIM_THRESHOLD = -8, -4, -1
_MOST_FREE = 2**31 - 1  # bytes; the value is a C int
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_ENTER = stat.S_IXGRP | stat.S_IXOTH

_said: set[str] = set()
_saying = threading.Lock()


def keep_programs() -> None:
    """Turns on JAX's compilation cache in the user's cache folder.

    Programs that this process compiles are stored in the folder and reused by later processes. The
    environment variable ``JAXNETS_CACHE`` names the folder; ``JAXNETS_CACHE=off`` turns the cache
    off. The default folder is ``jaxnets`` in ``XDG_CACHE_HOME`` or in ``~/.cache``. If JAX already
    has a compilation cache, nothing changes. Nothing is stored if the folder is not writable, if
    its disk is full, or if other users can write to it.

    The command line and the examples call this function; importing jaxnets changes no setting.
    """
    config = cast(Any, jax.config)
    if config.jax_compilation_cache_dir or (kept := folder()) is None:
        return
    _remove_foreign_programs(kept)
    config.update("jax_compilation_cache_dir", str(kept))
    config.update("jax_persistent_cache_min_compile_time_secs", 0.01)


def keep_memory() -> None:
    """Keeps freed memory in this process instead of returning it to the system (Linux with glibc).

    On a CPU, a compiled program allocates memory for its intermediate values when it starts and
    frees the memory when it ends. The system zeroes each page before it is allocated again, which
    can take a fifth of the time of a training step or of inference. This affects programs that run
    one step each, such as your own loop around ``train_step``, or ``predictor``. ``fit`` runs many
    steps in one program and gains little.

    Call this function before the first computation, because threads that already run may keep the
    previous settings. The function sets three options of the C library's ``malloc`` for the whole
    process: one heap for all threads, large blocks in the heap, and up to 2 GiB of free memory
    kept. The process then uses more memory until it ends, in our measurements up to 2.5 times as
    much. On other systems nothing changes.
    """
    library: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(library, "gnu_get_libc_version"):
        options = (_ARENAS, 1), (_MAPPED_BLOCKS, 0), (_TRIM_THRESHOLD, _MOST_FREE)
        for option, value in options:  # each option alone removes few or none of the page faults
            library.mallopt(option, value)


def folder() -> Path | None:
    """Returns the cache folder, which is created if needed, or None if there is no usable one.

    The cached programs are executed, so a folder that other users own or can write to is not used;
    a warning is logged once.
    """
    given = os.environ.get(VARIABLE, "")
    if switched(given) is False:
        return None
    try:
        found = _default() if switched(given) else Path(given)
        _make(found)
        found = found.resolve()  # so that changing a symbolic link later has no effect
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
    """Parses a switch: True for "on" words or empty text, False for "off" words, else None."""
    return _WORDS.get(text.lower())


def distrust(status: os.stat_result) -> str | None:
    """Returns why code in a file or folder is not trusted, or None if only this user can write."""
    if not hasattr(os, "geteuid"):
        return None
    if status.st_uid != os.geteuid():
        return f"it belongs to user {status.st_uid}, not to user {os.geteuid()}"
    if status.st_mode & _OTHERS_WRITE:
        mode = stat.S_IMODE(status.st_mode)
        return f"other users can write to it (mode {mode:04o}, until chmod go-w)"
    return None


def say_once(text: str) -> None:
    """Logs a warning once per process, whichever threads call it with the same text."""
    with _saying:
        new = text not in _said
        _said.add(text)
    if new:
        logging.getLogger("jaxnets").warning("jaxnets: %s", text)


def _default() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "jaxnets"


def _make(path: Path) -> None:
    """Makes a folder and its missing parents with mode 0700, regardless of the umask."""
    for missing in reversed([one for one in (path, *path.parents) if not one.exists()]):
        with contextlib.suppress(FileExistsError):
            missing.mkdir(mode=stat.S_IRWXU)
            missing.chmod(stat.S_IRWXU)


def _lack_of_room(path: Path) -> str | None:
    """Returns an error text if the folder's disk is nearly full, else None.

    On a full disk JAX would leave truncated files and print warnings.
    """
    if not hasattr(os, "statvfs"):
        return None
    room = os.statvfs(path)
    return "its disk is full" if room.f_bavail * room.f_frsize < _LEAST_ROOM else None


def _remove_foreign_programs(path: Path) -> None:
    """Removes cached programs that other users wrote or could have written.

    With some umasks the files that JAX writes are writable by a group. Such files are kept if no
    other user can enter the folder.
    """
    about = path.stat()
    entered = about.st_mode & _OTHERS_ENTER
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            foreign = distrust(status) if entered else status.st_uid != about.st_uid
            if foreign and entry.name.endswith(("-cache", "-atime")):
                os.unlink(entry)
