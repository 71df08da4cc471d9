"""Records of one size that follow one another in a file, read where they lie."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path

import numpy as np

from jaxnets.arrays import InputError, describe
from jaxnets.data.streaming.examples import Examples


@dataclass(frozen=True, eq=False)
class Records:
    """An array in a file, cut along its first axis.

    The file is read, not mapped into memory: a mapped file that is cut short under way ends the
    process without a word, and its pages count as the process's memory.

    Args:
        path: the file.
        start: how many bytes come before the array.
        shape: of the array, [N, ...], in C order.
        dtype: of the array, in the file's byte order.

    Raises:
        InputError: if the file is too short for it.
    """

    path: Path
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype

    def __post_init__(self) -> None:
        """Checks that the file has it all."""
        end, size = self.start + len(self) * self.size, self.path.stat().st_size
        if size < end:
            expected = f"{end} bytes for {describe(self)}"
            raise InputError(str(self.path), expected, f"{size} bytes (truncated)")

    def __len__(self) -> int:
        """The number of records."""
        return self.shape[0]

    @property
    def size(self) -> int:
        """The bytes of a record."""
        return prod(self.shape[1:]) * self.dtype.itemsize

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Reads records.

        Args:
            rows: their numbers, integers [b] with b ≥ 1.

        Returns:
            An array [b, ...] in the byte order of this machine.

        Raises:
            InputError: if the file has become shorter.
        """
        data = np.empty((len(rows), self.size), np.uint8)
        view = data.reshape(-1).data
        firsts = np.flatnonzero(
            np.diff(rows, prepend=rows[0]) != 1
        )  # others follow their neighbour
        offsets = (self.start + rows[firsts].astype(np.int64) * self.size).tolist()
        edges = [*(firsts * self.size).tolist(), len(view)]
        with open(self.path, "rb", buffering=0) as file:
            for offset, (first, last) in zip(offsets, itertools.pairwise(edges), strict=True):
                self._fill(file, offset, view[first:last])
        array = data.view(self.dtype).reshape(len(rows), *self.shape[1:])
        return array.astype(self.dtype.newbyteorder("="), copy=False)

    def _fill(self, file: FileIO, offset: int, view: memoryview) -> None:
        file.seek(offset)
        done = file.readinto(view)
        while done < len(view):
            got = file.readinto(view[done:])
            if not got:
                record, part = divmod(offset - self.start + done, self.size)
                place = f"{self.path}, record {record}"
                raise InputError(place, f"{self.size} bytes", f"{part} bytes (truncated)")
            done += got


def as_they_are(array: np.ndarray) -> np.ndarray:
    """The array itself."""
    return array


@dataclass(frozen=True, eq=False, repr=False)
class RecordPairs(Examples):
    """Inputs and labels in two arrays on disk.

    Args:
        inputs: the inputs.
        labels: as many labels.
        as_inputs: what becomes of the inputs of a batch: a function of a module.
        as_labels: what becomes of the labels of a batch: a function of a module.
    """

    inputs: Records
    labels: Records
    as_inputs: Callable[[np.ndarray], np.ndarray] = as_they_are
    as_labels: Callable[[np.ndarray], np.ndarray] = as_they_are

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.inputs)

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See ``Examples``."""
        return self.as_inputs(self.inputs.gather(rows)), self.as_labels(self.labels.gather(rows))

    def known_labels(self) -> np.ndarray:
        """See ``Examples``."""
        return self.as_labels(self.labels.gather(np.arange(len(self))))
