"""``TextDataset``, a data set of encoded texts."""

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
    """A ``Dataset`` of token numbers, int32 [N, T], with the encoder of the texts.

    Args:
        encoder: the encoder of the texts, also for new ones.

    Raises:
        InputError: if a number is not in the encoder's vocabulary; see also ``Dataset``.
    """

    encoder: TextEncoder = field(kw_only=True)

    def __post_init__(self) -> None:
        """Checks that the numbers are in the vocabulary."""
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
        """The encoder's vocabulary."""
        return self.encoder.vocabulary

    def widths(self, buckets: int) -> np.ndarray:
        """Assigns each training text to one of a few padded lengths; see ``bucketed``.

        Args:
            buckets: largest number of different lengths.

        Returns:
            The lengths, int32 [N]; beyond them a text has only padding.

        Raises:
            InputError: if ``buckets`` is not a positive integer, or texts have a label for each
                token, which would be cut off too.
        """
        labels = self.spec.labels
        if getattr(labels, "shape", None) != ():
            got = f"labels {list(labels.shape)}" if hasattr(labels, "shape") else described(labels)
            raise InputError("buckets", "None or 1, unless each text has one label", got)
        return bucketed(_lengths(in_memory(self.train)), self.spec.inputs.shape[0], buckets)


def _lengths(split: Split) -> np.ndarray:
    """Returns the number of tokens of each text without padding at the end."""
    tokens = split.inputs != PAD
    length = tokens.shape[1] - np.argmax(tokens[:, ::-1], axis=1)
    return np.where(tokens.any(axis=1), length, 0)
