"""Libraries that the machine's C++ compiler makes, kept in the cache folder.

What is kept is checked before it is opened: that this user alone can have written it, by owner and
mode, and that it is whole, by its size and SHA-256. Anything else is compiled anew.
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

#: Seconds for which the compiler may run; it takes some two for a library.
PATIENCE = 60
#: Seconds for which one that took longer is remembered in the cache folder.
MEMORY = 3600

_MEMORY_FILES = hasattr(os, "memfd_create")
_LONGEST_REASON = 200
_PARTIAL = ".partial-native-"

_too_slow: set[str] = set()  # in this process


class Missing(Exception):
    """Why there are no kernels."""


class Failed(Missing):
    """Why there are no kernels where there should be some."""


@dataclass(frozen=True)
class Library:
    """A library that is open.

    Attributes:
        opened: its functions.
        sha256: of its file, in hexadecimal digits.
    """

    opened: ctypes.CDLL
    sha256: str


def compiler() -> list[str]:
    """The command that compiles C++: what the variable CXX says, or else what is installed.

    Raises:
        Missing: if there is none.
    """
    try:
        given = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise Failed(f"CXX is no command: {error}") from None
    if given:
        return given
    for name in ("g++", "clang++", "c++"):
        if found := shutil.which(name):
            return [found]
    raise Missing("there is no C++ compiler: g++, clang++ or what CXX names")


def identity(compiler: list[str]) -> str:
    """Another text for another compiler.

    Raises:
        OSError: if there is not one of this name.
    """
    binary = os.path.realpath(shutil.which(compiler[0]) or compiler[0])
    return "\n".join([*compiler, binary, str(os.path.getmtime(binary))])


def open_library(
    compiler: list[str], arguments: list[str], name: str, functions: Iterable[str]
) -> Library:
    """Opens a library: the one in the cache folder or, if there is none to be trusted, a new one.

    Args:
        compiler: makes a new one.
        arguments: that the compiler is given, besides the name of what it makes.
        name: of the library's file, another one for everything that it is made from.
        functions: what it must have.

    Raises:
        Missing: if it cannot be made.
        OSError: likewise.
    """
    functions = tuple(functions)
    folder = compilation.folder()
    code = None if folder is None else _kept(folder, name)
    if code is not None:
        with contextlib.suppress(Missing, OSError):
            return _opened(code, name, functions)
    code = _compiled(compiler, arguments, name, folder)
    opened = _opened(code, name, functions)
    if folder is not None:
        with contextlib.suppress(OSError):  # such as a full disk: it is open all the same
            _remove_abandoned(folder)
            _appear(folder / name, code)
            _appear(_beside(folder, name), json.dumps(_measured(code)).encode())
    return opened


def _kept(folder: Path, name: str) -> bytes | None:
    """What a library's file holds, if that is what was written; None otherwise."""
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
    """Reads a file that nobody else can have written."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or compilation.distrust(status):
            raise PermissionError(f"{path} is not this user's alone")
        return file.read()


def _appear(path: Path, content: bytes) -> None:
    """Writes a file, which is there as a whole or not at all."""
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
    """Removes what processes that were killed have left half-written."""
    for path in folder.glob(f"{_PARTIAL}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > MEMORY:
                path.unlink()


def _opened(code: bytes, name: str, functions: Iterable[str]) -> Library:
    """Opens these very bytes, whatever becomes of the file that they were read from."""
    opened = _open_in_memory(code, name) or _open_in_scratch(code, name)
    for function in functions:
        if not hasattr(opened, function):
            raise Failed(f"the compiled {name} has no function {function}")
    return Library(opened, hashlib.sha256(code).hexdigest())


def _open_in_memory(code: bytes, name: str) -> ctypes.CDLL | None:
    """None where the system does not let memory be run as a file."""
    if not _MEMORY_FILES:
        return None
    try:
        # stays open: the loader takes two libraries under one path for the same
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
            return ctypes.CDLL(str(path))  # stays open when its file is gone
        except OSError as error:
            if os.statvfs(scratch).f_flag & os.ST_NOEXEC:
                raise Failed(f"{scratch.parent} is mounted noexec; TMPDIR names another") from error
            raise


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="jaxnets-", ignore_cleanup_errors=True) as scratch:
        yield Path(scratch)


def _compiled(compiler: list[str], arguments: list[str], name: str, folder: Path | None) -> bytes:
    """The bytes of a new library."""
    about = hashlib.sha256(identity(compiler).encode()).hexdigest()[:16]
    memory = None if folder is None else folder / f".compiler-{about}.slow"
    if about in _too_slow or (memory is not None and _is_recent(memory)):
        raise Failed(_slow(compiler, memory))
    with _scratch() as scratch:
        made, said = scratch / name, scratch / "stderr"
        try:
            code = _run([*compiler, *arguments, "-o", str(made)], said)
        except subprocess.TimeoutExpired:
            _too_slow.add(about)
            if memory is not None:
                with contextlib.suppress(OSError):
                    _appear(memory, b"")
            raise Failed(_slow(compiler, memory)) from None
        if code:
            raise Failed(f"{compiler[0]} failed: {_first_error(said) or code}")
        if not made.is_file():
            raise Failed(f"{compiler[0]} made no library")
        return made.read_bytes()


def _run(command: list[str], said: Path) -> int:
    """Runs a command, and ends it and all that it has started if it takes too long."""
    # Into a file, as a pipe would have to be read until everybody who holds it has ended.
    with (
        open(said, "wb") as errors,
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
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise


def _slow(compiler: list[str], memory: Path | None) -> str:
    kept = "" if memory is None else f"; it is tried again in an hour, or without {memory}"
    return f"{compiler[0]} took more than {PATIENCE} s{kept}"


def _is_recent(memory: Path) -> bool:
    with contextlib.suppress(OSError):
        _read_own(memory)
        return time.time() - memory.stat().st_mtime < MEMORY
    return False


def _first_error(said: Path) -> str:
    """The first line that tells of an error, as far as a person can read it."""
    with open(said, "rb") as file:
        lines = file.read(2**16).decode(errors="replace").splitlines()
    line = next((line for line in lines if "error" in line), "")
    return "".join(c if c.isprintable() else "?" for c in line[:_LONGEST_REASON])
