"""Records of fixed size in a file, read on demand."""

import itertools
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets.arrays import InputError, describe
from jaxnets.data.streaming.examples import Examples


@dataclass(frozen=True, eq=False)
class Records:
    """An array in a file, of which records along the first axis are read.

    The file is read and not memory-mapped: if a mapped file is truncated, access to it kills the
    process without a message, and its pages count as memory of the process.

    Args:
        path: the file.
        start: offset of the array in bytes.
        shape: shape of the array, [N, ...], in C order.
        dtype: dtype of the array, in the file's byte order.

    Raises:
        InputError: if the file is too short for the array.
    """

    path: Path
    start: int
    shape: tuple[int, ...]
    dtype: np.dtype

    def __post_init__(self) -> None:
        """Checks that the file is long enough."""
        end, size = self.start + len(self) * self.size, self.path.stat().st_size
        if size < end:
            expected = f"{end} bytes for {describe(self)}"
            raise InputError(str(self.path), expected, f"{size} bytes (truncated)")

    def __len__(self) -> int:
        """The number of records."""
        return self.shape[0]

    @property
    def size(self) -> int:
        """Size of a record in bytes."""
        return prod(self.shape[1:]) * self.dtype.itemsize

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Reads records.

        Args:
            rows: numbers of the records, integers [b] with b ≥ 1.

        Returns:
            An array [b, ...] in the byte order of this machine.

        Raises:
            InputError: if the file has become shorter.
        """
        data = np.empty((len(rows), self.size), np.uint8)
        view = data.reshape(-1).data
        # Consecutive records are read at once; these are the first ones of each run.
        firsts = np.flatnonzero(np.diff(rows, prepend=rows[0]) != 1)
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
    """Returns the array unchanged."""
    return array


@dataclass(frozen=True, eq=False, repr=False)
class RecordPairs(Examples):
    """Inputs and labels in arrays on disk.

    Args:
        inputs: ``Records``, or a tuple or dictionary of them.
        labels: ``Records`` of the same length, or a tuple or dictionary of them; None for none.
        as_inputs: a function that converts the inputs of a batch, or one for each array; must be
            picklable.
        as_labels: a function that converts the labels of a batch, or one for each array; must be
            picklable.
    """

    inputs: Any
    labels: Any
    as_inputs: Any = as_they_are
    as_labels: Any = as_they_are

    def __len__(self) -> int:
        """The number of examples."""
        return len(jax.tree.leaves(self.inputs)[0])

    def gather(self, rows: np.ndarray) -> tuple[Any, Any]:
        """See ``Examples``."""
        inputs = _converted(self.inputs, self.as_inputs, rows)
        return inputs, _converted(self.labels, self.as_labels, rows)

    def known_labels(self) -> Any:
        """See ``Examples``."""
        return _converted(self.labels, self.as_labels, np.arange(len(self)))


def _converted(records: Any, convert: Any, rows: np.ndarray) -> Any:
    """Reads some rows of a column and converts them."""
    each = jax.tree.map(lambda _: convert, records) if callable(convert) else convert
    return jax.tree.map(lambda one, function: function(one.gather(rows)), records, each)
