"""Texts as a data set."""

from dataclasses import dataclass, field

import numpy as np

from jaxnets.arrays import InputError
from jaxnets.data.batching import bucketed
from jaxnets.data.dataset import Dataset, Split, in_memory
from jaxnets.data.spec import described, single
from jaxnets.data.text.encoder import TextEncoder
from jaxnets.data.text.vocabulary import PAD, Vocabulary


@dataclass(frozen=True, eq=False, repr=False)
class TextDataset(Dataset):
    """A ``Dataset`` of numbered tokens, int32 [N, T], with their encoder.

    Args:
        encoder: what made the inputs of texts, and makes them of new ones.

    Raises:
        InputError: if a number is not in the encoder's vocabulary, and as ``Dataset``.
    """

    encoder: TextEncoder = field(kw_only=True)

    def __post_init__(self) -> None:
        """Checks that the numbers are the vocabulary's."""
        super().__post_init__()
        if not isinstance(self.encoder, TextEncoder):
            raise InputError("encoder", "a TextEncoder", self.encoder)
        for name, split in self.splits.items():
            tokens = single(f"{name} inputs", in_memory(split).inputs)
            if tokens.dtype.kind not in "ui":
                raise InputError(f"{name} inputs", "numbers of tokens", str(tokens.dtype))
            low, high = int(tokens.min()), int(tokens.max())
            if low < 0 or high >= len(self.vocabulary):
                expected = f"numbers in [0, {len(self.vocabulary) - 1}]"
                raise InputError(f"{name} inputs", expected, f"{low} to {high}")

    def _lines(self) -> list[str]:
        return [*super()._lines(), f"{len(self.vocabulary):,} tokens in the vocabulary"]

    @property
    def vocabulary(self) -> Vocabulary:
        """The encoder's."""
        return self.encoder.vocabulary

    def widths(self, buckets: int) -> np.ndarray:
        """The padded length of each training text, if texts of similar length share a batch.

        Args:
            buckets: how many widths there are at most; see ``bucketed``.

        Returns:
            int32 [N]; what a width leaves out of a text is padding.

        Raises:
            InputError: if buckets is not a positive integer, or a text has a label for each token,
                which would be left out too.
        """
        labels = self.spec.labels
        if getattr(labels, "shape", None) != ():
            got = f"labels {list(labels.shape)}" if hasattr(labels, "shape") else described(labels)
            raise InputError("buckets", "None or 1, but where a text has one label", got)
        return bucketed(_lengths(in_memory(self.train)), self.spec.inputs.shape[0], buckets)


def _lengths(split: Split) -> np.ndarray:
    """Tokens of each text up to its last that is no padding."""
    tokens = split.inputs != PAD
    length = tokens.shape[1] - np.argmax(tokens[:, ::-1], axis=1)
    return np.where(tokens.any(axis=1), length, 0)
