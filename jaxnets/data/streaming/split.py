"""``StreamedSplit``, a split of a data set that is read during training."""

import functools
import itertools
import math
import weakref
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import jax
import numpy as np

from jaxnets.arrays import InputError, check_fits, check_positive, describe
from jaxnets.data.spec import (
    ElementSpec,
    describe_examples,
    described,
    named,
    spec_of,
)
from jaxnets.data.streaming.crew import Batch, Crew
from jaxnets.data.streaming.examples import Chosen, Examples, Indexed, Range, check_count

_MOST_CHECKED, _PIECE = 2**29, 2**22  # bytes


class StreamedSplit:
    """A ``Split`` for data sets larger than memory: examples are read during training.

    Args:
        examples: any object with a length that returns (input, label) for a number from 0. Inputs
            and labels are NumPy arrays or numbers, or tuples or dictionaries of them, all of one
            shape and dtype. Without labels the object returns (input,), or the input itself unless
            that is a tuple or list. With workers it must be picklable.
        workers: number of processes that read; 0 for threads of this process.
        prefetch: number of batches that each worker, or all threads together, read ahead.
        classes: number of classes if labels are class numbers; None if unknown.

    Attributes:
        spec: the shape and dtype of one example and of its label.

    Raises:
        InputError: if there are no examples, the first does not consist of arrays of numbers, or
            another argument is invalid.

    Examples:
        >>> squares = StreamedSplit([(float(n), float(n * n)) for n in range(9)])
        >>> inputs, labels = next(squares.batches([np.array([2, 7])]))
        >>> inputs, labels
        (array([2., 7.], dtype=float32), array([ 4., 49.], dtype=float32))
    """

    def __init__(
        self, examples: Any, *, workers: int = 0, prefetch: int = 2, classes: int | None = None
    ) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
            raise InputError("workers", "the number of processes, from 0", workers)
        check_positive("prefetch", prefetch)
        if classes is not None:
            check_positive("classes", classes)
        if not _is_indexed(examples):
            expected = "an object with __len__ and __getitem__"
            raise InputError("examples", expected, type(examples).__name__)
        if len(examples) == 0:
            raise InputError("examples", "at least one example", "none")
        self.examples = examples if isinstance(examples, Examples) else Indexed(examples)
        self.workers, self.prefetch, self.classes = workers, prefetch, classes
        self.spec = _spec(self.examples)
        self._resting: list[Crew] = []
        self._end = weakref.finalize(self, _close, self._resting)

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.examples)

    def __repr__(self) -> str:
        read = f"{self.workers} workers" if self.workers else "threads"
        return f"StreamedSplit of {self.described()}, read by {read}"

    def described(self) -> str:
        """Returns the number and kind of the examples as text."""
        return describe_examples(len(self), self.spec)

    @property
    def inputs(self) -> np.ndarray:
        """Not available, because the inputs are not in memory.

        Raises:
            InputError: always.
        """
        raise self.absent("inputs")

    @property
    def labels(self) -> np.ndarray:
        """Not available, because the labels are not in memory.

        Raises:
            InputError: always.
        """
        raise self.absent("labels")

    def absent(self, what: str) -> InputError:
        """Returns the error to raise if a split must be in memory."""
        got = f"a streamed split of {len(self)} examples; load it without streaming=True"
        return InputError("split", f"a split whose {what} are in memory", got)

    def known_labels(self) -> Any:
        """Returns all labels if that does not require reading the inputs; otherwise None."""
        return self.examples.known_labels()

    def checksum(self) -> int | None:
        """Computes a checksum of the examples.

        If the data set has more than half a gigabyte, evenly spaced examples of that total size are
        read, and all labels if that does not require reading the inputs. Otherwise all examples are
        read, and the result equals the checksum of the same examples in memory.

        Returns:
            None if reading an example twice gives different data, such as random augmentation.
        """
        leaves = jax.tree.leaves(self.spec)
        size = sum(math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in leaves)
        count = min(len(self), max(1, _MOST_CHECKED // max(1, size)))
        rows = np.linspace(0, len(self) - 1, count).round().astype(np.int32)
        once, again = (jax.tree.leaves(self.gather(rows[:4])) for _ in range(2))
        if any(one.tobytes() != other.tobytes() for one, other in zip(once, again, strict=True)):
            return None
        checks = [(0, 0)] * len(leaves)
        pieces = np.array_split(rows, min(count, max(1, count * size // _PIECE)))
        for batch in self.batches(pieces):
            arrays = jax.tree.leaves(batch)
            checks = [_checked_on(*pair) for pair in zip(checks, arrays, strict=True)]
        known = None if count == len(self) else self.known_labels()
        if known is not None:
            of_labels = [_checked_on((0, 0), array) for array in jax.tree.leaves(known)]
            checks[-len(of_labels) :] = of_labels
        return functools.reduce(_joined, checks)[0]

    def gather(self, rows: np.ndarray) -> Batch:
        """Reads some examples immediately.

        Args:
            rows: numbers of the examples, integers [b].

        Returns:
            The inputs and the labels, each an array [b, ...], or a tuple or dictionary of them;
            None for no labels.

        Raises:
            InputError: see ``batches``.
        """
        self._check_rows(rows)
        return self._checked(rows, self.examples.gather(rows)) if len(rows) else self._nothing()

    def with_classes(self, classes: int) -> "StreamedSplit":
        """Returns the split with a check that labels are below a number of classes."""
        return self._of(self.examples, classes)

    def chosen(self, numbers: np.ndarray) -> "StreamedSplit":
        """Returns the split of the examples with these numbers, integers [n]."""
        return self._of(Chosen(self.examples, numbers.astype(np.int32)), self.classes)

    def take(self, n: int) -> "StreamedSplit":
        """Returns the split of the first n examples.

        Args:
            n: number of examples, from 1 to ``len(self)``.

        Raises:
            InputError: if n is not an integer in that range.
        """
        check_count("n", n, len(self))
        return self._of(Range(self.examples, 0, int(n)), self.classes)

    def _of(self, examples: Examples, classes: int | None) -> "StreamedSplit":
        """Returns a split of other examples with the same settings."""
        options = {"workers": self.workers, "prefetch": self.prefetch}
        return StreamedSplit(examples, **options, classes=classes)

    def batches(self, rows: Sequence[np.ndarray]) -> Iterator[Batch]:
        """Reads batches, a few of them ahead.

        The batches depend only on ``rows``, not on the number of readers. To resume a pass at a
        step, leave out the rows before it; to divide it between processes, pass each process its
        own part of every row. Workers are kept after the last batch for the next pass. They are
        ended if the iterator is closed earlier or an exception is raised.

        Args:
            rows: for each batch the numbers of its examples, integers [b].

        Yields:
            The inputs and the labels of each batch, in order; see ``gather``.

        Raises:
            InputError: if there is no example with a number, an example differs from the first in
                shape or dtype, a label is not a class number, or the data are damaged (the message
                names the file and the place in it).
            RuntimeError: if a worker ends unexpectedly.
        """
        if len(rows) == 0:
            return
        crew: Crew | None = None
        reading: deque[tuple[np.ndarray, Future[Batch]]] = deque()
        ahead = self.prefetch * max(self.workers, 1)
        upcoming = iter(rows)
        try:
            crew = self._crew()
            while crew is not None:
                for numbers in itertools.islice(upcoming, ahead + 1 - len(reading)):
                    reading.append((numbers, self._submit(crew, numbers)))
                numbers, batch = reading.popleft()
                result = self._checked(numbers, batch.result())
                if not reading:  # the last batch, after which a consumer may stop iterating
                    self._resting.append(crew)
                    crew = None
                yield result
        finally:
            if crew is not None:
                crew.close()

    def close(self) -> None:
        """Ends idle workers. Another pass starts new ones."""
        _close(self._resting)

    def _crew(self) -> Crew:
        if self._resting:
            return self._resting.pop()
        return Crew(self.examples, self.workers, self.prefetch)

    def _submit(self, crew: Crew, rows: np.ndarray) -> Future[Batch]:
        self._check_rows(rows)
        if len(rows):
            return crew.submit(rows)
        nothing: Future[Batch] = Future()
        nothing.set_result(self._nothing())
        return nothing

    def _nothing(self) -> Batch:
        empty = jax.tree.map(lambda spec: np.empty((0, *spec.shape), spec.dtype), self.spec)
        return empty.inputs, empty.labels

    def _check_rows(self, rows: np.ndarray) -> None:
        if not isinstance(rows, np.ndarray) or rows.dtype.kind not in "iu" or rows.ndim != 1:
            got = describe(rows) if isinstance(rows, np.ndarray) else type(rows).__name__
            raise InputError("rows", "arrays of the numbers of examples, integers [b]", got)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            expected = f"numbers from 0 to {len(self) - 1}"
            raise InputError("rows", expected, f"{rows.min()} to {rows.max()}")

    def _checked(self, rows: np.ndarray, batch: Batch) -> Batch:
        spec = ElementSpec(*jax.tree.map(spec_of, batch))
        if spec != self.spec:
            self._refuse_spec(rows, spec)
        for array in jax.tree.leaves(batch):
            if len(array) != len(rows):
                argument = f"examples from number {rows[0]}"
                raise InputError(argument, f"{len(rows)} examples", f"{len(array)}")
        for column, arrays in zip(("input", "label"), batch, strict=True):
            for name, array in _arrays(column, arrays).items():
                _check_fits(name, array, rows)
        labels = batch[1]
        if hasattr(labels, "dtype") and labels.dtype.kind in "iu":
            most = np.inf if self.classes is None else self.classes - 1
            if labels.size and (labels.min() < 0 or labels.max() > most):
                self._refuse_label(rows, labels, most)
        return batch

    def _refuse_spec(self, rows: np.ndarray, came: ElementSpec) -> None:
        expected, got = self.spec.inputs, came.inputs
        if expected == got:
            expected, got = self.spec.labels, came.labels
        argument = f"examples from number {rows[0]}"
        raise InputError(argument, f"{described(expected)}, as example 0", described(got))

    def _refuse_label(self, rows: np.ndarray, labels: np.ndarray, most: float) -> None:
        bad = np.argwhere((labels < 0) | (labels > most))[0]
        expected = "class numbers from 0" + ("" if most == np.inf else f" to {most}")
        raise InputError(f"label of example {rows[bad[0]]}", expected, int(labels[tuple(bad)]))


#: The CRC-32 of some bytes, and how many they are.
_Check = tuple[int, int]


def _checked_on(check: _Check, array: np.ndarray) -> _Check:
    """Continues a checksum with the bytes of an array."""
    return zlib.crc32(array.tobytes(), check[0]), check[1] + array.nbytes


def _joined(first: _Check, second: _Check) -> _Check:
    """Combines the checksums of two byte strings to that of their concatenation.

    CRC-32 is linear over XOR. So the first string changes the checksum of the second as it changes
    that of zeros of the same length.
    """
    after, alone = first[0], 0
    for start in range(0, second[1], _PIECE):
        zeros = bytes(min(_PIECE, second[1] - start))
        after, alone = zlib.crc32(zeros, after), zlib.crc32(zeros, alone)
    return second[0] ^ after ^ alone, first[1] + second[1]


def _check_fits(name: str, array: np.ndarray, rows: np.ndarray) -> None:
    try:
        check_fits(name, array)
    except InputError:
        for row, example in zip(rows, array, strict=True):
            check_fits(f"{name} of example {row}", example)
        raise


def _is_indexed(examples: Any) -> bool:
    scalar = getattr(examples, "shape", None) == ()
    return all(hasattr(examples, name) for name in ("__len__", "__getitem__")) and not scalar


def _close(crews: list[Crew]) -> None:
    while crews:
        crews.pop().close()


def _spec(examples: Examples) -> ElementSpec:
    inputs, labels = examples.gather(np.zeros(1, np.int32))
    for column, arrays, kinds in (("input", inputs, "buif"), ("label", labels, "uif")):
        for name, array in _arrays(column, arrays).items():
            if array.dtype.kind not in kinds:
                raise InputError(f"{name} of example 0", "numbers", describe(np.asarray(array[0])))
    return ElementSpec(*jax.tree.map(spec_of, (inputs, labels)))


def _arrays(name: str, column: Any) -> dict[str, np.ndarray]:
    return {} if column is None else named(name, column)
