"""Batches on the devices, many steps' worth at a time, and what puts them there."""

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

# On accelerators an epoch is one program. On a CPU it takes seconds to minutes, and whoever
# watches it, or wants to stop it, waits for the program under way: so an epoch is a few of them.
_PIECES_ON_CPU = 16
_SMALLEST_PIECE = 16
# What a program may hold of a split that is streamed.
_STREAMED_BYTES = 32 * 2**20


class Gathered(NamedTuple):
    """Batches of a split that is on the devices.

    Attributes:
        columns: by name, each array [examples, …], the whole split.
        rows: [steps, batch] int32, the examples of each step.
    """

    columns: dict[str, Any]
    rows: jax.Array

    def batch(self, step: jax.Array) -> dict[str, Any]:
        """The columns of one step, each [batch, …]."""
        rows = self.rows[step]
        return jax.tree.map(lambda column: column[rows], self.columns)

    @property
    def steps(self) -> int:
        """How many steps there is room for."""
        return len(self.rows)


class Stacked(NamedTuple):
    """Batches that were read for these steps alone.

    Attributes:
        columns: by name, each array [steps, batch, …].
    """

    columns: dict[str, Any]

    def batch(self, step: jax.Array) -> dict[str, Any]:
        """The columns of one step, each [batch, …]."""
        return jax.tree.map(lambda column: column[step], self.columns)

    @property
    def steps(self) -> int:
        """How many steps there is room for."""
        return len(jax.tree.leaves(self.columns)[0])


Batches = Gathered | Stacked


@dataclass(frozen=True, eq=False)
class Piece:
    """The steps of one call of a compiled program.

    Attributes:
        rows: [steps, batch] int32, the examples of each step.
        room: for how many steps the program is made; None for just these.
        width: how much of the inputs' first axis they need; None for all.
    """

    rows: np.ndarray
    room: int | None = None
    width: int | None = None

    @property
    def count(self) -> np.int32 | None:
        """The number of steps, where the program has to be told."""
        return None if self.room is None else np.int32(len(self.rows))


def cut(
    plan: Plan, *, start: int = 0, room: int | None = None, stops: Iterable[int] = ()
) -> list[Piece]:
    """Cuts the plan of an epoch into pieces, each of one width.

    The last, smaller batch is a piece of its own, at its true size, so that means and batch
    statistics are PyTorch's.

    Args:
        plan: the epoch's batches.
        start: how many of them are done.
        room: the most steps of a piece; None for all that there are. One compiled program runs
            all pieces with the same room, so that a run's numbers do not depend on how it is cut;
            without room, that is one program for whole epochs and one for parts of any length.
        stops: steps of the epoch after which a piece has to end.
    """
    full, widths = len(plan.full), plan.widths
    if widths is not None:
        room = room or CHUNK  # their many lengths would be as many programs
        stops = {*stops, *(np.flatnonzero(np.diff(widths)) + 1).tolist()}
    ends = {stop for stop in stops if start < stop < full}
    if room is not None:
        ends |= set(range(start - start % room + room, full, room))
    edges = [start, *sorted(ends), full]
    last_room = None if room is None else 1
    if start or ends:
        room = room or full
    pieces = [
        Piece(plan.full[first:last], room, None if widths is None else int(widths[first]))
        for first, last in itertools.pairwise(edges)
        if first < last
    ]
    left = len(plan.rest) and start < plan.steps
    return [*pieces, Piece(plan.rest[None], last_room)] if left else pieces


class Feed(Protocol):
    """What puts the batches of a split where the program runs."""

    def room(self, steps: int, batch_size: int) -> int | None:
        """For how many steps to make the program of an epoch of so many; None for any number."""

    def batches(self, pieces: Sequence[Piece]) -> Iterator[Batches]:
        """The batches of each piece."""


class ResidentFeed:
    """Copies a split to every device, once; and once for each width below its own.

    Args:
        columns: by name, each array [examples, …].
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
    """Reads a split as it is needed, a few batches ahead.

    Args:
        split: the split.
        check: looks at the columns of each batch.
        placement: the devices; each process reads the examples of its own.
    """

    def __init__(
        self,
        split: StreamedSplit,
        check: Callable[[dict[str, Any]], None],
        placement: Placement,
    ) -> None:
        self._split, self._check, self._placement = split, check, placement

    def room(self, steps: int, batch_size: int) -> int:
        """See ``Feed``: bounded in bytes, however long the epoch is."""
        leaves = jax.tree.leaves(self._split.spec)
        example = sum(math.prod(spec.shape) * spec.dtype.itemsize for spec in leaves)
        return max(1, min(steps, _STREAMED_BYTES // (example * batch_size)))

    def batches(self, pieces: Sequence[Piece]) -> Iterator[Stacked]:
        """See ``Feed``."""
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
    """Inputs and labels as the columns of a batch; without labels there is no such column."""
    return {"inputs": inputs} if labels is None else {"inputs": inputs, "labels": labels}


def feed(split: AnySplit, check: Callable[[dict[str, Any]], None], placement: Placement) -> Feed:
    """The feed of a split.

    Args:
        split: the split.
        check: raises at columns that hold something wrong; of a streamed split when it is read.
        placement: the devices.
    """
    if isinstance(split, StreamedSplit):
        return StreamedFeed(split, check, placement)
    check(split.columns)
    return ResidentFeed(split.columns, placement)


def _filled(array: np.ndarray, room: int | None) -> np.ndarray:
    """An array with room for as many steps; nothing looks at those that are added."""
    missing = 0 if room is None else room - len(array)
    return np.pad(array, [(0, missing), *[(0, 0)] * (array.ndim - 1)]) if missing else array
