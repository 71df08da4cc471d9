"""Batches on the devices, many steps at a time, and the feeds that copy them there."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from jaxnets.data.batching import CHUNK, Plan
from jaxnets.data.dataset import AnySplit
from jaxnets.data.streaming import StreamedSplit
from jaxnets.training.placement import Placement

# On accelerators an epoch is one call of a program. On a CPU an epoch takes seconds to minutes,
# while neither progress is shown nor a signal handled, so it is divided into several calls.
_PIECES_ON_CPU = 16
_SMALLEST_PIECE = 16
# Memory of the batches of a streamed split in one call of a program.
_STREAMED_BYTES = 32 * 2**20


class Gathered(NamedTuple):
    """Batches of a split that is on the devices; each step gathers its examples.

    Attributes:
        columns: the columns of the whole split by name, each array [examples, …].
        rows: the indices of the examples of each step, [steps, batch] int32.
    """

    columns: dict[str, Any]
    rows: jax.Array

    def batch(self, step: jax.Array) -> dict[str, Any]:
        """Returns the columns of one step, each [batch, …]."""
        rows = self.rows[step]
        return jax.tree.map(lambda column: column[rows], self.columns)

    @property
    def steps(self) -> int:
        """Number of steps, including padding."""
        return len(self.rows)


class Stacked(NamedTuple):
    """Batches of a streamed split, read for these steps only.

    Attributes:
        columns: the columns by name, each array [steps, batch, …].
    """

    columns: dict[str, Any]

    def batch(self, step: jax.Array) -> dict[str, Any]:
        """Returns the columns of one step, each [batch, …]."""
        return jax.tree.map(lambda column: column[step], self.columns)

    @property
    def steps(self) -> int:
        """Number of steps, including padding."""
        return len(jax.tree.leaves(self.columns)[0])


Batches = Gathered | Stacked


@dataclass(frozen=True, eq=False)
class Piece:
    """The steps of one call of a compiled program.

    Attributes:
        rows: the indices of the examples of each step, [steps, batch] int32.
        room: number of steps for which the program is compiled; None for ``len(rows)``.
        width: length to which the inputs' first axis is cut; None for all.
    """

    rows: np.ndarray
    room: int | None = None
    width: int | None = None

    @property
    def count(self) -> np.int32 | None:
        """The number of steps, if it may differ from the program's ``room``; otherwise None."""
        return None if self.room is None else np.int32(len(self.rows))


def cut(
    plan: Plan, *, start: int = 0, room: int | None = None, stops: Iterable[int] = ()
) -> list[Piece]:
    """Divides the plan of an epoch into pieces, each of one width.

    A smaller last batch is a separate piece and is not padded, so that means and batch statistics
    are those of PyTorch.

    Args:
        plan: the epoch's batches.
        start: number of batches that are already done.
        room: largest number of steps in a piece; None for no limit. All pieces with the same
            ``room`` run the same compiled program, so that the results do not depend on the
            division. Without ``room``, there is one program for whole epochs and one for parts.
        stops: steps of the epoch after which a piece must end.
    """
    full, widths = len(plan.full), plan.widths
    if widths is not None:
        room = room or CHUNK  # otherwise each length of a run of batches compiles a program
        stops = {*stops, *(np.flatnonzero(np.diff(widths)) + 1).tolist()}
    ends = {stop for stop in stops if start < stop < full}
    if room is not None:
        # At multiples of ``room`` from the start of the epoch, also if the run resumes in between,
        # so that a resumed run is divided like an uninterrupted one.
        ends |= set(range(start - start % room + room, full, room))
    edges = [start, *sorted(ends), full]
    last_room = None if room is None else 1
    if start or ends:
        # Parts of an epoch have different lengths, so one program with room for all of them is
        # compiled. Whole epochs need no padding.
        room = room or full
    pieces = [
        Piece(plan.full[first:last], room, None if widths is None else int(widths[first]))
        for first, last in itertools.pairwise(edges)
        if first < last
    ]
    left = len(plan.rest) and start < plan.steps
    return [*pieces, Piece(plan.rest[None], last_room)] if left else pieces


class Feed(Protocol):
    """The protocol of objects that copy the batches of a split to the devices."""

    def room(self, steps: int, batch_size: int) -> int | None:
        """Returns the largest number of steps in a piece of an epoch; None for no limit."""

    def batches(self, pieces: Sequence[Piece]) -> Iterator[Batches]:
        """Yields the batches of each piece."""


class ResidentFeed:
    """A feed that copies a whole split to every device once, and once more for each smaller width.

    Args:
        columns: the columns by name, each array [examples, …].
        placement: the devices.
    """

    def __init__(self, columns: dict[str, Any], placement: Placement) -> None:
        self._placement, self._host = placement, columns
        self._columns = placement.replicate(columns)
        self._narrow: dict[int, jax.Array] = {}

    def room(self, steps: int, batch_size: int) -> int | None:
        """See ``Feed``."""
        if not self._placement.on_cpu:
            return None
        return max(_SMALLEST_PIECE, -(-steps // _PIECES_ON_CPU))

    def batches(self, pieces: Sequence[Piece]) -> Iterator[Gathered]:
        """See ``Feed``."""
        for piece in pieces:
            rows = self._placement.replicate(_filled(piece.rows, piece.room))
            yield Gathered(self._of_width(piece.width), rows)

    def _of_width(self, width: int | None) -> dict[str, Any]:
        if width is None or width == self._host["inputs"].shape[1]:
            return self._columns
        if width not in self._narrow:
            self._narrow[width] = self._placement.replicate(self._host["inputs"][:, :width])
        return {**self._columns, "inputs": self._narrow[width]}


class StreamedFeed:
    """A feed that reads a streamed split during training, a few batches ahead.

    Args:
        split: the split.
        check: a function that checks the columns of each batch.
        placement: the devices; each process reads the examples of its own devices.
    """

    def __init__(
        self,
        split: StreamedSplit,
        check: Callable[[dict[str, Any]], None],
        placement: Placement,
    ) -> None:
        self._split, self._check, self._placement = split, check, placement

    def room(self, steps: int, batch_size: int) -> int:
        """See ``Feed``. The memory of a piece is limited, independent of the epoch's length."""
        leaves = jax.tree.leaves(self._split.spec)
        example = sum(math.prod(spec.shape) * spec.dtype.itemsize for spec in leaves)
        return max(1, min(steps, _STREAMED_BYTES // (example * batch_size)))

    def batches(self, pieces: Sequence[Piece]) -> Iterator[Stacked]:
        """See ``Feed``."""
        # All rows in advance, so that the split reads ahead across pieces.
        rows = [self._placement.own_rows(row) for piece in pieces for row in piece.rows]
        reading: Any = self._split.batches(rows)
        with contextlib.closing(reading) as stream:
            for piece in pieces:
                read = [as_columns(*next(stream)) for _ in piece.rows]
                stacked = jax.tree.map(lambda *parts: np.stack(parts), *read)
                self._check(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), stacked))
                filled = jax.tree.map(lambda x, room=piece.room: _filled(x, room), stacked)
                size = piece.rows.shape[1]
                yield Stacked(self._placement.spread(filled, size))


def as_columns(inputs: Any, labels: Any) -> dict[str, Any]:
    """Returns inputs and labels as the columns of a batch, without labels if they are None."""
    return {"inputs": inputs} if labels is None else {"inputs": inputs, "labels": labels}


def feed(split: AnySplit, check: Callable[[dict[str, Any]], None], placement: Placement) -> Feed:
    """Makes the feed of a split.

    Args:
        split: the split.
        check: a function that raises if columns have invalid values. It is called now, or for a
            streamed split when batches are read.
        placement: the devices.
    """
    if isinstance(split, StreamedSplit):
        return StreamedFeed(split, check, placement)
    check(split.columns)
    return ResidentFeed(split.columns, placement)


def _filled(array: np.ndarray, room: int | None) -> np.ndarray:
    """Pads an array with zeros to ``room`` steps, which the program does not read."""
    missing = 0 if room is None else room - len(array)
    return np.pad(array, [(0, missing), *[(0, 0)] * (array.ndim - 1)]) if missing else array
