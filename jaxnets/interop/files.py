"""Checkpoint files: read without running anything that they say, written whole or not at all."""

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

#: Safetensors' names of dtypes.
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
_HEADER_LIMIT = 100_000_000  # bytes that safetensors allows for its header
_MOST_UNPACKED = 2**30  # bytes of an archive that is a small file
_OLD_PICKLES = b"(}]c"  # how those of protocols 0 and 1 begin
_TRUSTED = "torch.load(path, weights_only=False)"
_SAVE_INSTEAD = "save model.state_dict() instead"
#: How files begin that come in place of a checkpoint.
_LOOKS: tuple[tuple[bytes, str], ...] = (
    (b"<", "a web page: was it downloaded by its page's address?"),
    (b"version https://git-lfs", "a pointer of Git LFS: run `git lfs pull` for the file itself"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"{", "JSON, and no index of a checkpoint in several files"),
    (b"", "nothing known"),
)


def read(path: str | os.PathLike[str]) -> Any:
    """Reads a checkpoint, of whichever of the known formats its content shows.

    Args:
        path: a file written by ``torch.save``, ``pickle.dump``, safetensors or ``numpy.savez``,
            whatever its name; or the index of a checkpoint in several files.

    Returns:
        What the file holds: a mapping of tensors or NumPy arrays if all is well.

    Raises:
        InputError: if there is no such file, it is not one of the formats, it is damaged, or it
            holds more than data.
        ImportError: if the package that reads the format is not installed.
    """
    path = check_path("source", path, "a checkpoint file")
    return _read_index(path) if _is_index(path) else _read_one(path)


def _read_one(path: Path) -> Any:
    """Reads a file that holds arrays itself."""
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no file"
        raise _refused(path, f"which is {kind}", "a checkpoint file")
    with path.open("rb") as file:
        head = file.read(100)
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
    raise _refused(path, f"which begins with {_quoted(head)} and looks like {look}")


def _is_index(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size > _HEADER_LIMIT:
        return False
    with path.open("rb") as file:
        return file.read(1) == b"{" and bool(_weight_map(path))


def _weight_map(path: Path) -> dict[str, str]:
    """From names of arrays to those of files, as an index has it; empty for any other JSON."""
    try:
        names = json.loads(path.read_bytes())["weight_map"]
    except (LookupError, RecursionError, TypeError, ValueError):
        return {}
    plain = isinstance(names, dict) and all(isinstance(name, str) for name in names.values())
    return names if plain else {}


def _read_index(path: Path) -> dict[str, Any]:
    """The arrays of a checkpoint in several files, by the file that says which are where."""
    names = _weight_map(path)
    arrays: dict[str, Any] = {}
    for part in dict.fromkeys(names.values()):
        if part in ("", "..") or Path(part).name != part:
            raise _refused(path, f"which names {part!r}, a file in another folder")
        if not (path.parent / part).is_file():
            raise _refused(path, f"whose part {part} is not beside it")
        found = _read_one(path.parent / part)
        if not isinstance(found, Mapping):
            raise _refused(path, f"whose part {part} holds a {type(found).__name__}")
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
        # Its reader for NumPy knows no bfloat16, so the bytes are viewed here.
        found = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        if unknown := re.search(r"unknown variant `(\w+)`", str(error)):
            reason = f"which has the dtype {unknown[1]}, unknown to safetensors: update it"
            raise _refused(path, reason) from error
        raise _refused(path, f"which is damaged or incomplete ({error})") from error
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    contents = dict(found)  # in no certain order
    return {name: _array(contents[name]) for name in header if name in contents}


def _array(found: Mapping[str, Any]) -> np.ndarray | Unreadable:
    """One of safetensors' arrays; of a dtype that NumPy lacks, what says so when it is needed."""
    name, shape = found["dtype"], found["shape"]
    if name not in _DTYPES:
        return Unreadable(name, tuple(shape), numbers=True)
    return np.frombuffer(found["data"], _DTYPES[name]).reshape(shape)


def _read_zip(path: Path) -> Any:
    """A zip archive: one of torch.save or of numpy.savez, by what is in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            size = sum(record.file_size for record in records)
            if size > _MOST_UNPACKED and size > 100 * path.stat().st_size:
                raise _refused(path, f"which would unpack to {size:,} bytes")
            # torch.save can be told to leave them out, which it does by zeros.
            checked = any(record.CRC for record in records)
            damaged = archive.testzip() if checked else None
    except InputError:
        raise
    except Exception as error:  # damage shows in many ways
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
    """An archive of torch.save."""
    _check_torch(path)
    return _read_in_either(path, pickles.is_read_of_archive, pickles.archive_in_protocol_2)


def _read_pickle(path: Path) -> Any:
    """A file of torch.save from before it wrote archives, or a pickle of arrays."""
    _check_torch(path)
    with path.open("rb") as file:
        legacy = pickles.is_legacy(file.read(100))
    if legacy:
        return _read_in_either(path, pickles.is_read_of_legacy, pickles.legacy_in_protocol_2)
    try:
        with path.open("rb") as file:
            pickles.is_read(file)
        return _load(io.BytesIO(pickles.archive_of(path.read_bytes())))
    except Exception as error:  # a damaged pickle can fail in any way
        raise _refused(path, _why_not(error, 'pickle.load(open(path, "rb"))')) from error


def _read_in_either(
    path: Path, is_read: Callable[[BinaryIO], bool], rewritten: Callable[[bytes], bytes]
) -> Any:
    """A file as it is, or rewritten if its pickle is of a protocol that torch does not read."""
    try:
        with path.open("rb") as file:  # opened here, as torch.load goes by a path's suffix
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
    """What ``torch.load`` makes of a file without running anything that it says."""
    import torch

    with warnings.catch_warnings(), torch.serialization.safe_globals(inert.safe_globals()):
        warnings.simplefilter("ignore")  # about the age of a file's pickle
        return torch.load(file, map_location="cpu", weights_only=True)


def _why_not(error: Exception, trusted: str = _TRUSTED) -> str:
    stranger = re.search(r"GLOBAL (\S+) (was not|whose)", str(error))
    if stranger is not None and stranger[2] == "whose":  # module torch blocks: os, posix, sys
        return f"which would run {stranger[1]}, as malicious files do"
    if stranger is not None:
        holds = f"which holds {stranger[1]} and not just data"
    elif more := re.search(r"(Can only|Trying to call|\S+ must be imported)[^.]*", str(error)):
        holds = f"which holds more than data ({more[0]})"
    else:
        return f"which is damaged, incomplete or no checkpoint ({_first_line(error)})"
    return (
        f"{holds}; if you trust the file: load_torch(model, {trusted}), "
        f"or {trusted}.state_dict() if it is a whole module"
    )


def _first_line(error: Exception) -> str:
    line = str(error).partition("\n")[0].partition(". ")[0]
    return line or type(error).__name__


def write_safetensors(arrays: Mapping[str, np.ndarray], path: str | os.PathLike[str]) -> None:
    """Writes arrays to a .safetensors file, as PyTorch's libraries expect it.

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
    """A file beside the path that takes its place when it is complete."""
    path = check_path("path", path, "a file in a folder that exists")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError("path", "a file in a folder that exists", str(path))
    try:
        with replacing(path) as partial:
            partial.touch()
            # Of the file that is replaced, or what the umask says; safetensors has its own.
            mode = (path if path.exists() else partial).stat().st_mode
            yield partial
            partial.chmod(stat.S_IMODE(mode))
    except OSError as error:
        raise InputError("path", "a file that can be written", f"{path}: {error}") from error
