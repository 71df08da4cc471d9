"""Named arrays saved in a folder, bit for bit. The only module that uses Orbax."""

import contextlib
import json
import logging
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import InputError, describe, shown
from jaxnets.json_files import read_object, reason

_ABOUT = "arrays.json"
# TensorStore, which Orbax writes with, does not support these dtypes.
_AS_INTEGERS = ("uint2", "uint4")
_AS_BITS = ("float8_e4m3",)
_QUIET, _LONGEST_WAIT = 0.3, 5.0  # seconds


def named(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a pytree by name, such as ``.parameters['fc1']['kernel'].value``."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def check(arrays: Mapping[str, Any]) -> None:
    """Checks that all values can be stored.

    Raises:
        InputError: if a value is neither an array nor a number.
    """
    wrong = [f"{name} {shown(value)}" for name, value in arrays.items() if not _is_array(value)]
    if wrong:
        raise InputError("state", "arrays and numbers", ", ".join(wrong))


def differences(folder: Path, like: Mapping[str, Any], within: tuple[str, ...] = ("",)) -> str:
    """Describes the arrays of a folder that are missing, unexpected or of another shape or dtype.

    Args:
        folder: a folder that ``start_writing`` filled.
        like: the expected arrays and numbers by name.
        within: prefixes of the names to compare; other arrays of the folder are ignored.

    Returns:
        The differences, separated by semicolons; an empty string if there are none.

    Raises:
        OSError: if the folder cannot be read.
    """
    found, expected = _stored(folder)[0], _shapes(like)
    found = {name: shape for name, shape in found.items() if name.startswith(within)}
    return "; ".join(
        f"{name} is {found.get(name, 'missing')}, not {expected.get(name, 'missing')}"
        for name in sorted({*expected, *found})
        if found.get(name) != expected.get(name)
    )


def shapes(folder: Path) -> dict[str, str]:
    """Returns the dtype and shape of every array in a folder, such as ``float32[64, 10]``.

    Raises:
        OSError: if the folder cannot be read.
    """
    return _stored(folder)[0]


def start_writing(folder: Path, arrays: Mapping[str, Any]) -> Callable[[], None]:
    """Starts to write arrays into a new folder; afterwards they may be changed or donated.

    With several processes, all of them call this with their parts of the same arrays.

    Args:
        folder: a folder that does not exist, in a folder that does.
        arrays: arrays and numbers by name.

    Returns:
        A function that waits until all arrays are written.

    Raises:
        OSError: if the arrays cannot be written; the returned function raises this too.
    """
    # Orbax stores neither the generators of random keys nor arrays without elements.
    about = json.dumps({"shapes": _shapes(arrays), "keys": _keys(arrays)}, indent=1)
    encoded = {name: _local_on_host(_encode(_array(value))) for name, value in arrays.items()}
    written = _start_orbax(folder, {name: value for name, value in encoded.items() if value.size})

    def finish() -> None:
        written()
        if jax.process_index() == 0:
            (folder / _ABOUT).write_text(about)

    return finish


def read(folder: Path, like: Mapping[str, Any]) -> dict[str, Any]:
    """Reads arrays; each gets the type and devices of its counterpart in ``like``.

    Args:
        folder: a folder that ``start_writing`` filled.
        like: arrays, numbers or ``jax.ShapeDtypeStruct`` by name, of the shapes and dtypes in the
            folder; see ``differences``.

    Raises:
        OSError: if the folder cannot be read.
        InputError: if a dtype is disabled in JAX.
    """
    _, keys = _stored(folder)
    abstract = {name: _abstract(leaf) for name, leaf in like.items()}
    found = _read_orbax(folder, {name: leaf for name, leaf in abstract.items() if leaf.size})
    for name in abstract.keys() - found.keys():  # arrays without elements, which are not stored
        found[name] = np.zeros(abstract[name].shape, abstract[name].dtype)
    with _as_os_error():
        arrays = {name: _decode(found[name], leaf, keys.get(name)) for name, leaf in like.items()}
    # JAX silently converts 64-bit dtypes to 32 bits if they are disabled.
    expected, got = _shapes(like), _shapes(arrays)
    if expected != got:
        names = ", ".join(
            f"{name} {expected[name]}" for name in like if expected[name] != got[name]
        )
        raise InputError("like", "dtypes that JAX has enabled (jax_enable_x64)", names)
    return arrays


def discard(path: Path) -> None:
    """Removes a folder or a file that a failed save left, if possible.

    Orbax reports the first failure while TensorStore still writes other arrays and may create the
    folder again. So the folder is removed until it has been absent for a while.
    """
    until = time.monotonic() + _LONGEST_WAIT
    remove(path)
    quiet = time.monotonic() + _QUIET
    while time.monotonic() < min(quiet, until):
        time.sleep(_QUIET / 10)
        if os.path.lexists(path):
            remove(path)
            quiet = time.monotonic() + _QUIET


def remove(path: Path) -> None:
    """Removes a folder or a file, if possible; errors are ignored."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _stored(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the shapes of the arrays in a folder, and the generators of its random keys."""
    if (folder / _ABOUT).exists():
        return _listed(folder / _ABOUT)
    from orbax.checkpoint import v1 as ocp

    with _quiet_orbax(), _as_os_error():  # older versions did not write the file
        found = ocp.metadata(folder.absolute()).metadata
    if found is None:
        raise OSError("its list of arrays is damaged")
    return _shapes(found), {}


def _listed(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    try:
        about = read_object(path)
        parts = about["shapes"], about["keys"]
        if all(isinstance(word, str) for part in parts for word in part.values()):
            return parts
    except (OSError, ValueError, LookupError, AttributeError) as error:
        raise OSError(f"{path.name} is damaged: {reason(error)}") from error
    raise OSError(f"{path.name} is damaged")


def elements(folder: Path) -> list[int]:
    """Returns the number of elements of each array in a folder.

    Raises:
        OSError: if the folder cannot be read.
    """
    sizes = [re.findall(r"\d+", shape.partition("[")[2]) for shape in _stored(folder)[0].values()]
    return [math.prod(map(int, size)) for size in sizes]


def _shapes(arrays: Mapping[str, Any]) -> dict[str, str]:
    return {name: describe(_array(value)) for name, value in arrays.items()}


def _keys(arrays: Mapping[str, Any]) -> dict[str, str]:
    keys = {name: key for name, key in arrays.items() if _is_key(_array(key))}
    return {name: str(jax.random.key_impl(key)) for name, key in keys.items()}


def _start_orbax(folder: Path, arrays: Mapping[str, Any]) -> Callable[[], None]:
    if not arrays:  # Orbax rejects empty trees, and arrays without elements
        if jax.process_index() == 0:
            folder.mkdir()
        return lambda: None
    from orbax.checkpoint import v1 as ocp

    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet_orbax())
        with _as_os_error(), _options():
            response = ocp.save_async(folder.absolute(), arrays)
        until_written = stack.pop_all()

    def finish() -> None:
        with until_written, _as_os_error():
            response.result()

    return finish


def _read_orbax(folder: Path, like: Mapping[str, Any]) -> dict[str, Any]:
    if not like:
        return {}
    from orbax.checkpoint import v1 as ocp

    context = ocp.Context()
    context.pytree_options.loading.partial_load = True  # ``differences`` has checked the names
    with _quiet_orbax(), _as_os_error(), context:
        return ocp.load(folder.absolute(), like)


def _is_array(value: Any) -> bool:
    if isinstance(value, bool | int | float | complex | np.generic | np.ndarray):
        dtype = _array(value).dtype
        return dtype.kind not in "OSUMm" and dtype.names is None
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _array(value: Any) -> Any:
    return value if hasattr(value, "dtype") else np.asarray(value)


def _is_key(array: Any) -> bool:
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)


def _encode(array: Any) -> Any:
    """Converts an array to its stored form: the words of keys, bytes for unsupported dtypes."""
    if _is_key(array):
        return jax.random.key_data(array)
    array = np.asarray(array) if isinstance(array, np.generic) else array
    if array.dtype.name in _AS_INTEGERS:
        return array.astype(np.uint8)
    return array.view(np.uint8) if array.dtype.name in _AS_BITS else array


def _on_host(leaf: Any) -> bool:
    return not hasattr(leaf, "dtype") or isinstance(leaf, np.ndarray | np.generic)


def _abstract(leaf: Any) -> Any:
    """Returns a template of the array for Orbax: on its devices, or a NumPy array.

    The NumPy array is broadcast from a scalar, so that it takes no memory.
    """
    if _on_host(leaf):
        stored = _encode(np.zeros((), _array(leaf).dtype))
        return np.broadcast_to(np.zeros((), stored.dtype), np.shape(leaf))
    stored = jax.eval_shape(_encode, jax.ShapeDtypeStruct(leaf.shape, leaf.dtype))
    if not _is_placed(leaf) or _is_local(leaf.sharding):
        return np.broadcast_to(np.zeros((), stored.dtype), stored.shape)
    return jax.ShapeDtypeStruct(stored.shape, stored.dtype, sharding=leaf.sharding)


def _is_placed(leaf: Any) -> bool:
    # An uncommitted array may move to the device where it is used. Reading it back with an explicit
    # sharding would commit it to the default device.
    return leaf.sharding is not None and getattr(leaf, "committed", True)


def _is_local(sharding: jax.sharding.Sharding) -> bool:
    return jax.process_count() > 1 and sharding.is_fully_addressable


def _local_on_host(array: Any) -> Any:
    # Orbax rejects arrays local to one of several processes; those of process 0 are saved.
    local = isinstance(array, jax.Array) and _is_local(array.sharding)
    return np.asarray(array) if local else array


def _decode(value: Any, leaf: Any, kind: str | None) -> Any:
    if _on_host(leaf):
        dtype = _array(leaf).dtype
        value = value.view(dtype) if dtype.name in _AS_BITS else value.astype(dtype, copy=False)
        if isinstance(leaf, np.ndarray):
            return value
        return value[()] if isinstance(leaf, np.generic) else value.item()
    if isinstance(value, np.ndarray):
        value = jax.device_put(value, leaf.sharding) if _is_placed(leaf) else jnp.array(value)
    if _is_key(leaf):
        return jax.random.wrap_key_data(value, impl=kind)
    if leaf.dtype.name in _AS_INTEGERS:
        return value.astype(leaf.dtype)
    return value.view(leaf.dtype) if leaf.dtype.name in _AS_BITS else value


def _options() -> Any:
    """Returns Orbax's settings, with the features disabled that only cost time here."""
    from orbax.checkpoint import v1 as ocp

    context = ocp.Context()
    # If a folder cannot be created in the background, Orbax waits for it forever.
    context.async_options.create_directories_asynchronously = False
    saving = context.array_options.saving
    saving.use_compression = False  # saves 8 % of a network's weights and takes twice the time
    saving.enable_post_merge_validation = False
    saving.array_metadata_store = None
    return context


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Converts any exception of Orbax to an OSError with a message of one line."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # Orbax raises ValueError, and TensorStore bare Exceptions
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if code:
            raise OSError(os.strerror(int(code[1]))) from error
        raise OSError((str(error) or type(error).__name__).splitlines()[0]) from error


@contextlib.contextmanager
def _quiet_orbax() -> Iterator[None]:
    """Suppresses Orbax's log, which has tracebacks of failures that it also raises."""
    logger = logging.getLogger("absl")
    logger.addFilter(_is_not_orbax)
    yield
    logger.removeFilter(_is_not_orbax)  # kept after a failure: abandoned writes still log


def _is_not_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}" not in record.pathname
