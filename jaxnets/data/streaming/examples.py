"""Examples that are read by number, and ranges, selections and concatenations of them."""

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
    """Base class of examples of one shape and dtype that are read by number.

    An object is pickled for worker processes, so it should contain the location of the data and not
    the data.
    """

    @abstractmethod
    def __len__(self) -> int:
        """The number of examples."""

    @abstractmethod
    def gather(self, rows: np.ndarray) -> tuple[Any, Any]:
        """Reads examples.

        Args:
            rows: numbers of the examples, integers [b] with b ≥ 1, from 0 to ``len(self) - 1``.

        Returns:
            The inputs and the labels, each an array [b, ...], or a tuple or dictionary of them;
            None for no labels.

        Raises:
            InputError: if the data are damaged; the message names the file and the place in it.
        """

    def known_labels(self) -> Any:
        """Returns all labels if that does not require reading the inputs; otherwise None."""
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__} of {len(self):,} examples"

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        """Returns one example and its label, which is None if there are no labels."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        inputs, labels = jax.tree.map(lambda array: array[0], self.gather(np.array([number])))
        return inputs, labels


@dataclass(frozen=True, eq=False, repr=False)
class Indexed(Examples):
    """Examples of any object with a length and indexing.

    Args:
        source: an object that returns (input, label), or an input alone, for a number.
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
    """Returns an example and its label as columns of arrays; None without a label."""
    try:
        example = source[number]
    except (TypeError, ValueError, LookupError) as error:
        own = isinstance(error, KeyError) and not isinstance(source, Mapping)
        if isinstance(error, InputError) or own:  # an error within the user's __getitem__
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
    # Python's numbers have no size: JAX treats them as 32-bit, NumPy as 64-bit.
    if isinstance(value, float):
        return narrowed(what, np.asarray(value), np.float32)
    if isinstance(value, int) and not isinstance(value, bool):
        return np.asarray(check_integer(what, value), np.int32)
    return np.asarray(value.detach().cpu() if is_tensor(value) else value)


def stacked(what: str, columns: tuple[Any, ...], rows: np.ndarray) -> Any:
    """Stacks columns whose arrays have the same shapes and dtypes.

    Args:
        what: name of the columns in error messages.
        columns: one column for each row.
        rows: the numbers of the examples.

    Raises:
        InputError: if a column differs from the first; the message names the example.
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
    """A range of examples, ``start`` to ``stop - 1``.

    Args:
        whole: all examples.
        start: number of the first example.
        stop: number after that of the last example.
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
    """A selection of examples.

    Args:
        whole: all examples.
        numbers: numbers of the selected examples, int32 [n].
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
    """A concatenation of examples of the same kind.

    Args:
        parts: the examples to concatenate.
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
            return every  # avoids another copy, as it may be the whole data set
        order = np.argsort(came)
        inputs, labels = jax.tree.map(lambda array: array[order], every)
        return inputs, labels

    def known_labels(self) -> Any:
        """See ``Examples``."""
        labels = [part.known_labels() for part in self.parts]
        return None if any(each is None for each in labels) else concatenated(labels)


def concatenated(parts: Sequence[Any]) -> Any:
    """Concatenates columns of several parts of a split.

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
    """Checks that a value is a possible number of examples.

    Raises:
        InputError: if it is not an integer from 1 to ``most``.
    """
    integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not integer or not 1 <= value <= most:
        raise InputError(argument, f"an integer from 1 to {most}", value)
