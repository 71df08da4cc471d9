"""Examples that are read by their numbers, and parts of them put together."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxnets.arrays import InputError, check_integer, describe, is_tensor, narrowed
from jaxnets.data.spec import described, map_named, named, same_structure, spec_of

_EXPECTED = "(input, label) for its number, or an input alone"


class Examples(ABC):
    """Examples of one shape and dtype that are read by their numbers, wherever they are.

    It goes to worker processes by ``pickle``, so it holds the place of the data, not the data.
    """

    @abstractmethod
    def __len__(self) -> int:
        """The number of examples."""

    @abstractmethod
    def gather(self, rows: np.ndarray) -> tuple[Any, Any]:
        """Reads examples.

        Args:
            rows: their numbers, integers [b] with b ≥ 1, from 0 and below ``len(self)``.

        Returns:
            The inputs and the labels, each an array [b, ...], or a tuple or dictionary of them;
            None for no labels.

        Raises:
            InputError: if the data are damaged; it names the file and the place in it.
        """

    def known_labels(self) -> Any:
        """All labels, if they can be had without reading the inputs; otherwise None."""
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {len(self):,} examples"

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        """One example and its label, which is None if there is none."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        inputs, labels = jax.tree.map(lambda array: array[0], self.gather(np.array([number])))
        return inputs, labels


@dataclass(frozen=True, eq=False, repr=False)
class Indexed(Examples):
    """Any object that has a length and gives (input, label), or an input alone, for a number.

    Args:
        source: the object.
    """

    source: Any

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.source)

    def gather(self, rows: np.ndarray) -> tuple[Any, Any]:
        """See ``Examples``."""
        inputs, labels = zip(*(_pair(self.source, int(row)) for row in rows), strict=True)
        return stacked("input", inputs, rows), stacked("label", labels, rows)


def _pair(source: Any, number: int) -> tuple[Any, Any]:
    """An example and its label, as columns of arrays; None for no label."""
    try:
        example = source[number]
    except (TypeError, ValueError, LookupError) as error:
        own = isinstance(error, KeyError) and not isinstance(source, Mapping)
        if isinstance(error, InputError) or own:  # of code that looks something up elsewhere
            raise
        got = f"{type(error).__name__}: {error}"
        raise InputError(f"example {number}", _EXPECTED, got) from error
    parts = example if isinstance(example, tuple | list) else (example,)
    if len(parts) not in (1, 2):
        got = f"a {type(example).__name__} of {len(parts)}"
        raise InputError(f"example {number}", _EXPECTED, got)
    own_array = functools.partial(_array, number)
    inputs = map_named(own_array, "input", parts[0])
    label = parts[1] if len(parts) == 2 else None
    return inputs, None if label is None else map_named(own_array, "label", label)


def _array(number: int, name: str, value: Any) -> np.ndarray:
    what = f"{name} of example {number}"
    # Python's own numbers have no size: JAX takes them for 32 bits, NumPy for 64.
    if isinstance(value, float):
        return narrowed(what, np.asarray(value), np.float32)
    if isinstance(value, int) and not isinstance(value, bool):
        return np.asarray(check_integer(what, value), np.int32)
    return np.asarray(value.detach().cpu() if is_tensor(value) else value)


def stacked(what: str, columns: tuple[Any, ...], rows: np.ndarray) -> Any:
    """Stacks columns whose arrays are of one shape and dtype.

    Args:
        what: they are, for the message.
        columns: one for each row.
        rows: the numbers of the examples.

    Raises:
        InputError: if one differs from the first; it names the example.
    """
    first = columns[0]
    for column, row in zip(columns, rows, strict=True):
        if not same_structure(column, first):
            expected = f"{described(first)}, as that of example {rows[0]}"
            raise InputError(f"{what} of example {row}", expected, described(column))
        pairs = zip(named(what, first).items(), jax.tree.leaves(column), strict=False)
        for (name, like), array in pairs:
            if (array.shape, array.dtype) != (like.shape, like.dtype):
                expected = f"{describe(like)}, as that of example {rows[0]}"
                raise InputError(f"{name} of example {row}", expected, describe(array))
    return jax.tree.map(lambda *arrays: np.stack(arrays), *columns)


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

    def gather(self, rows: np.ndarray) -> tuple[Any, Any]:
        """See ``Examples``."""
        return self.whole.gather(rows + self.start)

    def known_labels(self) -> Any:
        """See ``Examples``."""
        return jax.tree.map(lambda x: x[self.start : self.stop], self.whole.known_labels())


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

    def gather(self, rows: np.ndarray) -> tuple[Any, Any]:
        """See ``Examples``."""
        return self.whole.gather(self.numbers[rows])

    def known_labels(self) -> Any:
        """See ``Examples``."""
        return jax.tree.map(lambda x: x[self.numbers], self.whole.known_labels())


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

    def gather(self, rows: np.ndarray) -> tuple[Any, Any]:
        """See ``Examples``."""
        ends = np.cumsum([len(part) for part in self.parts])
        owner = np.searchsorted(ends, rows, side="right")
        places = [np.flatnonzero(owner == number) for number in range(len(self.parts))]
        read = [
            part.gather(rows[place] - (end - len(part)))
            for part, place, end in zip(self.parts, places, ends, strict=True)
            if len(place)
        ]
        every: tuple[Any, Any] = concatenated(read)
        came = np.concatenate(places)
        if (np.diff(came) == 1).all():
            return every  # not copied once more: it may be the whole set
        order = np.argsort(came)
        inputs, labels = jax.tree.map(lambda array: array[order], every)
        return inputs, labels

    def known_labels(self) -> Any:
        """See ``Examples``."""
        labels = [part.known_labels() for part in self.parts]
        return None if any(each is None for each in labels) else concatenated(labels)


def concatenated(parts: Sequence[Any]) -> Any:
    """Columns of several parts of a split, one after the other.

    Raises:
        InputError: if examples differ in shape or dtype.
    """
    kinds = [jax.tree.map(spec_of, part) for part in parts]
    for kind in kinds:
        if kind != kinds[0]:
            got = f"{described(kinds[0])} and {described(kind)}"
            raise InputError("split", "parts with examples of the same shape and dtype", got)
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def check_count(argument: str, value: Any, most: int) -> None:
    """Checks that a value is a number of examples that there are.

    Raises:
        InputError: if it is not an integer from 1 to ``most``.
    """
    integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not integer or not 1 <= value <= most:
        raise InputError(argument, f"an integer from 1 to {most}", value)
