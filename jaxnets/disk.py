"""Files and folders that appear as a whole, under their names, or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from jaxnets.arrays import InputError, check_path

#: How the note of an error begins that says where an unfinished folder is.
KEPT = "what was written is kept in"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside another one, whose place it takes when it is complete.

    Args:
        path: a file in a folder that exists.

    Yields:
        Where to write; after an error nothing is left there.
    """
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(directory: Path | str, argument: str = "out") -> Iterator[Path]:
    """A folder that appears under its name when all that belongs in it has been written.

    What has been written is never lost. An error that comes before there is anything leaves no
    trace; after that the temporary folder stays, and a note of the error says where.

    Args:
        directory: must not exist yet, or be empty; a link stands for what it points to.
        argument: what the message of an error calls it.

    Yields:
        A temporary folder beside it, to write into.

    Raises:
        ValueError: if the folder holds something already, or cannot be made.
    """
    path = check_free(check_path(argument, directory, "a folder that can be made"), argument)
    partial = path.with_name(f".{path.name[:50]}.partial-{os.getpid()}")
    try:
        missing = [folder for folder in (partial, *partial.parents) if not folder.exists()]
        partial.mkdir(parents=True)
        path.exists()  # fails for a name that is too long
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
    """The true path of a folder where there is nothing yet.

    Args:
        directory: must not exist yet, or be empty.
        argument: what the message of an error calls it.

    Raises:
        ValueError: if it holds something already, or cannot be.
    """
    try:
        path = Path(directory).resolve()
        free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    except (OSError, RuntimeError) as error:  # the latter of links in a circle
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
