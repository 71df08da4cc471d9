"""The IDX format, in which MNIST and its relatives are published.

A file is two zero bytes, one byte for the type of the elements, one for the number of axes, the
size of each axis as four bytes, and the elements in C order; everything big-endian.
"""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from jaxnets.arrays import InputError, describe
from jaxnets.data.streaming import Records

#: The element type that each type code stands for.
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
_MOST_AXES = 64  # as many as NumPy allows; the format would allow 255


def read(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads an IDX file, plain or compressed by gzip: its content tells, not its name.

    Args:
        path: the file.

    Returns:
        The array, in the byte order of this machine.

    Raises:
        InputError: if the file is not a complete, undamaged IDX file; it names the file.
        OSError: if the file cannot be read.
    """
    data = Path(path).read_bytes()
    if data.startswith(_GZIP_MAGIC):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(str(path), "an undamaged gzip file", str(error)) from error
    return decode(data, name=str(path))


def decode(data: bytes, *, name: str = "data") -> np.ndarray:
    r"""Reads an array from the bytes of an IDX file; the inverse of ``encode``.

    Args:
        data: the whole file, not compressed.
        name: what an error message calls the bytes, such as the file's path.

    Returns:
        The array, in the byte order of this machine.

    Raises:
        InputError: if the bytes are not exactly one IDX array.

    Examples:
        >>> decode(bytes([0, 0, 0x08, 1, 0, 0, 0, 3, 5, 6, 7]))
        array([5, 6, 7], dtype=uint8)
    """
    dtype, shape, start = _header(data, name, len(data))
    elements = np.frombuffer(data, dtype.newbyteorder(">"), offset=start)
    try:
        return elements.reshape(shape).astype(dtype)
    except ValueError as error:  # axes so long that NumPy refuses even an array of no elements
        raise InputError(name, "an array that NumPy can hold", _described(dtype, shape)) from error


def records(path: Path) -> Records | None:
    """The array in an IDX file, to be read where it lies; None if the file is compressed.

    Args:
        path: the file.

    Raises:
        InputError: if the file is not a complete IDX file; it names the file.
        OSError: if the file cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(4 + 4 * _MOST_AXES)
    if head.startswith(_GZIP_MAGIC):
        return None
    dtype, shape, start = _header(head, str(path), path.stat().st_size)
    if not shape:
        raise InputError(str(path), "an array with a batch axis", _described(dtype, shape))
    return Records(path, start, shape, dtype.newbyteorder(">"))


def _described(dtype: np.dtype, shape: tuple[int, ...]) -> str:
    return f"{dtype}[{', '.join(map(str, shape))}]"


def _header(data: bytes, name: str, length: int) -> tuple[np.dtype, tuple[int, ...], int]:
    """The element type, the shape, and where the elements start, in a file of so many bytes."""
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
    dtype, shape = TYPES[code], struct.unpack_from(f">{axes}I", data, 4)
    size = start + math.prod(shape) * dtype.itemsize
    if length != size:
        fault = "truncated" if length < size else "trailing bytes"
        raise InputError(
            name, f"{size} bytes for {_described(dtype, shape)}", f"{length} bytes ({fault})"
        )
    return dtype, shape, start


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
