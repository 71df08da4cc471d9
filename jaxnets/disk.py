"""Atomic writes: files and folders that appear under their names only once they are complete."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from jaxnets.arrays import InputError, check_path

#: The start of the note on an error that gives the path of an unfinished folder.
KEPT = "what was written is kept in"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path that replaces ``path`` when the block ends without an error.

    Args:
        path: a file in an existing folder.

    Yields:
        The path to write to, in the same folder. After an error the file there is removed.
    """
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(directory: Path | str, argument: str = "out") -> Iterator[Path]:
    """Yields a temporary folder that is renamed to ``directory`` when the block ends.

    After an error an empty temporary folder is removed. One with files in it is kept, and a note on
    the error gives its path.

    Args:
        directory: a folder that does not exist yet or is empty; symbolic links are followed.
        argument: the name of the argument, for error messages.

    Yields:
        A temporary folder next to ``directory``, to write into.

    Raises:
        InputError: if the folder is not empty or cannot be made.
    """
    path = check_free(check_path(argument, directory, "a folder that can be made"), argument)
    partial = path.with_name(f".{path.name[:50]}.partial-{os.getpid()}")
    try:
        missing = [folder for folder in (partial, *partial.parents) if not folder.exists()]
        partial.mkdir(parents=True)
        path.exists()  # raises an error if the name is too long
    except OSError as error:
        _remove_empty(missing)
        raise _impossible(directory, argument, error) from error
    try:
        yield partial
        partial.rename(path)
    except BaseException as error:
        _remove_empty(missing)
        if partial.exists():
            error.add_note(f"{KEPT} {partial}")
        raise


def check_free(directory: Path | str, argument: str) -> Path:
    """Checks that a folder does not exist yet or is empty, and returns its resolved path.

    Args:
        directory: the folder.
        argument: the name of the argument, for error messages.

    Raises:
        InputError: if the folder is not empty, is a file, or cannot be made.
    """
    try:
        path = Path(directory).resolve()
        free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    except (OSError, RuntimeError) as error:  # RuntimeError: symbolic links in a circle
        raise _impossible(directory, argument, error) from error
    if not free:
        raise InputError(
            argument, "a new or empty folder", f"{str(directory)!r}, which exists and is not empty"
        )
    return path


def _impossible(directory: Path | str, argument: str, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or error
    return InputError(argument, "a folder that can be made", f"{str(directory)!r}: {reason}")


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
