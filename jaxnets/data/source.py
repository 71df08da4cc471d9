"""A source of data: its splits, which are read on first use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from jaxnets.data.audio.dataset import AudioFormat
from jaxnets.data.dataset import Dataset, Split, in_memory
from jaxnets.data.spec import single
from jaxnets.data.streaming import Examples
from jaxnets.data.streaming.examples import concatenated
from jaxnets.data.table_encoding import TableEncoder


@dataclass(frozen=True)
class Part:
    """One split as its source holds it.

    Args:
        length: the number of examples.
        read: gives the examples from one number up to another, as a ``Split``.
        examples: the same, read one by one as they are used; or, if they cannot be, what could, in
            words.
    """

    length: int
    read: Callable[[int, int], Split]
    examples: Examples | str

    def example_shape(self) -> tuple[int, ...]:
        """The shape of an example, by reading one if that can be done.

        Raises:
            InputError: if it has several arrays.
        """
        examples = self.read(0, 1) if isinstance(self.examples, str) else self.examples
        inputs, _ = examples.gather(np.zeros(1, np.int32))
        shape: tuple[int, ...] = single("inputs", inputs).shape[1:]
        return shape


@dataclass(frozen=True)
class Source:
    """A data set that was found, and not yet read.

    Args:
        origin: where it was found, in words.
        parts: its splits by name, such as ``train`` and ``test``.
        class_names: the name of each class, or None if there are none.
        window: None unless the examples are the steps of a series, in the order of time; then how
            many of them a forecast is made from.
        asks_label: whether it is for the user to say which column is the label, and what kind.
        images: whether it is a folder of images, which can be brought to any size.
        left_out: what is there and is not read, in words.
        encoder: of a table, what makes inputs of new rows.
        audio: of recordings, how WAV files become inputs.
    """

    origin: str
    parts: Mapping[str, Part]
    class_names: tuple[str, ...] | None = None
    window: int | None = None
    asks_label: bool = False
    images: bool = False
    left_out: tuple[str, ...] = ()
    encoder: TableEncoder | None = None
    audio: AudioFormat | None = None


def held(split: Split, instead: str | None = None) -> Part:
    """A part that is in memory already.

    Args:
        split: the part.
        instead: if it had to be read whole, what would not have to be.
    """
    return Part(len(split), split.between, instead or split)


def held_dataset(dataset: Dataset, origin: str) -> Source:
    """A source whose splits are in memory already."""
    parts = {"train": held(in_memory(dataset.train)), "test": held(in_memory(dataset.test))}
    return Source(origin, parts, dataset.class_names)


def lying(examples: Examples) -> Part:
    """A part whose examples are read where they are."""

    def read(start: int, stop: int) -> Split:
        return Split(*examples.gather(np.arange(start, stop)))

    return Part(len(examples), read, examples)


def join(splits: list[Split]) -> Split:
    """Several splits of the same kind of examples, one after the other."""
    if len(splits) == 1:
        return splits[0]
    return Split(*concatenated([(split.inputs, split.labels) for split in splits]))
