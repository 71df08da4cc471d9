"""Examples that are read by their numbers, and parts of them put together."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, check_integer, describe, is_tensor, narrowed


class Examples(ABC):
    """Examples of one shape and dtype that are read by their numbers, wherever they lie.

    It goes to worker processes by ``pickle``, so it holds the place of the data, not the data.
    """

    @abstractmethod
    def __len__(self) -> int:
        """The number of examples."""

    @abstractmethod
    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reads examples.

        Args:
            rows: their numbers, integers [b] with b ≥ 1, from 0 and below ``len(self)``.

        Returns:
            The inputs [b, ...] and the labels [b, ...].

        Raises:
            InputError: if the data are damaged; it names the file and the place in it.
        """

    def known_labels(self) -> np.ndarray | None:
        """All labels, if they can be had without reading the inputs; otherwise None."""
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {len(self):,} examples"

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        """One example and its label."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        inputs, labels = self.gather(np.array([number]))
        return inputs[0], labels[0]


@dataclass(frozen=True, eq=False, repr=False)
class Indexed(Examples):
    """Any object that has a length and gives (input, label) for a number.

    Args:
        source: the object.
    """

    source: Any

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.source)

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See ``Examples``."""
        inputs, labels = zip(*(_pair(self.source, int(row)) for row in rows), strict=True)
        return stacked("input", inputs, rows), stacked("label", labels, rows)


def _pair(source: Any, number: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        inputs, label = source[number]
    except (TypeError, ValueError, LookupError) as error:
        own = isinstance(error, KeyError) and not isinstance(source, Mapping)
        if isinstance(error, InputError) or own:  # of code that looks something up elsewhere
            raise
        got = f"{type(error).__name__}: {error}"
        raise InputError(f"example {number}", "(input, label) for its number", got) from error
    return _array(f"input of example {number}", inputs), _array(f"label of example {number}", label)


def _array(what: str, value: Any) -> np.ndarray:
    # Python's own numbers have no size: JAX takes them for 32 bits, NumPy for 64.
    if isinstance(value, float):
        return narrowed(what, np.asarray(value), np.float32)
    if isinstance(value, int) and not isinstance(value, bool):
        return np.asarray(check_integer(what, value), np.int32)
    return np.asarray(value.detach().cpu() if is_tensor(value) else value)


def stacked(what: str, arrays: tuple[np.ndarray, ...], rows: np.ndarray) -> np.ndarray:
    """Stacks arrays of one shape and dtype.

    Args:
        what: they are, for the message.
        arrays: one for each row.
        rows: the numbers of the examples.

    Raises:
        InputError: if one differs from the first; it names the example.
    """
    first = arrays[0]
    for array, row in zip(arrays, rows, strict=True):
        if (array.shape, array.dtype) != (first.shape, first.dtype):
            expected = f"{describe(first)}, as that of example {rows[0]}"
            raise InputError(f"{what} of example {row}", expected, describe(array))
    return np.stack(arrays)


@dataclass(frozen=True, eq=False, repr=False)
class Range(Examples):
    """The examples from one number up to another.

    Args:
        whole: all examples.
        start: the first one's number.
        stop: the number after the last one's.
    """

    whole: Examples
    start: int
    stop: int

    def __len__(self) -> int:
        """The number of examples."""
        return self.stop - self.start

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See ``Examples``."""
        return self.whole.gather(rows + self.start)

    def known_labels(self) -> np.ndarray | None:
        """See ``Examples``."""
        labels = self.whole.known_labels()
        return None if labels is None else labels[self.start : self.stop]


@dataclass(frozen=True, eq=False, repr=False)
class Chosen(Examples):
    """Some of the examples.

    Args:
        whole: all examples.
        numbers: which, int32 [n].
    """

    whole: Examples
    numbers: np.ndarray

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.numbers)

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See ``Examples``."""
        return self.whole.gather(self.numbers[rows])

    def known_labels(self) -> np.ndarray | None:
        """See ``Examples``."""
        labels = self.whole.known_labels()
        return None if labels is None else labels[self.numbers]


@dataclass(frozen=True, eq=False, repr=False)
class Joined(Examples):
    """Examples of the same kind, one after the other.

    Args:
        parts: what is joined.
    """

    parts: tuple[Examples, ...]

    def __len__(self) -> int:
        """The number of examples."""
        return sum(map(len, self.parts))

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See ``Examples``."""
        ends = np.cumsum([len(part) for part in self.parts])
        owner = np.searchsorted(ends, rows, side="right")
        places = [np.flatnonzero(owner == number) for number in range(len(self.parts))]
        read = [
            part.gather(rows[place] - (end - len(part)))
            for part, place, end in zip(self.parts, places, ends, strict=True)
            if len(place)
        ]
        inputs, labels = (_concatenated(arrays) for arrays in zip(*read, strict=True))
        came = np.concatenate(places)
        if (np.diff(came) == 1).all():
            return inputs, labels  # not copied once more: it may be the whole set
        order = np.argsort(came)
        return inputs[order], labels[order]

    def known_labels(self) -> np.ndarray | None:
        """See ``Examples``."""
        labels = [part.known_labels() for part in self.parts]
        known = [each for each in labels if each is not None]
        return np.concatenate(known) if len(known) == len(labels) else None


def _concatenated(arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    first = arrays[0]
    for array in arrays:
        if (array.shape[1:], array.dtype) != (first.shape[1:], first.dtype):
            kinds = f"{describe(first[0])} and {describe(array[0])}"
            raise InputError("split", "parts with examples of the same shape and dtype", kinds)
    return np.concatenate(arrays)


def check_count(argument: str, value: Any, most: int) -> None:
    """Checks that a value is a number of examples that there are.

    Raises:
        InputError: if it is not an integer from 1 to ``most``.
    """
    integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not integer or not 1 <= value <= most:
        raise InputError(argument, f"an integer from 1 to {most}", value)
