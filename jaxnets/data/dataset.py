"""Data sets: examples and labels on the host, in a training and a test split."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxnets.arrays import (
    InputError,
    check_fits,
    check_positive,
    check_usable,
    describe,
    shortened,
)
from jaxnets.data.spec import (
    ElementSpec,
    describe_examples,
    described,
    named,
    same_structure,
    spec_of,
)
from jaxnets.data.streaming import Examples, StreamedSplit
from jaxnets.data.streaming.examples import check_count


@dataclass(frozen=True, eq=False, repr=False)
class Split(Examples):
    """Examples and their labels, as NumPy arrays on the host.

    Args:
        inputs: the examples, [N, ...], of any integer, boolean or floating dtype; or a tuple or
            dictionary of such arrays, which are the arguments of the model's call.
        labels: class numbers from 0, integers [N], or [N, ...] with one for each position, which
            may include a label that the loss ignores; or values to predict, [N, ...]; or a tuple
            or dictionary of such arrays; None for no labels.

    Raises:
        InputError: if an array is not a NumPy array of numbers with a batch axis, the lengths
            differ, there are no examples, or a 64-bit number does not fit into 32 bits, which is
            all that JAX uses by default.
    """

    inputs: Any
    labels: Any = None

    def __post_init__(self) -> None:
        """Checks the arrays."""
        for name, array in named("inputs", self.inputs).items():
            _check_array(name, array, kinds="buif")
            if len(array) == 0:
                raise InputError(name, "at least one example", describe(array))
            if len(array) != len(self):
                expected = f"{len(self)} examples, as the other inputs have"
                raise InputError(name, expected, describe(array))
        labels = {} if self.labels is None else named("labels", self.labels)
        for name, array in labels.items():
            _check_array(name, array, kinds="uif")
            if len(array) != len(self):
                expected = f"{len(self)} labels, one for each example"
                raise InputError(name, expected, describe(array))

    def __len__(self) -> int:
        """The number of examples."""
        return len(next(iter(named("inputs", self.inputs).values())))

    def __repr__(self) -> str:
        return f"Split of {self.described()}"

    def described(self) -> str:
        """Returns the number and kind of the examples as text."""
        return describe_examples(len(self), self.spec)

    @property
    def columns(self) -> dict[str, Any]:
        """The columns by name: ``inputs``, and ``labels`` if there are any."""
        own = {"inputs": self.inputs}
        return own if self.labels is None else {**own, "labels": self.labels}

    @property
    def spec(self) -> ElementSpec:
        """The shape and dtype of one example and of its label."""
        return ElementSpec(*jax.tree.map(spec_of, (self.inputs, self.labels)))

    def gather(self, rows: np.ndarray) -> tuple[Any, Any]:
        """Returns the inputs and labels of the examples with these numbers."""
        return self._each(lambda array: array[rows])

    def known_labels(self) -> Any:
        """Returns the labels."""
        return self.labels

    def chosen(self, numbers: np.ndarray) -> "Split":
        """Returns the split of the examples with these numbers, integers [n]."""
        return Split(*self.gather(numbers))

    def take(self, n: int) -> "Split":
        """Returns the split of the first n examples.

        Args:
            n: number of examples, from 1 to ``len(self)``.

        Raises:
            InputError: if n is not an integer in that range.
        """
        check_count("n", n, len(self))
        return Split(*self._each(lambda array: array[:n]))

    def between(self, start: int, stop: int) -> "Split":
        """Returns the split of the examples ``start`` to ``stop - 1``.

        Args:
            start: number of the first example, from 0.
            stop: number after that of the last example.

        Raises:
            InputError: if the range is empty or exceeds the number of examples.
        """
        if not 0 <= start < stop <= len(self):
            expected = f"a range within the {len(self)} examples"
            raise InputError("start and stop", expected, f"{start} to {stop}")
        return Split(*self._each(lambda array: array[start:stop]))

    def _each(self, function: Callable[[np.ndarray], np.ndarray]) -> tuple[Any, Any]:
        return jax.tree.map(function, self.inputs), jax.tree.map(function, self.labels)


@dataclass(frozen=True)
class Draws:
    """A split without examples, for training that generates its data from random keys.

    The objective receives a batch without columns, and draws the data from its key.

    Args:
        steps: number of steps in an epoch.

    Raises:
        InputError: if ``steps`` is not a positive integer.
    """

    steps: int

    def __post_init__(self) -> None:
        """Checks the argument."""
        check_positive("steps", self.steps)

    def __len__(self) -> int:
        """The number of steps."""
        return self.steps

    def described(self) -> str:
        """Returns the number of steps as text."""
        return f"{self.steps:,} steps that draw their own data"

    @property
    def columns(self) -> dict[str, Any]:
        """An empty dictionary, as there are no columns."""
        return {}

    @property
    def spec(self) -> ElementSpec:
        """A spec of None for inputs and labels."""
        return ElementSpec(None, None)

    def known_labels(self) -> None:
        """Returns None, as there are no labels."""
        return


#: All kinds of splits.
AnySplit = Split | StreamedSplit | Draws


def check_split(argument: str, split: Any) -> None:
    """Checks that a value is a split."""
    if not isinstance(split, AnySplit):
        kind = f"the class {split.__name__}" if isinstance(split, type) else None
        got = kind or f"a {type(split).__name__}"
        raise InputError(argument, "a Split or a StreamedSplit", got)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A training and a test split of the same kind of examples.

    Args:
        name: name of the data set, such as ``mnist``.
        train: the training examples: a ``Split``, a ``StreamedSplit`` that reads them during
            training, or ``Draws``.
        test: the test examples, of the same shapes and dtypes; None for no test.
        class_names: the name of each class in the order of its number, or None if there are none.
        origin: a description of the place where the data set was found, or None.

    Raises:
        InputError: if the splits differ in the shape or dtype of an example or a label, or if
            there are class names and a label is not the number of one. Labels of a streamed split
            are checked when batches are read.
    """

    name: str
    train: Split | StreamedSplit  # or Draws, which has no examples to read
    test: Any = None
    class_names: tuple[str, ...] | None = None
    origin: str | None = None

    def __post_init__(self) -> None:
        """Checks that the parts fit together."""
        if not isinstance(self.name, str) or not self.name:
            raise InputError("name", "a non-empty string", self.name)
        for name, split in (("train", self.train), ("test", self.test)):
            if not isinstance(split, AnySplit) and (split is not None or name == "train"):
                raise InputError(name, "a Split or a StreamedSplit", type(split).__name__)
        if self.test is not None:
            for column in self.spec._fields:
                self._check_same_spec(column)
        if self.class_names is not None:
            self._check_class_names(self.class_names)
            for name in self.splits:
                self._bound(name, len(self.class_names))

    def _check_same_spec(self, column: str) -> None:
        """Checks that a column has the same shape and dtype in both splits."""
        train, test = (getattr(split.spec, column) for split in (self.train, self.test))
        argument = f"test {column}"
        pairs = [((argument, train), test)]
        if same_structure(train, test):
            pairs = list(zip(named(argument, train).items(), jax.tree.leaves(test), strict=False))
        for (name, expected), spec in pairs:
            if spec != expected:
                wanted = f"{described(expected)} for each example, as in train"
                raise InputError(name, wanted, described(spec))

    def __repr__(self) -> str:
        return "\n  ".join(self._lines())

    def _lines(self) -> list[str]:
        """Returns the lines of ``repr``."""
        origin = "" if self.origin is None else f" ({self.origin})"
        lines = [f"{type(self).__name__} {self.name}{origin}"]
        for name, split in self.splits.items():
            streamed = " (streamed)" if isinstance(split, StreamedSplit) else ""
            lines.append(f"{name:<5}  {split.described()}{streamed}")
        if self.class_names is not None:
            count = len(self.class_names)
            lines.append(f"{count} classes: {shortened(self.class_names)}")
        return lines

    @property
    def splits(self) -> dict[str, AnySplit]:
        """The splits by name."""
        every = {"train": self.train, "test": self.test}
        return {name: split for name, split in every.items() if split is not None}

    def _check_class_names(self, names: tuple[str, ...]) -> None:
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            raise InputError("class_names", "a tuple of strings or None", names)
        if not self._has_classes:
            raise InputError("class_names", "None, as the labels are not integers", names)
        for split in self.splits.values():
            largest = int(split.labels.max(initial=0)) if isinstance(split, Split) else 0
            if largest >= len(names):
                expected = f"at least {largest + 1} names, as label {largest} occurs"
                raise InputError("class_names", expected, names)

    def _bound(self, name: str, classes: int) -> None:
        """Makes a streamed split check its labels when it reads them."""
        split = getattr(self, name)
        if isinstance(split, StreamedSplit) and split.classes != classes:
            object.__setattr__(self, name, split.with_classes(classes))

    @property
    def _has_classes(self) -> bool:
        labels = self.spec.labels
        return hasattr(labels, "dtype") and np.dtype(labels.dtype).kind != "f"

    @property
    def spec(self) -> ElementSpec:
        """The shape and dtype of one example and of its label."""
        return self.train.spec

    @property
    def num_classes(self) -> int | None:
        """The number of class names, or else the largest label + 1; None for regression.

        Raises:
            InputError: if there are no class names, and a streamed split would have to read all
                its examples to find its labels.
        """
        if self.class_names is not None or not self._has_classes:
            return None if self.class_names is None else len(self.class_names)
        labels = [_known_labels(split) for split in self.splits.values()]
        return max(int(each.max(initial=0)) for each in labels) + 1


def in_memory(split: AnySplit | None) -> Split:
    """Checks that a split is in memory, and returns it.

    Raises:
        InputError: if it is streamed, ``Draws`` or None.
    """
    if isinstance(split, StreamedSplit):
        raise split.absent("examples")
    if not isinstance(split, Split):
        got = "none" if split is None else split.described()
        raise InputError("split", "a split whose examples are in memory", got)
    return split


def _known_labels(split: AnySplit) -> np.ndarray:
    labels = split.known_labels()
    if labels is None:
        expected = "the classes' names, as the labels of streamed examples are not known beforehand"
        raise InputError("class_names", expected, None)
    return labels


def _check_array(name: str, array: Any, kinds: str) -> None:
    if not isinstance(array, np.ndarray):
        raise InputError(name, "a NumPy array", type(array).__name__)
    check_usable(name, "an array of numbers", array)
    if array.dtype.kind not in kinds:
        raise InputError(name, "an array of numbers", describe(array))
    if array.ndim == 0:
        raise InputError(name, "an array with a batch axis, [N, ...]", describe(array))
    check_fits(name, array)
