"""Saving and loading a model's weights."""

import contextlib
import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from jaxnets.arrays import InputError, check_path
from jaxnets.training import storage
from jaxnets.training.manifest import MANIFEST, appear, damage
from jaxnets.training.processes import of_first

# Without the random streams, of which every model has its own.
_WEIGHTS = nnx.Not(nnx.RngState)


def save_weights(model: nnx.Module, directory: Path | str) -> None:
    """Writes a model's parameters and running statistics into a new folder.

    The folder is created atomically. Several processes call this together, with the same model; the
    directory of process 0 is used.

    Args:
        model: any ``nnx.Module``.
        directory: a folder that does not exist.

    Raises:
        ValueError: if the folder exists or cannot be made.
        OSError: if the weights cannot be written.
    """
    path = check_path("directory", directory, "a folder").absolute()
    first = jax.process_index() == 0
    if first and path.exists():
        raise InputError("directory", "a folder that does not exist yet", str(directory))
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        if first:
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(path)
            partial.mkdir()
    except OSError as error:
        got = f"{error.filename}: {error.strerror}"
        raise InputError("directory", "a folder that can be made", got) from error
    try:
        # Under process 0's path, which contains its process id.
        storage.start_writing(Path(of_first(str(partial / path.name))), _flat(model))()
        if first:
            appear(partial / path.name, path)
    except BaseException as error:
        if first:
            storage.discard(partial)
        if not isinstance(error, OSError):
            raise
        raise OSError(f"{directory} could not be written: {error.strerror or error}") from error


def check_weights(model: nnx.Module, directory: Path | str) -> None:
    """Checks the names, shapes and dtypes of the arrays in a folder, without reading the arrays.

    Args:
        model: a model with arrays, or only with their shapes, as ``nnx.eval_shape`` makes it.
        directory: the folder.

    Raises:
        ValueError: see ``load_weights``.
    """
    with _as_folder(directory):
        faults = storage.differences(
            check_path("directory", directory, "a folder").absolute(), _flat(model)
        )
    if faults:
        raise InputError("directory", "weights of this network", faults)


def sizes(directory: Path | str) -> list[int]:
    """Returns the number of elements of each array in a folder of weights.

    Raises:
        ValueError: if the folder cannot be read.
    """
    with _as_folder(directory):
        return storage.elements(check_path("directory", directory, "a folder").absolute())


def load_weights(model: nnx.Module, directory: Path | str) -> None:
    """Loads weights that ``save_weights`` wrote into a model of the same structure.

    Args:
        model: the model whose weights are replaced; it is not changed if an error is raised.
        directory: the folder.

    Raises:
        ValueError: if the folder has no weights, or they are damaged or belong to another network;
            the message names every array that is missing, unexpected or of another shape.
    """
    path, expected = check_path("directory", directory, "a folder").absolute(), _flat(model)
    with _as_folder(directory):
        # Older versions did not write manifests.
        if (path / MANIFEST).exists() and (fault := damage(path)):
            raise OSError(fault)
    check_weights(model, directory)
    with _as_folder(directory):
        values = storage.read(path, expected)
    state = nnx.to_flat_state(nnx.state(model, _WEIGHTS))
    filled = [(path, variable.replace(values[_name(path)])) for path, variable in state]
    nnx.update(model, nnx.from_flat_state(filled))


def _sweep(path: Path) -> None:
    """Removes the partial folders of processes that were killed while they wrote this folder."""
    if os.name != "posix":  # ``os.kill`` with signal 0 tests for a process only on POSIX
        return
    for left in path.parent.glob(f"{glob.escape(f'.{path.name}.partial-')}*"):
        number = left.name.rpartition("-")[2]
        try:
            os.kill(int(number), 0)
        except (ValueError, OverflowError, PermissionError):
            continue
        except ProcessLookupError:
            storage.remove(left)


@contextlib.contextmanager
def _as_folder(directory: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = str(error.strerror or error).partition("\n")[0]
        got = f"{directory}, which is damaged or has no weights ({reason})"
        raise InputError("directory", "a folder written by save_weights", got) from error


def weights_in(directory: Path | str) -> dict[str, str] | None:
    """Returns the shapes that ``save_weights`` wrote, by name, such as ``float32[64, 10]``.

    Args:
        directory: the folder.

    Returns:
        None if ``save_weights`` did not write the folder.

    Raises:
        ValueError: if the weights are damaged.
    """
    path = check_path("directory", directory, "a folder").absolute()
    if not (path / MANIFEST).is_file():
        return None
    with _as_folder(directory):
        if fault := damage(path):
            raise OSError(fault)
        return storage.shapes(path)


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def _flat(model: nnx.Module) -> dict[str, jax.Array]:
    if not isinstance(model, nnx.Module):
        raise InputError("model", "an nnx.Module", model)
    state = nnx.to_flat_state(nnx.state(model, _WEIGHTS))
    return {_name(path): variable.get_value() for path, variable in state}
