"""Reads checkpoint files without running code from them, and writes checkpoint files atomically."""

import contextlib
import io
import json
import os
import re
import stat
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import InputError, check_path
from jaxnets.disk import replacing
from jaxnets.interop import inert, pickles
from jaxnets.interop.conversion import Unreadable
from jaxnets.interop.report import listed
from jaxnets.optional import require

#: NumPy's dtypes by the dtype names of safetensors.
_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
    "C64": np.complex64,
}
_HEADER_LIMIT = 100_000_000  # largest header of a safetensors file in bytes
_MOST_UNPACKED = 2**30  # largest unpacked size in bytes of a highly compressed archive
_OLD_PICKLES = b"(}]c"  # possible first bytes of pickles in protocols 0 and 1
_TRUSTED = "torch.load(path, weights_only=False)"
_SAVE_INSTEAD = "save model.state_dict() instead"
#: First bytes of files that are often mistaken for checkpoints, with a description.
_LOOKS: tuple[tuple[bytes, str], ...] = (
    (b"<", "a web page: download the file itself, not its page"),
    (b"version https://git-lfs", "a pointer of Git LFS: run `git lfs pull` for the file itself"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"{", "JSON, but not the index of a checkpoint in several files"),
    (b"", "no known format"),
)


def read(path: str | os.PathLike[str]) -> Any:
    """Reads a checkpoint; the format is recognized by the content of the file.

    Args:
        path: a file written by ``torch.save``, ``pickle.dump``, safetensors or ``numpy.savez``,
            with any file name; or the index of a checkpoint in several files.

    Returns:
        The content of the file, for a valid checkpoint a mapping of tensors or NumPy arrays.

    Raises:
        InputError: if there is no such file, its format is not supported, it is damaged, or it
            contains more than data.
        ImportError: if the package that reads the format is not installed.
    """
    path = check_path("source", path, "a checkpoint file")
    return _read_index(path) if _is_index(path) else _read_one(path)


def _read_one(path: Path) -> Any:
    """Reads a checkpoint file that is not an index."""
    if not path.is_file():
        kind = "is a folder" if path.is_dir() else "does not exist"
        raise _refused(path, f"which {kind}", "a checkpoint file")
    with path.open("rb") as file:
        head = file.read(100)
    # A safetensors file begins with the length of its header in 8 bytes, then the JSON header.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _HEADER_LIMIT:
        return _read_safetensors(path)
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(path)
    if head.startswith(b"\x80"):
        return _read_pickle(path)
    if not head:
        raise _refused(path, "which is empty")
    if head[0] in _OLD_PICKLES and pickles.is_pickle(path.read_bytes()):
        return _read_pickle(path)
    look = next(look for start, look in _LOOKS if head.lstrip().startswith(start))
    raise _refused(path, f"which begins with {_quoted(head)}: {look}")


def _is_index(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size > _HEADER_LIMIT:
        return False
    with path.open("rb") as file:
        return file.read(1) == b"{" and bool(_weight_map(path))


def _weight_map(path: Path) -> dict[str, str]:
    """Returns the file name of each array from an index; empty for any other JSON."""
    try:
        names = json.loads(path.read_bytes())["weight_map"]
    except (LookupError, RecursionError, TypeError, ValueError):
        return {}
    plain = isinstance(names, dict) and all(isinstance(name, str) for name in names.values())
    return names if plain else {}


def _read_index(path: Path) -> dict[str, Any]:
    """Reads the arrays of a checkpoint in several files from the path of its index."""
    names = _weight_map(path)
    arrays: dict[str, Any] = {}
    for part in dict.fromkeys(names.values()):
        if part in ("", "..") or Path(part).name != part:
            raise _refused(path, f"which names {part!r}, a file in another folder")
        if not (path.parent / part).is_file():
            raise _refused(path, f"whose part {part} is not in the same folder")
        found = _read_one(path.parent / part)
        if not isinstance(found, Mapping):
            raise _refused(path, f"whose part {part} contains a {type(found).__name__}")
        arrays |= found
    if lacking := [name for name in names if name not in arrays]:
        raise _refused(path, f"whose parts lack {listed(lacking)}")
    return {name: arrays[name] for name in names}


def _quoted(head: bytes) -> str:
    return repr(head[:32])[1:]


def _refused(
    path: Path, reason: str, expected: str = "a file of torch.save, safetensors or numpy.savez"
) -> InputError:
    return InputError("source", expected, f"{path}, {reason}")


def _read_safetensors(path: Path) -> dict[str, np.ndarray | Unreadable]:
    safetensors = require("safetensors", extra="torch", feature="reading .safetensors files")
    try:
        # The NumPy reader of safetensors does not support bfloat16, so the bytes are viewed here.
        found = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        if unknown := re.search(r"unknown variant `(\w+)`", str(error)):
            reason = f"which has the dtype {unknown[1]}: update safetensors, which lacks it"
            raise _refused(path, reason) from error
        raise _refused(path, f"which is damaged or incomplete ({error})") from error
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    contents = dict(found)  # in arbitrary order; the header has the order of the file
    return {name: _array(contents[name]) for name in header if name in contents}


def _array(found: Mapping[str, Any]) -> np.ndarray | Unreadable:
    """Returns an array of a safetensors file, or a placeholder if NumPy lacks its dtype."""
    name, shape = found["dtype"], found["shape"]
    if name not in _DTYPES:
        return Unreadable(name, tuple(shape), numbers=True)
    return np.frombuffer(found["data"], _DTYPES[name]).reshape(shape)


def _read_zip(path: Path) -> Any:
    """Reads a zip archive written by torch.save or numpy.savez, recognized by its records."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            size = sum(record.file_size for record in records)
            if size > _MOST_UNPACKED and size > 100 * path.stat().st_size:
                raise _refused(path, f"which would unpack to {size:,} bytes")
            # torch.save has an option to omit checksums, which writes zeros.
            checked = any(record.CRC for record in records)
            damaged = archive.testzip() if checked else None
    except InputError:
        raise
    except Exception as error:  # damage raises many kinds of exceptions
        reason = f"which is damaged or incomplete ({_first_line(error)})"
        raise _refused(path, reason) from error
    names = [record.filename for record in records]
    if damaged is not None:
        raise _refused(path, f"which is damaged: the checksum of its record {damaged} is wrong")
    if any(name.endswith("/constants.pkl") for name in names):
        raise _refused(path, f"which is a TorchScript archive; {_SAVE_INSTEAD}")
    if names and all(name.endswith(".npy") for name in names):
        return _read_npz(path)
    if not any(name.endswith("data.pkl") for name in names):
        raise _refused(path, f"which is a zip archive of {', '.join(names[:5]) or 'nothing'}")
    return _read_torch(path)


def _read_npz(path: Path) -> dict[str, np.ndarray | Unreadable]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: _array_of_npz(arrays, name) for name in arrays.files}
    except Exception as error:
        raise _refused(path, f"which is damaged ({_first_line(error)})") from error


def _array_of_npz(arrays: Any, name: str) -> np.ndarray | Unreadable:
    try:
        return arrays[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        return Unreadable("object")


def _read_torch(path: Path) -> Any:
    """Reads an archive of torch.save."""
    _check_torch(path)
    return _read_in_either(path, pickles.is_read_of_archive, pickles.archive_in_protocol_2)


def _read_pickle(path: Path) -> Any:
    """Reads a pickle of arrays, or a file of torch.save in the format before archives."""
    _check_torch(path)
    with path.open("rb") as file:
        legacy = pickles.is_legacy(file.read(100))
    if legacy:
        return _read_in_either(path, pickles.is_read_of_legacy, pickles.legacy_in_protocol_2)
    try:
        with path.open("rb") as file:
            pickles.is_read(file)
        return _load(io.BytesIO(pickles.archive_of(path.read_bytes())))
    except Exception as error:  # damage raises many kinds of exceptions
        raise _refused(path, _why_not(error, 'pickle.load(open(path, "rb"))')) from error


def _read_in_either(
    path: Path, is_read: Callable[[BinaryIO], bool], rewritten: Callable[[bytes], bytes]
) -> Any:
    """Loads a file, rewritten first if torch does not read the protocol of its pickle."""
    try:
        with path.open("rb") as file:  # opened here, as torch.load interprets a path's suffix
            if is_read(file):
                file.seek(0)
                return _load(file)
        return _load(io.BytesIO(rewritten(path.read_bytes())))
    except Exception as error:
        raise _refused(path, _why_not(error)) from error


def _check_torch(path: Path) -> None:
    torch = require("torch", extra="torch", feature="reading files of torch.save")
    version = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if version is None or tuple(map(int, version.groups())) < (2, 6):
        raise _refused(
            path,
            f"which torch {torch.__version__} cannot read safely: before 2.6, weights_only lets "
            "a file run code (CVE-2025-32434); update torch or use a .safetensors file",
        )


def _load(file: BinaryIO) -> Any:
    """Loads a file with ``torch.load(weights_only=True)``, which runs no code from the file."""
    import torch

    with warnings.catch_warnings(), torch.serialization.safe_globals(inert.safe_globals()):
        warnings.simplefilter("ignore")  # torch warns about old pickles
        return torch.load(file, map_location="cpu", weights_only=True)


def _why_not(error: Exception, trusted: str = _TRUSTED) -> str:
    stranger = re.search(r"GLOBAL (\S+) (was not|whose)", str(error))
    # Torch blocks all names of modules such as os, posix and sys with this message.
    if stranger is not None and stranger[2] == "whose":
        return f"which would run {stranger[1]}, as malicious files do"
    if stranger is not None:
        holds = f"which contains {stranger[1]} and not just data"
    elif more := re.search(r"(Can only|Trying to call|\S+ must be imported)[^.]*", str(error)):
        holds = f"which contains more than data ({more[0]})"
    else:
        return f"which is damaged, incomplete or not a checkpoint ({_first_line(error)})"
    return (
        f"{holds}; if you trust the file: load_torch(model, {trusted}), "
        f"or {trusted}.state_dict() if it is a whole module"
    )


def _first_line(error: Exception) -> str:
    line = str(error).partition("\n")[0].partition(". ")[0]
    return line or type(error).__name__


def write_safetensors(arrays: Mapping[str, np.ndarray], path: str | os.PathLike[str]) -> None:
    """Writes arrays to a .safetensors file that PyTorch libraries can read.

    Raises:
        InputError: if the file cannot be written.
        ImportError: if safetensors is not installed.
    """
    require("safetensors", extra="torch", feature="writing .safetensors files")
    from safetensors.numpy import save_file

    with _replacing(path) as partial:
        save_file(dict(arrays), partial, metadata={"format": "pt"})


def write_torch(tensors: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes tensors with ``torch.save``.

    Raises:
        InputError: if the file cannot be written.
        ImportError: if torch is not installed.
    """
    torch = require("torch", extra="torch", feature="writing files of torch.save")
    with _replacing(path) as partial:
        torch.save(tensors, partial)


@contextlib.contextmanager
def _replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path in the same folder, which replaces ``path`` when it is complete."""
    path = check_path("path", path, "a file in a folder that exists")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError("path", "a file in a folder that exists", str(path))
    try:
        with replacing(path) as partial:
            partial.touch()
            # The file keeps the mode of the replaced file, or the default mode of a new file;
            # safetensors would set another mode.
            mode = (path if path.exists() else partial).stat().st_mode
            yield partial
            partial.chmod(stat.S_IMODE(mode))
    except OSError as error:
        raise InputError("path", "a file that can be written", f"{path}: {error}") from error
