"""Texts as a data set, and how one is cut into two parts."""

from dataclasses import dataclass, field

import numpy as np

from jaxnets.arrays import InputError, check_seed
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


def stratified_split(
    labels: np.ndarray, held_out: float = 0.1, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draws examples to be held out for testing: the same share of each class.

    Args:
        labels: class numbers, integers [N].
        held_out: the share of each class to hold out, in (0, 1); at least one example is held out
            and at least one stays.
        seed: draws them. The same seed draws the same ones under every version of NumPy.

    Returns:
        The indices that stay and those held out, each in ascending order.

    Raises:
        InputError: if a class has a single example, or an argument is out of range.
    """
    check_seed("seed", seed)
    if not 0 < held_out < 1:
        raise InputError("held_out", "a share between 0 and 1", held_out)
    order = np.argsort(np.random.Philox(key=seed).random_raw(len(labels)))
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        if len(members) < 2:
            raise InputError("labels", "at least two examples of each class", f"one of {label}")
        count = min(max(round(held_out * len(members)), 1), len(members) - 1)
        chosen[members[:count]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
