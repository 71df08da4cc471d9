"""What a data set is: examples and labels on the host, in a training and a test split."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxnets.arrays import InputError, check_fits, check_usable, describe, shortened
from jaxnets.data.spec import ElementSpec, describe_examples
from jaxnets.data.streaming import Examples, StreamedSplit
from jaxnets.data.streaming.examples import check_count


@dataclass(frozen=True, eq=False, repr=False)
class Split(Examples):
    """Examples and their labels, as NumPy arrays on the host.

    Args:
        inputs: the examples, [N, ...], of any integer, boolean or floating dtype.
        labels: class numbers from 0, integers [N] (or [N, ...], one for each position), and any
            number that the loss ignores; or values to predict, [N, ...].

    Raises:
        InputError: if an array is not a NumPy array of numbers with a batch axis, the lengths
            differ, there are no examples, or a number of 64 bits does not fit into the 32 that JAX
            takes.
    """

    inputs: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        """Checks the two arrays."""
        _check_array("inputs", self.inputs, kinds="buif")
        _check_array("labels", self.labels, kinds="uif")
        if len(self.inputs) == 0:
            raise InputError("inputs", "at least one example", describe(self.inputs))
        if len(self.labels) != len(self.inputs):
            expected = f"{len(self.inputs)} labels, one for each example"
            raise InputError("labels", expected, describe(self.labels))

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.inputs)

    def __repr__(self) -> str:
        return f"Split of {self.described()}"

    def described(self) -> str:
        """How many examples there are, and what they are, in words."""
        return describe_examples(len(self), self.spec)

    @property
    def spec(self) -> ElementSpec:
        """The shape and dtype of one example and of its label."""
        arrays = (self.inputs, self.labels)
        return ElementSpec(*(jax.ShapeDtypeStruct(a.shape[1:], a.dtype) for a in arrays))

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The inputs and labels of examples, by their numbers."""
        return self.inputs[rows], self.labels[rows]

    def known_labels(self) -> np.ndarray:
        """The labels."""
        return self.labels

    def chosen(self, numbers: np.ndarray) -> "Split":
        """The examples with these numbers, integers [n]."""
        return Split(self.inputs[numbers], self.labels[numbers])

    def take(self, n: int) -> "Split":
        """The first n examples.

        Args:
            n: how many, from 1 to ``len(self)``.

        Raises:
            InputError: if n is not an integer in that range.
        """
        check_count("n", n, len(self))
        return Split(self.inputs[:n], self.labels[:n])

    def between(self, start: int, stop: int) -> "Split":
        """The examples from one number up to another.

        Args:
            start: the first one's number, from 0.
            stop: the number after the last one's.

        Raises:
            InputError: if there are none, or not so many.
        """
        if not 0 <= start < stop <= len(self):
            expected = f"a range within the {len(self)} examples"
            raise InputError("start and stop", expected, f"{start} to {stop}")
        return Split(self.inputs[start:stop], self.labels[start:stop])


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A training and a test split of the same kind of examples.

    Args:
        name: what it is called, such as ``mnist``.
        train: the examples to learn from: a ``Split``, or a ``StreamedSplit`` that reads them as
            they are used.
        test: the examples to be judged by, likewise; the same shapes and dtypes.
        class_names: the name of each class in the order of its number, or None if there are none.
        origin: where it was found, in words, or None.

    Raises:
        InputError: if the splits differ in the shape or dtype of an example or a label, or if
            there are class names and the labels are not all numbers of them. Labels that are
            streamed are looked at as batches are read.
    """

    name: str
    train: Split | StreamedSplit
    test: Split | StreamedSplit
    class_names: tuple[str, ...] | None = None
    origin: str | None = None

    def __post_init__(self) -> None:
        """Checks that the parts fit together."""
        if not isinstance(self.name, str) or not self.name:
            raise InputError("name", "a non-empty string", self.name)
        for name, split in (("train", self.train), ("test", self.test)):
            if not isinstance(split, Split | StreamedSplit):
                raise InputError(name, "a Split or a StreamedSplit", type(split).__name__)
        for kind, spec, expected in zip(self.spec._fields, self.test.spec, self.spec, strict=True):
            if spec != expected:
                wanted = f"{describe(expected)} for each example, as in train"
                raise InputError(f"test {kind}", wanted, describe(spec))
        if self.class_names is not None:
            self._check_class_names(self.class_names)
            for name in ("train", "test"):
                self._bound(name, len(self.class_names))

    def __repr__(self) -> str:
        return "\n  ".join(self._lines())

    def _lines(self) -> list[str]:
        """What a person sees of the data."""
        origin = "" if self.origin is None else f" ({self.origin})"
        lines = [f"{type(self).__name__} {self.name}{origin}"]
        for name, split in (("train", self.train), ("test", self.test)):
            streamed = " (streamed)" if isinstance(split, StreamedSplit) else ""
            lines.append(f"{name:<5}  {split.described()}{streamed}")
        if self.class_names is not None:
            count = len(self.class_names)
            lines.append(f"{count} classes: {shortened(self.class_names)}")
        return lines

    def _check_class_names(self, names: tuple[str, ...]) -> None:
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            raise InputError("class_names", "a tuple of strings or None", names)
        if not self._has_classes:
            raise InputError("class_names", "None, as the labels are not integers", names)
        for split in (self.train, self.test):
            largest = int(split.labels.max(initial=0)) if isinstance(split, Split) else 0
            if largest >= len(names):
                expected = f"at least {largest + 1} names, as label {largest} occurs"
                raise InputError("class_names", expected, names)

    def _bound(self, name: str, classes: int) -> None:
        """Has the labels of a streamed split looked at as they are read."""
        split = getattr(self, name)
        if isinstance(split, StreamedSplit) and split.classes != classes:
            object.__setattr__(self, name, split.with_classes(classes))

    @property
    def _has_classes(self) -> bool:
        return np.dtype(self.spec.labels.dtype).kind != "f"

    @property
    def spec(self) -> ElementSpec:
        """The shape and dtype of one example and of its label."""
        return self.train.spec

    @property
    def num_classes(self) -> int | None:
        """The number of classes: of names, or else the largest label + 1; None for regression.

        Raises:
            InputError: if there are no names, and the labels of a streamed split cannot be had
                without reading all its examples.
        """
        if self.class_names is not None or not self._has_classes:
            return None if self.class_names is None else len(self.class_names)
        labels = [_known_labels(split) for split in (self.train, self.test)]
        return max(int(each.max(initial=0)) for each in labels) + 1


def in_memory(split: Split | StreamedSplit) -> Split:
    """The split, if it is in memory.

    Raises:
        InputError: if it is streamed.
    """
    if isinstance(split, StreamedSplit):
        raise split.absent("examples")
    return split


def _known_labels(split: Split | StreamedSplit) -> np.ndarray:
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
