"""Sources of data: data sets that were found, whose splits are read on first use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from jaxnets.data.audio.dataset import AudioFormat
from jaxnets.data.dataset import Dataset, Split, in_memory
from jaxnets.data.spec import single
from jaxnets.data.streaming import Examples
from jaxnets.data.streaming.examples import concatenated
from jaxnets.data.table_encoding import TableEncoder
from jaxnets.data.transforms.transform import Augmentation


@dataclass(frozen=True)
class Part:
    """One split of a source.

    Args:
        length: number of examples.
        read: a function of start and stop that reads this range of examples as a ``Split``.
        examples: the examples for streaming; or, if this format cannot be streamed, a description
            of one that can, for the error message.
    """

    length: int
    read: Callable[[int, int], Split]
    examples: Examples | str

    def example_shape(self) -> tuple[int, ...]:
        """Reads the first example and returns its shape.

        Raises:
            InputError: if the inputs are several arrays.
        """
        examples = self.read(0, 1) if isinstance(self.examples, str) else self.examples
        inputs, _ = examples.gather(np.zeros(1, np.int32))
        shape: tuple[int, ...] = single("inputs", inputs).shape[1:]
        return shape


@dataclass(frozen=True)
class Source:
    """A data set that was found but has not been read.

    Args:
        origin: description of the place where it was found.
        parts: the splits by name, such as ``train`` and ``test``.
        class_names: the name of each class, or None if there are none.
        window: for the steps of a series, in the order of time, the number of steps in a window;
            None if each row is an example.
        asks_label: whether the user can choose the label column and its kind.
        images: whether it is a folder of images, which can be resized.
        left_out: descriptions of files that are not read.
        encoder: the encoder of the rows of a table; None for other data.
        audio: the format of recordings; None for other data.
        boxes: whether the labels are boxes of objects, see ``DetectionDataset``.
        scatter: see ``DetectionDataset``.
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
    boxes: bool = False
    scatter: Augmentation | None = None


def held(split: Split, instead: str | None = None) -> Part:
    """Makes a part of a split that is in memory.

    Args:
        split: the split.
        instead: if streaming is impossible, description of a format that can be streamed.
    """
    return Part(len(split), split.between, instead or split)


def held_dataset(dataset: Dataset, origin: str) -> Source:
    """Makes a source of a data set that is in memory."""
    parts = {"train": held(in_memory(dataset.train)), "test": held(in_memory(dataset.test))}
    return Source(origin, parts, dataset.class_names)


def lying(examples: Examples) -> Part:
    """Makes a part of examples that are read from their files."""

    def read(start: int, stop: int) -> Split:
        return Split(*examples.gather(np.arange(start, stop)))

    return Part(len(examples), read, examples)


def join(splits: list[Split]) -> Split:
    """Concatenates splits of the same kind of examples."""
    if len(splits) == 1:
        return splits[0]
    return Split(*concatenated([(split.inputs, split.labels) for split in splits]))
