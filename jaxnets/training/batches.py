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
from jaxnets.data.dataset import Split
from jaxnets.data.streaming import StreamedSplit
from jaxnets.training.classes import Labels
from jaxnets.training.lookups import Lookups
from jaxnets.training.sharding import AnyPlacement

# On accelerators an epoch is one program. On a CPU it takes seconds to minutes, and whoever
# watches it, or wants to stop it, waits for the program under way: so an epoch is a few of them.
_PIECES_ON_CPU = 16
_SMALLEST_PIECE = 16
# What a program may hold of a split that is streamed.
_STREAMED_BYTES = 32 * 2**20


class Gathered(NamedTuple):
    """Batches of a split that lies on the devices.

    Attributes:
        inputs: [examples, …], the whole split.
        labels: [examples, …].
        rows: [steps, batch] int32, the examples of each step.
    """

    inputs: jax.Array
    labels: jax.Array
    rows: jax.Array

    def batch(self, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The inputs and labels of one step."""
        rows = self.rows[step]
        return self.inputs[rows], self.labels[rows]

    @property
    def steps(self) -> int:
        """How many steps there is room for."""
        return len(self.rows)


class Stacked(NamedTuple):
    """Batches that were read for these steps alone.

    Attributes:
        inputs: [steps, batch, …].
        labels: [steps, batch, …].
    """

    inputs: jax.Array
    labels: jax.Array

    def batch(self, step: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The inputs and labels of one step."""
        return self.inputs[step], self.labels[step]

    @property
    def steps(self) -> int:
        """How many steps there is room for."""
        return len(self.inputs)


Batches = Gathered | Stacked
#: Which arrays are cut for the devices, by a leading axis.
SPREAD: dict[Any, Any] = {
    Gathered: Gathered(False, False, True),  # type: ignore[arg-type]
    Stacked: Stacked(True, True),  # type: ignore[arg-type]
}


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
        inputs: [examples, …].
        labels: [examples, …].
        placement: the devices.
    """

    def __init__(self, inputs: np.ndarray, labels: np.ndarray, placement: AnyPlacement) -> None:
        self._placement, self._host_inputs = placement, inputs
        self._inputs, self._labels = placement.replicate((inputs, labels))
        self._narrow: dict[int, jax.Array] = {}

    def room(self, steps: int, batch_size: int) -> int | None:
        """See ``Feed``."""
        if not self._placement.on_cpu:
            return None
        return max(_SMALLEST_PIECE, -(-steps // _PIECES_ON_CPU))

    def batches(self, pieces: Sequence[Piece]) -> Iterator[Gathered]:
        """See ``Feed``."""
        for piece in pieces:
            rows = self._placement.spread(_filled(piece.rows, piece.room))
            yield Gathered(self._of_width(piece.width), self._labels, rows)

    def _of_width(self, width: int | None) -> jax.Array:
        if width is None or width == self._host_inputs.shape[1]:
            return self._inputs
        if width not in self._narrow:
            self._narrow[width] = self._placement.replicate(self._host_inputs[:, :width])
        return self._narrow[width]


class StreamedFeed:
    """Reads a split as it is needed, a few batches ahead.

    Args:
        split: the split.
        check: looks at the inputs and labels of each batch.
        placement: the devices; each process reads the examples of its own.
    """

    def __init__(
        self,
        split: StreamedSplit,
        check: Callable[[np.ndarray, np.ndarray], None],
        placement: AnyPlacement,
    ) -> None:
        self._split, self._check, self._placement = split, check, placement

    def room(self, steps: int, batch_size: int) -> int:
        """See ``Feed``: bounded in bytes, however long the epoch is."""
        example = sum(math.prod(spec.shape) * spec.dtype.itemsize for spec in self._split.spec)
        return max(1, min(steps, _STREAMED_BYTES // (example * batch_size)))

    def batches(self, pieces: Sequence[Piece]) -> Iterator[Stacked]:
        """See ``Feed``."""
        rows = [self._placement.own_rows(row) for piece in pieces for row in piece.rows]
        reading: Any = self._split.batches(rows)
        with contextlib.closing(reading) as stream:
            for piece in pieces:
                read = [next(stream) for _ in piece.rows]
                arrays = [np.stack(parts) for parts in zip(*read, strict=True)]
                self._check(*(array.reshape(-1, *array.shape[2:]) for array in arrays))
                filled = (_filled(array, piece.room) for array in arrays)
                yield Stacked(*map(self._placement.spread_own, filled))


def feed(
    argument: str,
    split: Split | StreamedSplit,
    expected: Labels | None,
    lookups: Lookups,
    placement: AnyPlacement,
) -> Feed:
    """The feed of a split.

    Args:
        argument: what the user calls it.
        split: the split.
        expected: what the labels may be; None for anything.
        lookups: what the model looks up by the inputs.
        placement: the devices.

    Raises:
        InputError: if a label is not that, or an index has no row; of a streamed split when it is
            read.
    """

    def check(inputs: np.ndarray, labels: np.ndarray) -> None:
        lookups.check(f"{argument}.inputs", inputs)
        if expected is not None:
            expected.check(f"{argument}.labels", labels)

    if isinstance(split, StreamedSplit):
        return StreamedFeed(split, check, placement)
    check(split.inputs, split.labels)
    return ResidentFeed(split.inputs, split.labels, placement)


def _filled(array: np.ndarray, room: int | None) -> np.ndarray:
    """An array with room for as many steps; nothing looks at those that are added."""
    missing = 0 if room is None else room - len(array)
    return np.pad(array, [(0, missing), *[(0, 0)] * (array.ndim - 1)]) if missing else array
