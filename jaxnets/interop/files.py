"""Checkpoint files: read without running anything that they say, written whole or not at all."""

import contextlib
import json
import os
import re
import stat
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import InputError, check_path
from jaxnets.interop import inert
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
}
_HEADER_LIMIT = 100_000_000  # bytes that safetensors allows for its header
_SAVE_INSTEAD = "save model.state_dict() instead"
#: How files begin that come in place of a checkpoint.
_LOOKS: tuple[tuple[bytes, str], ...] = (
    (b"<", "a web page: was it downloaded by its page's address?"),
    (b"version https://git-lfs", "a pointer of Git LFS: run `git lfs pull` for the file itself"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"{", "JSON: of an index, load the files that it names"),
    (b"", "nothing known"),
)


def read(path: str | os.PathLike[str]) -> Any:
    """Reads a checkpoint, of whichever of the known formats its content shows.

    Args:
        path: a file written by ``torch.save``, safetensors or ``numpy.savez``, whatever its name.

    Returns:
        What the file holds: a mapping of tensors or NumPy arrays if all is well.

    Raises:
        InputError: if there is no such file, it is none of the formats, it is damaged, or it
            holds more than data.
        ImportError: if the package that reads the format is not installed.
    """
    path = check_path("source", path, "a checkpoint file")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no file"
        raise _refused(path, f"which is {kind}", "a checkpoint file")
    with path.open("rb") as file:
        head = file.read(100)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _HEADER_LIMIT:
        return _read_safetensors(path)
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(path)
    if head.startswith(b"\x80"):  # as of old, a pickle
        return _read_torch(path)
    if not head:
        raise _refused(path, "which is empty")
    look = next(look for start, look in _LOOKS if head.lstrip().startswith(start))
    raise _refused(path, f"which begins with {_quoted(head)} and looks like {look}")


def _quoted(head: bytes) -> str:
    return repr(head[:32])[1:]


def _refused(
    path: Path, reason: str, expected: str = "a file of torch.save, safetensors or numpy.savez"
) -> InputError:
    return InputError("source", expected, f"{path}, {reason}")


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    safetensors = require("safetensors", extra="torch", feature="reading .safetensors files")
    try:
        # Its reader for NumPy knows no bfloat16, so the bytes are viewed here.
        found = safetensors.deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise _refused(path, f"which is damaged or incomplete ({error})") from error
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    contents = dict(found)  # in no certain order
    arrays = {}
    for name in filter(contents.__contains__, header):
        array = contents[name]
        if array["dtype"] not in _DTYPES:
            raise _refused(path, f"in which {name} is of the unknown dtype {array['dtype']}")
        flat = np.frombuffer(array["data"], _DTYPES[array["dtype"]])
        arrays[name] = flat.reshape(array["shape"])
    return arrays


def _read_zip(path: Path) -> Any:
    """A zip archive: one of torch.save or of numpy.savez, by what is in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            # torch.save can be told to leave them out, which it does by zeros.
            checked = any(record.CRC for record in records)
            damaged = archive.testzip() if checked else None
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


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:
        reason = f"which is damaged or holds more than plain arrays ({_first_line(error)})"
        raise _refused(path, reason) from error


def _read_torch(path: Path) -> Any:
    torch = require("torch", extra="torch", feature="reading files of torch.save")
    version = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if version is None or tuple(map(int, version.groups())) < (2, 6):
        raise _refused(
            path,
            f"which torch {torch.__version__} cannot read safely: before 2.6, weights_only lets "
            "a file run code (CVE-2025-32434); update torch or use a .safetensors file",
        )
    try:
        # Opened here, as torch.load goes by a path's suffix.
        with (
            path.open("rb") as file,
            warnings.catch_warnings(),
            torch.serialization.safe_globals(inert.safe_globals()),
        ):
            warnings.simplefilter("ignore")  # about the age of a file's pickle
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can fail in any way
        raise _refused(path, _why_not(error)) from error


def _why_not(error: Exception) -> str:
    stranger = re.search(r"GLOBAL (\S+) (was not|whose)", str(error))
    if stranger is None:
        return f"which is damaged, incomplete or no checkpoint ({_first_line(error)})"
    if stranger[2] == "whose":  # module torch blocks: os, posix, sys
        return f"which would run {stranger[1]}, as malicious files do"
    trusted = "torch.load(path, weights_only=False)"
    return (
        f"which holds {stranger[1]} and not just data; if you trust the file: "
        f"load_torch(model, {trusted}), or {trusted}.state_dict() if it is a whole module"
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
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        partial.touch()
        # The mode of the file that is replaced, or what the umask says; safetensors has its own.
        mode = (path if path.exists() else partial).stat().st_mode
        yield partial
        partial.chmod(stat.S_IMODE(mode))
        partial.replace(path)
    except OSError as error:
        raise InputError("path", "a file that can be written", f"{path}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
