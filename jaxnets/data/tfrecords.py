"""Reading of TFRecord files, TensorFlow's format of serialized examples, without TensorFlow.

A record is its length (8 bytes, little-endian), a checksum of the length (4 bytes), the content,
and a checksum of the content (4 bytes). The checksums are not verified.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from jaxnets.arrays import InputError

_HEADER = struct.Struct("<QI")
_FOOTER = 4


def read(path: Path) -> Iterator[bytes]:
    """Yields the content of each record of a file.

    Raises:
        InputError: if the file ends within a record.
    """
    with open(path, "rb") as file:
        number = 0
        while header := file.read(_HEADER.size):
            content, footer = b"", b""
            if len(header) == _HEADER.size:
                length = _HEADER.unpack(header)[0]
                # Limited by the file's size, because a damaged length may be huge.
                left = path.stat().st_size - file.tell()
                content, footer = file.read(min(length, left)), file.read(_FOOTER)
            if len(footer) < _FOOTER:
                expected = f"whole records in a file of {path.stat().st_size} bytes"
                raise InputError(str(path), expected, f"an end within record {number} (truncated)")
            yield content
            number += 1
