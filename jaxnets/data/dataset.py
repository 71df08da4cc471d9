"""What a data set is: examples and labels on the host, in a training and a test split."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnets.arrays import InputError, describe


@dataclass(frozen=True, eq=False)
class Split:
    """Examples and their labels, as NumPy arrays on the host.

    Args:
        inputs: the examples, [N, ...], of any integer, boolean or floating dtype.
        labels: class numbers from 0, integers [N] (or [N, ...], one for each position); or values
            to predict, floats [N, ...].

    Raises:
        InputError: if an array is not a NumPy array of numbers with a batch axis, the lengths
            differ, there are no examples, or a class number is negative.
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
        # JAX would read a negative index from the end, silently.
        if self.labels.dtype.kind == "i" and self.labels.size and self.labels.min() < 0:
            raise InputError("labels", "class numbers from 0", int(self.labels.min()))

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.inputs)

    @property
    def spec(self) -> "ElementSpec":
        """The shape and dtype of one example and of its label."""
        return ElementSpec(
            *(
                jax.ShapeDtypeStruct(array.shape[1:], array.dtype)
                for array in (self.inputs, self.labels)
            )
        )

    def take(self, n: int) -> "Split":
        """The first n examples.

        Args:
            n: how many, from 1 to ``len(self)``.

        Raises:
            InputError: if n is not an integer in that range.
        """
        integer = isinstance(n, int | np.integer) and not isinstance(n, bool)
        if not integer or not 1 <= n <= len(self):
            raise InputError("n", f"an integer from 1 to {len(self)}", n)
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


class ElementSpec(NamedTuple):
    """The shape and dtype of one example and of its label.

    Attributes:
        inputs: of an example.
        labels: of a label.
    """

    inputs: jax.ShapeDtypeStruct
    labels: jax.ShapeDtypeStruct


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split of the same kind of examples.

    Args:
        name: what it is called, such as ``mnist``.
        train: the examples to learn from.
        test: the examples to be judged by; the same shapes and dtypes.
        class_names: the name of each class in the order of its number, or None if there are none.
        origin: where it was found, in words, or None.

    Raises:
        InputError: if the splits differ in the shape or dtype of an example or a label, or if
            there are class names and the labels are not all numbers of them.
    """

    name: str
    train: Split
    test: Split
    class_names: tuple[str, ...] | None = None
    origin: str | None = None

    def __post_init__(self) -> None:
        """Checks that the parts fit together."""
        if not isinstance(self.name, str) or not self.name:
            raise InputError("name", "a non-empty string", self.name)
        for name, split in (("train", self.train), ("test", self.test)):
            if not isinstance(split, Split):
                raise InputError(name, "a Split", type(split).__name__)
        _check_alike("test inputs", self.test.inputs, self.train.inputs)
        _check_alike("test labels", self.test.labels, self.train.labels)
        if self.class_names is not None:
            self._check_class_names(self.class_names)

    def _check_class_names(self, names: tuple[str, ...]) -> None:
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            raise InputError("class_names", "a tuple of strings or None", names)
        largest = self._largest_label()
        if largest is None:
            raise InputError("class_names", "None, as the labels are not integers", names)
        if largest >= len(names):
            expected = f"at least {largest + 1} names, as label {largest} occurs"
            raise InputError("class_names", expected, names)

    def _largest_label(self) -> int | None:
        if self.train.labels.dtype.kind == "f":
            return None
        return max(int(split.labels.max(initial=0)) for split in (self.train, self.test))

    @property
    def spec(self) -> ElementSpec:
        """The shape and dtype of one example and of its label."""
        return ElementSpec(
            *(
                jax.ShapeDtypeStruct(array.shape[1:], array.dtype)
                for array in (self.train.inputs, self.train.labels)
            )
        )

    @property
    def num_classes(self) -> int | None:
        """The number of classes: of names, or else the largest label + 1; None for regression."""
        if self.class_names is not None:
            return len(self.class_names)
        largest = self._largest_label()
        return None if largest is None else largest + 1


def _check_array(name: str, array: Any, kinds: str) -> None:
    if not isinstance(array, np.ndarray):
        raise InputError(name, "a NumPy array", type(array).__name__)
    if array.dtype.kind not in kinds:
        raise InputError(name, "an array of numbers", describe(array))
    if array.ndim == 0:
        raise InputError(name, "an array with a batch axis, [N, ...]", describe(array))


def _check_alike(name: str, array: np.ndarray, reference: np.ndarray) -> None:
    if (array.shape[1:], array.dtype) != (reference.shape[1:], reference.dtype):
        example, expected = describe(array[0]), describe(reference[0])
        raise InputError(name, f"{expected} for each example, as in train", example)
