"""NumPy's own files: ``.npy`` with an array, ``.npz`` with several; known by their headers."""

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from jaxnets.arrays import InputError
from jaxnets.data.streaming import Records

_DAMAGE = (ValueError, LookupError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_LOCAL_HEADER = 30  # bytes before a member's name in a zip file
_LENGTHS = 26  # where in them the lengths of the name and of what follows it stand


@dataclass(frozen=True)
class StoredArray:
    """An array in a file, known by its header.

    Args:
        name: what it is called.
        shape: its shape.
        dtype: its dtype.
        read: reads it into memory.
        records: its parts along the first axis, where they can be read one by one.
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
    """The arrays of a ``.npz`` file by their names.

    Raises:
        InputError: if the file is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
            arrays = [_member(path, archive, entry) for entry in entries]
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return {array.name: array for array in arrays}


def folder(path: Path) -> dict[str, StoredArray]:
    """The arrays of the ``.npy`` files in a folder, by the files' names.

    Raises:
        InputError: if a file is damaged.
    """
    return {file.stem: _file(file) for file in sorted(path.glob("*.npy"))}


def _file(path: Path) -> StoredArray:
    def read() -> np.ndarray:
        try:
            return np.load(path, allow_pickle=False)
        except _DAMAGE as error:
            raise _damaged(path, error) from error

    try:
        with open(path, "rb") as file:
            shape, fortran, dtype = _header(file)
            start = None if fortran else file.tell()
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return _stored(path, path.stem, shape, dtype, start, read)


def _member(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> StoredArray:
    name = entry.filename.removesuffix(".npy")

    def read() -> np.ndarray:
        try:  # by zipfile, which looks at the checksum
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                return arrays[name]
        except _DAMAGE as error:
            raise _damaged(path, error) from error

    with archive.open(entry) as file:
        shape, fortran, dtype = _header(file)
        start = file.tell()
    if fortran or entry.compress_type != zipfile.ZIP_STORED:
        return _stored(path, name, shape, dtype, None, read)
    return _stored(path, name, shape, dtype, _start(path, entry) + start, read)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the format, which is for records with names")
    return _HEADERS[version](file)


def _start(path: Path, entry: zipfile.ZipInfo) -> int:
    """Where a member's content starts: its own header has not the length that the list gives."""
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


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(str(path), f"an undamaged {path.suffix} file", f"{error!r}")
