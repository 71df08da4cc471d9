"""Compilation of C++ libraries, which are kept in the cache folder.

Loading a library runs its code, so a cached file is checked first: its owner and mode must show
that only this user can have written it, and its size and SHA-256 that it is complete. Otherwise the
library is compiled again.
"""

import contextlib
import ctypes
import hashlib
import json
import os
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jaxnets import compilation

#: Seconds after which the compiler is stopped; it takes about two for a library.
PATIENCE = 60
#: Seconds for which a compiler that was stopped is not tried again.
MEMORY = 3600

_MEMORY_FILES = hasattr(os, "memfd_create")
_LONGEST_REASON = 200
_PARTIAL = ".partial-native-"

_too_slow: set[str] = set()  # compilers that were stopped in this process


class Missing(Exception):
    """The reason why there are no kernels."""


class Failed(Missing):
    """The reason why there are no kernels although the machine is supported; it is logged."""


@dataclass(frozen=True)
class Library:
    """A loaded library.

    Attributes:
        opened: the handle that gives access to its functions.
        sha256: hash of its file, in hexadecimal digits.
    """

    opened: ctypes.CDLL
    sha256: str


def compiler() -> list[str]:
    """Returns the C++ compiler's command: the variable CXX, or else an installed compiler.

    Raises:
        Missing: if there is no compiler.
    """
    try:
        given = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise Failed(f"CXX is not a command: {error}") from None
    if given:
        return given
    for name in ("g++", "clang++", "c++"):
        if found := shutil.which(name):
            return [found]
    raise Missing("there is no C++ compiler: no g++, clang++ or c++, and CXX is not set")


def identity(compiler: list[str]) -> str:
    """Returns a text that identifies a compiler: its command, path and modification time.

    Raises:
        OSError: if the compiler does not exist.
    """
    binary = os.path.realpath(shutil.which(compiler[0]) or compiler[0])
    return "\n".join([*compiler, binary, str(os.path.getmtime(binary))])


def open_library(
    compiler: list[str], arguments: list[str], name: str, functions: Iterable[str]
) -> Library:
    """Loads a library from the cache folder, or compiles it if there is no trustworthy one.

    Args:
        compiler: the command of the compiler.
        arguments: arguments of the compiler, without the output file.
        name: name of the library's file, which must identify everything that it is made from.
        functions: names of the functions that the library must have.

    Raises:
        Missing: if the library cannot be compiled.
        OSError: if a file cannot be read or written, or the compiler does not exist.
    """
    functions = tuple(functions)
    folder = compilation.folder()
    code = None if folder is None else _kept(folder, name)
    if code is not None:
        with contextlib.suppress(Missing, OSError):  # then a new one is compiled
            return _opened(code, name, functions)
    code = _compiled(compiler, arguments, name, folder)
    opened = _opened(code, name, functions)
    if folder is not None:
        with contextlib.suppress(OSError):  # for example a full disk; the library is loaded anyway
            _remove_abandoned(folder)
            # The hash last: without it, or with an old one, the library is not trusted.
            _appear(folder / name, code)
            _appear(_beside(folder, name), json.dumps(_measured(code)).encode())
    return opened


def _kept(folder: Path, name: str) -> bytes | None:
    """Returns the bytes of a cached library; None if it is missing, damaged or not trusted."""
    try:
        code = _read_own(folder / name)
        return code if json.loads(_read_own(_beside(folder, name))) == _measured(code) else None
    except (OSError, ValueError, RecursionError):
        return None


def _beside(folder: Path, name: str) -> Path:
    return folder / f".{name}.json"


def _measured(code: bytes) -> dict[str, int | str]:
    return {"size": len(code), "sha256": hashlib.sha256(code).hexdigest()}


def _read_own(path: Path) -> bytes:
    """Reads a file after checking that no other user can have written it.

    The check is on the open descriptor, so that the file cannot be exchanged after it.
    """
    # Neither a symbolic link, which another user may own, nor a pipe, which would block.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or compilation.distrust(status):
            raise PermissionError(f"another user may have written {path}")
        return file.read()


def _appear(path: Path, content: bytes) -> None:
    """Writes a file atomically."""
    descriptor, partial = tempfile.mkstemp(prefix=_PARTIAL, dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, stat.S_IRUSR | stat.S_IWUSR)  # whatever the umask
            os.fsync(descriptor)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def _remove_abandoned(folder: Path) -> None:
    """Removes partial files of processes that were killed."""
    for path in folder.glob(f"{_PARTIAL}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > MEMORY:
                path.unlink()


def _opened(code: bytes, name: str, functions: Iterable[str]) -> Library:
    """Loads a library from bytes in memory, because its file may change after it was checked."""
    opened = _open_in_memory(code, name) or _open_in_scratch(code, name)
    for function in functions:
        if not hasattr(opened, function):
            raise Failed(f"the compiled {name} has no function {function}")
    return Library(opened, hashlib.sha256(code).hexdigest())


def _open_in_memory(code: bytes, name: str) -> ctypes.CDLL | None:
    """Loads a library from an anonymous file; None if the system does not support that."""
    if not _MEMORY_FILES:
        return None
    try:
        # The descriptor stays open: its number is part of the path, and the loader takes a second
        # library under the same path to be the first.
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    except OSError:
        return None
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(code)
        return ctypes.CDLL(f"/proc/self/fd/{descriptor}")
    except OSError:
        os.close(descriptor)
        return None


def _open_in_scratch(code: bytes, name: str) -> ctypes.CDLL:
    with _scratch() as scratch:
        path = scratch / name
        path.write_bytes(code)
        try:
            return ctypes.CDLL(str(path))  # stays loaded after its file is removed
        except OSError as error:
            if os.statvfs(scratch).f_flag & os.ST_NOEXEC:
                raise Failed(f"{scratch.parent} is mounted noexec; TMPDIR names another") from error
            raise


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="jaxnets-", ignore_cleanup_errors=True) as scratch:
        yield Path(scratch)


def _compiled(compiler: list[str], arguments: list[str], name: str, folder: Path | None) -> bytes:
    """Compiles a library; returns its bytes."""
    about = hashlib.sha256(identity(compiler).encode()).hexdigest()[:16]
    # A file in the cache records a compiler that hangs, so that other processes do not wait too.
    memory = None if folder is None else folder / f".compiler-{about}.slow"
    if about in _too_slow or (memory is not None and _is_recent(memory)):
        raise Failed(_slow(compiler, memory))
    with _scratch() as scratch:
        made, errors = scratch / name, scratch / "stderr"
        try:
            code = _run([*compiler, *arguments, "-o", str(made)], errors)
        except subprocess.TimeoutExpired:
            _too_slow.add(about)
            if memory is not None:
                with contextlib.suppress(OSError):
                    _appear(memory, b"")
            raise Failed(_slow(compiler, memory)) from None
        if code:
            raise Failed(f"{compiler[0]} failed: {_first_error(errors) or code}")
        if not made.is_file():
            raise Failed(f"{compiler[0]} made no library")
        return made.read_bytes()


def _run(command: list[str], stderr: Path) -> int:
    """Runs a command; if it takes too long, kills it and the processes that it started."""
    # Errors go to a file: a pipe must be read until every process that inherited it has ended.
    with (
        open(stderr, "wb") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        ) as process,
    ):
        try:
            return process.wait(PATIENCE)
        except BaseException:  # also Ctrl-C
            # The whole process group, because g++ starts cc1plus, as and ld.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise


def _slow(compiler: list[str], memory: Path | None) -> str:
    kept = "" if memory is None else f"; the next try is in an hour, or without {memory}"
    return f"{compiler[0]} took more than {PATIENCE} s{kept}"


def _is_recent(memory: Path) -> bool:
    with contextlib.suppress(OSError):
        _read_own(memory)
        return time.time() - memory.stat().st_mtime < MEMORY
    return False


def _first_error(stderr: Path) -> str:
    """Returns the first line of the compiler's output with "error", in printable characters."""
    with open(stderr, "rb") as file:
        lines = file.read(2**16).decode(errors="replace").splitlines()
    line = next((line for line in lines if "error" in line), "")
    return "".join(c if c.isprintable() else "?" for c in line[:_LONGEST_REASON])
