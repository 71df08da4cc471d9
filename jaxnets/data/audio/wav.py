"""WAV files: their headers, and their samples as numbers from -1 to 1."""

import math
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxnets.arrays import InputError, check_path, check_positive, describe
from jaxnets.disk import replacing

#: The largest number of samples per channel in one file: over three hours at 44.1 kHz.
MOST_SAMPLES = 2**29
_INTEGERS, _FLOATS, _EXTENSIBLE = 1, 3, 0xFFFE
_RATES = 1, 10**6  # in Hz
_ENDS = "a file that ends within {}"


@dataclass(frozen=True)
class Header:
    """The content of the header of a WAV file.

    Attributes:
        rate: samples per second.
        channels: number of channels.
        kind: "u1", "i2", "i3", "i4", "f4" or "f8", the type of a sample.
        start: the position of the first sample in the file, in bytes.
        samples: number of samples of each channel.
    """

    rate: int
    channels: int
    kind: str
    start: int
    samples: int

    @property
    def width(self) -> int:
        """The bytes of a sample of all channels."""
        return self.channels * int(self.kind[1:])


def read_header(path: Path | str) -> Header:
    """Reads the header of a WAV file.

    Raises:
        InputError: if the file cannot be read, is not a WAV file, or is shorter than its header
            says.
    """
    with _opened(path) as file:
        return _header(str(path), file)


def read_wav(path: Path | str, sample_rate: int | None = None) -> tuple[np.ndarray, int]:
    """Reads a WAV file as one channel of float32 samples.

    Integers of 8, 16, 24 and 32 bits are divided by their largest possible magnitude, so that
    samples are in [-1, 1); floats are not changed. Several channels are averaged.

    Args:
        path: the file.
        sample_rate: the rate in Hz to which the samples are converted, by a polyphase filter; None
            keeps that of the file.

    Returns:
        Samples, float32 [samples], and their sample rate in Hz.

    Raises:
        InputError: if the file is not a WAV file, is damaged, has no samples, or has a sample that
            is not finite.

    Examples:
        >>> read_wav("zero.wav", sample_rate=8000)  # doctest: +SKIP
    """
    if sample_rate is not None:
        check_positive("sample_rate", sample_rate)
    with _opened(path) as file:
        header = _header(str(path), file)
        file.seek(header.start)
        content = file.read(header.samples * header.width)
    samples = _numbers(content, header.kind).reshape(-1, header.channels).mean(1)
    if not np.isfinite(samples).all():
        raise InputError(str(path), "samples that are finite", "NaN or infinity")
    if sample_rate is None or sample_rate == header.rate:
        return samples.astype(np.float32), header.rate
    return _resampled(samples, header.rate, sample_rate), sample_rate


def write_wav(path: Path | str, samples: np.ndarray, sample_rate: int) -> None:
    """Writes samples of one channel as a WAV file of 16 bits.

    Args:
        path: the file; an existing one is replaced.
        samples: floats [samples]; they are clipped to [-1, 1].
        sample_rate: the sample rate in Hz.

    Raises:
        InputError: if the samples are not one channel of floats.
    """
    place = check_path("path", path, "a file")
    check_positive("sample_rate", sample_rate)
    if not isinstance(samples, np.ndarray) or samples.ndim != 1 or samples.dtype.kind != "f":
        got = describe(samples) if isinstance(samples, np.ndarray) else samples
        raise InputError("samples", "floats [samples]", got)
    values = np.clip(np.rint(samples * 2**15), -(2**15), 2**15 - 1).astype("<i2").tobytes()
    form = struct.pack("<HHIIHH", _INTEGERS, 1, sample_rate, 2 * sample_rate, 2, 16)
    if not place.absolute().parent.is_dir():
        raise InputError("path", "a file in a folder that exists", str(path))
    parts = b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(values))
    with replacing(place) as partial:
        size = struct.pack("<I", 4 + len(parts) + len(values))
        partial.write_bytes(b"RIFF" + size + b"WAVE" + parts + values)


def _opened(path: Path | str) -> IO[bytes]:
    """The file, opened; not a pipe, which would be waited for."""
    place = check_path("path", path, "a WAV file")
    try:
        if not stat.S_ISREG(os.stat(place).st_mode):
            raise InputError(str(path), "a WAV file", "no regular file")
        return place.open("rb")
    except OSError as error:
        got = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise InputError(str(path), "a readable WAV file", got) from error


def _header(name: str, file: IO[bytes]) -> Header:
    size = os.fstat(file.fileno()).st_size
    riff = file.read(12)
    if riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
        got = "an empty file" if not riff else f"a file that begins with {riff[:4]!r}"
        raise InputError(name, "a WAV file, which begins with RIFF and WAVE", got)
    form: tuple[int, int, str] | None = None
    for kind, start, length in _chunks(name, file, size):
        if kind == b"fmt ":
            form = _form(name, file.read(min(length, 40)))
        elif kind == b"data" and form is None:
            raise InputError(name, "a chunk 'fmt ' before the samples", "none")
        elif kind == b"data" and form is not None:
            return _of_samples(name, form, start, length, size)
    raise InputError(name, "a WAV file with a chunk 'data'", "none: it is cut short or damaged")


def _chunks(name: str, file: IO[bytes], size: int) -> Iterator[tuple[bytes, int, int]]:
    """The kind, place and length of each chunk of a file."""
    place = 12
    while place + 8 <= size:
        file.seek(place)
        kind, length = struct.unpack("<4sI", file.read(8))
        if kind != b"data" and place + 8 + length > size:
            got = _ENDS.format(f"its chunk {kind.decode('latin-1')!r}")
            raise InputError(name, f"a WAV file of {place + 8 + length:,} bytes", got)
        yield kind, place + 8, length
        place += 8 + length + length % 2


def _form(name: str, content: bytes) -> tuple[int, int, str]:
    """Sample rate, channels and type of a sample, from the chunk ``fmt``."""
    if len(content) < 16:
        raise InputError(name, "a chunk 'fmt ' of 16 bytes", f"{len(content)}")
    code, channels, rate, _, width, bits = struct.unpack("<HHIIHH", content[:16])
    if code == _EXTENSIBLE and len(content) >= 26:
        (code,) = struct.unpack("<H", content[24:26])
    kind = {_INTEGERS: "i", _FLOATS: "f"}.get(code, "?") + str(bits // 8)
    kind = "u1" if kind == "i1" else kind
    if kind not in ("u1", "i2", "i3", "i4", "f4", "f8") or bits % 8:
        expected = "samples of 8, 16, 24 or 32 bits, or floats of 32 or 64"
        raise InputError(name, expected, f"format {code} of {bits} bits")
    if not channels or width != channels * bits // 8 or not _RATES[0] <= rate <= _RATES[1]:
        got = f"{channels} channels, {width} bytes a sample, {rate} Hz"
        raise InputError(name, "a header whose numbers agree", got)
    return rate, channels, kind


def _of_samples(
    name: str, form: tuple[int, int, str], start: int, length: int, size: int
) -> Header:
    header = Header(*form, start, 0)
    if start + length > size:
        expected = f"{length:,} bytes of samples"
        raise InputError(name, expected, f"{size - start:,}: the file is cut short")
    count = length // header.width
    if length % header.width or not 0 < count <= MOST_SAMPLES:
        expected = f"1 to {MOST_SAMPLES:,} whole samples of {header.width} bytes"
        raise InputError(name, expected, f"{length:,} bytes")
    return Header(*form, start, count)


def _numbers(content: bytes, kind: str) -> np.ndarray:
    """Samples in [-1, 1], float64."""
    if kind == "i3":  # the upper three bytes of four, which keeps the sign
        wide = np.zeros((len(content) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        return wide.view("<i4")[:, 0] / 2.0**31
    values = np.frombuffer(content, f"<{kind}")
    if kind[0] == "f":
        return values.astype(np.float64)
    bits = 8 * values.itemsize
    return (values.astype(np.float64) - (128 if kind == "u1" else 0)) / 2.0 ** (bits - 1)


def _resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Samples at another rate."""
    from scipy.signal import resample_poly

    common = math.gcd(rate, wanted)
    made: Any = resample_poly(samples, wanted // common, rate // common)
    return np.asarray(made, np.float32)
