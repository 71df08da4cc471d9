"""The IDX format, in which MNIST and similar data sets are published.

A file is two zero bytes, one byte for the type of the elements, one for the number of axes, the
size of each axis as four bytes, and the elements in C order; everything big-endian.
"""

import contextlib
import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from jaxnets.arrays import InputError, describe
from jaxnets.data.streaming import Records

#: The dtype of each type code.
TYPES: dict[int, np.dtype] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(np.int16),
    0x0C: np.dtype(np.int32),
    0x0D: np.dtype(np.float32),
    0x0E: np.dtype(np.float64),
}
_CODES = {dtype: code for code, dtype in TYPES.items()}
_GZIP_MAGIC = b"\x1f\x8b"
_MOST_PACKED = 1032  # the largest compression ratio of gzip
_MOST_AXES = 64  # NumPy's limit; the format allows 255


def read(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads an IDX file, plain or compressed by gzip, which is detected by its content.

    Args:
        path: the file. At most the size in its header is read.

    Returns:
        The array, in the byte order of this machine.

    Raises:
        InputError: if the file is not a complete, undamaged IDX file; the message names it.
        OSError: if the file cannot be read.
    """
    header = read_header(path)
    with _unpacked(path) as file:
        data = file.read(header.size)
        more = len(file.read(2))
    if more > 1:  # not counted: a small gzip file may unpack to very many bytes
        got = f"more than {header.size + 1} bytes (trailing bytes)"
        raise InputError(str(path), f"{header.size} bytes for {header}", got)
    _check_length(header, str(path), len(data) + more)
    return _elements(data, header, str(path))


def read_header(path: str | os.PathLike[str]) -> "Header":
    """Reads the header of an IDX file, plain or compressed.

    Args:
        path: the file.

    Raises:
        InputError: if the header is invalid, or the file is too short for its array.
        OSError: if the file cannot be read.
    """
    with _unpacked(path) as file:
        header = _header(file.read(4 + 4 * _MOST_AXES), str(path))
    length = Path(path).stat().st_size
    if not _is_packed(path):
        _check_length(header, str(path), length)
    elif header.size > (length + 1) * _MOST_PACKED:
        expected = f"{header.size} bytes for {header}"
        raise InputError(str(path), expected, f"{length} bytes of gzip (truncated)")
    return header


@contextlib.contextmanager
def _unpacked(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Opens a file for reading, and decompresses it if it is compressed."""
    if not _is_packed(path):
        with open(path, "rb") as file:
            yield file
        return
    try:
        with gzip.open(path) as packed:
            yield packed  # type: ignore[misc]
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(str(path), "an undamaged gzip file", str(error)) from error


def _is_packed(path: str | os.PathLike[str]) -> bool:
    with open(path, "rb") as file:
        return file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC


def decode(data: bytes, *, name: str = "data") -> np.ndarray:
    r"""Reads an array from the bytes of an IDX file; the inverse of ``encode``.

    Args:
        data: the whole file, uncompressed.
        name: name of the bytes in error messages, such as the file's path.

    Returns:
        The array, in the byte order of this machine.

    Raises:
        InputError: if the bytes are not exactly one IDX array.

    Examples:
        >>> decode(bytes([0, 0, 0x08, 1, 0, 0, 0, 3, 5, 6, 7]))
        array([5, 6, 7], dtype=uint8)
    """
    header = _header(data, name)
    _check_length(header, name, len(data))
    return _elements(data, header, name)


def _elements(data: bytes, header: "Header", name: str) -> np.ndarray:
    elements = np.frombuffer(data, header.dtype.newbyteorder(">"), offset=header.start)
    try:
        return elements.reshape(header.shape).astype(header.dtype)
    except ValueError as error:  # axes too long for NumPy, even if the array has no elements
        raise InputError(name, "an array that NumPy can hold", str(header)) from error


def records(path: Path) -> Records | None:
    """Opens the array in an IDX file for streaming; returns None if the file is compressed.

    Args:
        path: the file.

    Raises:
        InputError: if the file is not a complete IDX file; the message names it.
        OSError: if the file cannot be read.
    """
    if _is_packed(path):
        return None
    header = read_header(path)
    if not header.shape:
        raise InputError(str(path), "an array with a batch axis", str(header))
    return Records(path, header.start, header.shape, header.dtype.newbyteorder(">"))


@dataclass(frozen=True)
class Header:
    """The header of an IDX file.

    Args:
        dtype: dtype of the elements, in the byte order of this machine.
        shape: the size of each axis.
    """

    dtype: np.dtype
    shape: tuple[int, ...]

    def __len__(self) -> int:
        """The size of the first axis."""
        return self.shape[0]

    def __str__(self) -> str:
        """Returns dtype and shape, as ``describe`` formats them."""
        return describe(self)

    @property
    def start(self) -> int:
        """Offset of the elements in the file, in bytes."""
        return 4 + 4 * len(self.shape)

    @property
    def size(self) -> int:
        """Size of the whole uncompressed file, in bytes."""
        return self.start + math.prod(self.shape) * self.dtype.itemsize


def _header(data: bytes, name: str) -> Header:
    """Parses the header at the beginning of a file."""
    if not data:
        raise InputError(name, "an IDX file", "an empty file")
    if any(data[:2]):
        expected = "an IDX file, which starts with two zero bytes"
        raise InputError(name, expected, f"the bytes {data[:4].hex(' ')}")
    if len(data) < 4:
        raise InputError(name, "an IDX header", f"{len(data)} bytes (truncated)")
    code, axes = data[2], data[3]
    if code not in TYPES:
        known = ", ".join(f"{known:02x}" for known in TYPES)
        raise InputError(name, f"an IDX element type out of {known}", f"{code:02x}")
    if axes > _MOST_AXES:
        raise InputError(name, f"at most {_MOST_AXES} axes", axes)
    start = 4 + 4 * axes
    if len(data) < start:
        expected = f"an IDX header of {start} bytes for {axes} axes"
        raise InputError(name, expected, f"{len(data)} bytes (truncated)")
    return Header(TYPES[code], struct.unpack_from(f">{axes}I", data, 4))


def _check_length(header: Header, name: str, length: int) -> None:
    if length != header.size:
        fault = "truncated" if length < header.size else "trailing bytes"
        raise InputError(name, f"{header.size} bytes for {header}", f"{length} bytes ({fault})")


def encode(array: np.ndarray) -> bytes:
    """Writes an array as the bytes of an IDX file; the inverse of ``decode``.

    Args:
        array: any shape, of an element type in ``TYPES`` and either byte order.

    Raises:
        InputError: if the format has no such element type.

    Examples:
        >>> encode(np.array([5, 6, 7], np.uint8)).hex(" ")
        '00 00 08 01 00 00 00 03 05 06 07'
    """
    code = _CODES.get(array.dtype.newbyteorder("="))
    if code is None:
        raise InputError("array", f"one of {', '.join(map(str, _CODES))}", describe(array))
    header = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    return header + array.astype(TYPES[code].newbyteorder(">")).tobytes()
