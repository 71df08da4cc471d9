"""NumPy's files: ``.npy`` with one array and ``.npz`` with several, opened by their headers."""

import contextlib
import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from jaxnets.arrays import InputError
from jaxnets.data.streaming import Records

_DAMAGE = (
    ValueError, LookupError, EOFError, RuntimeError, ArithmeticError, MemoryError, SyntaxError,
    struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_MOST_HEADER = 2**17  # bytes; headers of numeric arrays are smaller
_MOST_PACKED = 1032  # the largest compression ratio of Deflate
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_LOCAL_HEADER = 30  # bytes of a zip member's local header, before its name
_LENGTHS = 26  # offset of the lengths of the name and of the extra field in the local header


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, of which only the header has been read.

    Args:
        name: the name of the array.
        shape: its shape.
        dtype: its dtype.
        read: a function that reads the array into memory.
        records: the array for streaming along the first axis, or None if that is impossible.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
    records: Records | None

    def __len__(self) -> int:
        """The size of the first axis."""
        return self.shape[0]


def members(path: Path) -> dict[str, StoredArray]:
    """Opens the arrays of a ``.npz`` file, by name.

    Raises:
        InputError: if the file is damaged.
    """
    with _undamaged(path), zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
        arrays = [_member(path, archive, entry) for entry in entries]
    return {array.name: array for array in arrays}


def folder(path: Path) -> dict[str, StoredArray]:
    """Opens the arrays of the ``.npy`` files in a folder, by file name.

    Raises:
        InputError: if a file is damaged.
    """
    return {file.stem: _file(file) for file in sorted(path.glob("*.npy"))}


def _file(path: Path) -> StoredArray:
    def read() -> np.ndarray:
        with _undamaged(path):
            return np.load(path, allow_pickle=False)

    with _undamaged(path), open(path, "rb") as file:
        shape, fortran, dtype, start = _header(file, str(path), path.stat().st_size)
    return _stored(path, path.stem, shape, dtype, None if fortran else start, read)


def _member(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> StoredArray:
    name = entry.filename.removesuffix(".npy")

    def read() -> np.ndarray:
        # By zipfile, which verifies the checksum.
        with (
            _undamaged(path),
            open(path, "rb") as file,
            np.load(file, allow_pickle=False) as arrays,
        ):
            return arrays[name]

    _check_packing(name, entry)
    with archive.open(entry) as file:
        shape, fortran, dtype, start = _header(file, f"{path}, {name}", entry.file_size)
    if fortran or entry.compress_type != zipfile.ZIP_STORED:
        return _stored(path, name, shape, dtype, None, read)
    return _stored(path, name, shape, dtype, _start(path, entry) + start, read)


def _check_packing(name: str, entry: zipfile.ZipInfo) -> None:
    """Checks that an entry does not claim a larger size than its compressed bytes can have."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed by a method that NumPy does not use")
    if entry.file_size > (entry.compress_size + 1) * _MOST_PACKED:
        sizes = f"{entry.file_size} bytes, but only {entry.compress_size} compressed bytes"
        raise ValueError(f"{name} has {sizes}")


def _header(file: IO[bytes], name: str, length: int) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Reads a header: shape, whether it is in Fortran order, dtype, offset of the elements."""
    head = io.BytesIO(file.read(_MOST_HEADER))
    version = np.lib.format.read_magic(head)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the .npy format is not supported")
    shape, fortran, dtype = _HEADERS[version](head)
    if any(side < 0 for side in shape):
        raise ValueError(f"an array of shape {shape}")
    size = head.tell() + math.prod(shape) * dtype.itemsize
    if size > length and not dtype.hasobject:
        expected = f"{size} bytes for {dtype}[{', '.join(map(str, shape))}]"
        raise InputError(name, expected, f"{length} bytes (truncated)")
    return shape, fortran, dtype, head.tell()


def _start(path: Path, entry: zipfile.ZipInfo) -> int:
    """Returns the offset of a member's content.

    The local header must be read, because its length may differ from that in the central directory.
    """
    with open(path, "rb") as file:
        file.seek(entry.header_offset)
        header = file.read(_LOCAL_HEADER)
    name, extra = (int.from_bytes(header[k : k + 2], "little") for k in (_LENGTHS, _LENGTHS + 2))
    return entry.header_offset + _LOCAL_HEADER + name + extra


def _stored(
    path: Path,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype,
    start: int | None,
    read: Callable[[], np.ndarray],
) -> StoredArray:
    numbers = dtype.kind in "buif" and shape and 0 not in shape
    records = Records(path, start, shape, dtype) if numbers and start is not None else None
    return StoredArray(name, shape, dtype, read, records)


@contextlib.contextmanager
def _undamaged(path: Path) -> Iterator[None]:
    """Converts exceptions of NumPy and zipfile to an ``InputError`` about a damaged file."""
    try:
        yield
    except InputError:
        raise
    except _DAMAGE as error:
        raise InputError(str(path), f"an undamaged {path.suffix} file", f"{error!r}") from error
