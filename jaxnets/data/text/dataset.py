"""Texts as a data set."""

from dataclasses import dataclass, field

from jaxnets.arrays import InputError
from jaxnets.data.dataset import Dataset
from jaxnets.data.text.encoder import TextEncoder
from jaxnets.data.text.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class TextDataset(Dataset):
    """A ``Dataset`` of numbered tokens, int32 [N, T], that knows what the numbers mean.

    Args:
        encoder: what made the inputs of texts, and makes them of new ones.

    Raises:
        InputError: if a number is not in the encoder's vocabulary, and as ``Dataset``.
    """

    encoder: TextEncoder = field(kw_only=True)

    def __post_init__(self) -> None:
        """Checks that the numbers are the vocabulary's."""
        super().__post_init__()
        for name, split in (("train", self.train), ("test", self.test)):
            if split.inputs.dtype.kind not in "ui":
                raise InputError(f"{name} inputs", "numbers of tokens", str(split.inputs.dtype))
            low, high = int(split.inputs.min()), int(split.inputs.max())
            if low < 0 or high >= len(self.vocabulary):
                expected = f"numbers in [0, {len(self.vocabulary) - 1}]"
                raise InputError(f"{name} inputs", expected, f"{low} to {high}")

    @property
    def vocabulary(self) -> Vocabulary:
        """The encoder's."""
        return self.encoder.vocabulary
