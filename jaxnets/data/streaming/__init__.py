"""Data sets larger than memory, read from their files during training, a few batches ahead."""

from jaxnets.data.streaming.examples import Chosen, Examples, Joined, Range
from jaxnets.data.streaming.records import RecordPairs, Records
from jaxnets.data.streaming.split import StreamedSplit

__all__ = [
    "Chosen",
    "Examples",
    "Joined",
    "Range",
    "RecordPairs",
    "Records",
    "StreamedSplit",
]
