"""``TextEncoder``, which converts texts to arrays of token numbers and back."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.arrays import ArrayLike, InputError, check_fits, check_number, check_positive, shown
from jaxnets.data.text.tokens import Tokenizer
from jaxnets.data.text.vocabulary import PAD, Vocabulary
from jaxnets.json_files import WRONG, read_object, reason


@dataclass(frozen=True)
class TextEncoder:
    """Encodes texts as a network's inputs, with a tokenizer, a vocabulary and a length.

    Args:
        tokenizer: the tokenizer.
        vocabulary: the vocabulary.
        length: number of tokens in a row; longer texts are truncated, shorter ones are padded with
            0. None uses the length of the longest text of each call.

    Raises:
        InputError: if the length is not a positive integer.

    Examples:
        >>> words = Vocabulary.from_counts({"good": 2, "film": 1})
        >>> TextEncoder(Tokenizer(), words, length=3)(["good film", "a good good good film"])
        array([[2, 3, 0],
               [1, 2, 2]], dtype=int32)
    """

    tokenizer: Tokenizer
    vocabulary: Vocabulary
    length: int | None = None

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_tokenizer(self.tokenizer)
        if not isinstance(self.vocabulary, Vocabulary):
            raise InputError("vocabulary", "a Vocabulary", self.vocabulary)
        if self.length is not None:
            check_positive("length", self.length)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Encodes texts as rows, int32 [N, length].

        Raises:
            InputError: if there is no text, or a text has no token.
        """
        several = isinstance(texts, np.ndarray) and texts.ndim == 1
        several = several or (isinstance(texts, Sequence) and not isinstance(texts, str | bytes))
        if not several or not len(texts):
            raise InputError(
                "texts", "a sequence of at least one text", texts if not several else "none"
            )
        rows = [self.vocabulary.encode(self.tokenizer(text)) for text in texts]
        for text, row in zip(texts, rows, strict=True):
            if not len(row):
                raise InputError("texts", "texts of at least one token", shown(text))
        return pad(rows, self.length)

    def decode(self, numbers: ArrayLike | Sequence[int]) -> str:
        """Returns the text of one row [n], without padding."""
        row = np.asarray(numbers)
        return self.tokenizer.join(self.vocabulary.decode(row[row != PAD]))

    def save(self, path: Path | str) -> None:
        """Writes tokenizer, vocabulary and length as JSON."""
        text = json.dumps(dataclasses.asdict(self), ensure_ascii=False)
        Path(path).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> "TextEncoder":
        """Reads what ``save`` wrote.

        Raises:
            InputError: if the file is missing or has other content.
        """
        try:
            saved = read_object(Path(path))
            tokens = saved["vocabulary"]["tokens"]
            if not isinstance(tokens, list):
                raise InputError("tokens", "a list of words", type(tokens).__name__)
            vocabulary = Vocabulary(tuple(tokens))
            return cls(Tokenizer(**saved["tokenizer"]), vocabulary, saved["length"])
        except WRONG as error:
            expected = "a file written by TextEncoder.save"
            raise InputError("path", expected, f"{path}: {reason(error)}") from error


def pad(rows: Sequence[np.ndarray], length: int | None = None) -> np.ndarray:
    """Truncates or pads rows of numbers to one length.

    Args:
        rows: integers [n], of any lengths.
        length: the length; None for that of the longest row.

    Returns:
        int32 [len(rows), length], padded with 0 at the end.

    Raises:
        InputError: if a number does not fit into int32.
    """
    if not isinstance(rows, Sequence) or not rows or not all(map(_is_row, rows)):
        raise InputError("rows", "at least one array of integers [n]", rows)
    length = max(map(len, rows)) if length is None else check_positive("length", length)
    padded = np.full((len(rows), length), PAD, np.int32)
    for target, row in zip(padded, rows, strict=True):
        check_fits("rows", row, np.int32)
        target[: len(row)] = row[:length]
    return padded


def check_tokenizer(tokenizer: Any) -> None:
    """Checks that a value is a ``Tokenizer``."""
    if not isinstance(tokenizer, Tokenizer):
        raise InputError("tokenizer", "a Tokenizer", tokenizer)


def _is_row(row: Any) -> bool:
    if isinstance(row, list):
        return all(isinstance(number, int) for number in row)
    return isinstance(row, np.ndarray) and row.ndim == 1 and row.dtype.kind in "ui"


def learn_encoder(
    texts: Iterable[str],
    tokenizer: Tokenizer,
    *,
    min_count: int = 1,
    max_size: int | None = None,
    percentile: float = 100.0,
) -> TextEncoder:
    """Builds an encoder from texts.

    All texts are padded to one length, which is chosen as a percentile: truncating a few long texts
    makes the computation of all others faster.

    Args:
        texts: the training texts.
        tokenizer: the tokenizer.
        min_count: see ``Vocabulary.from_counts``.
        max_size: see ``Vocabulary.from_counts``.
        percentile: percentage of texts, in (0, 100], that are not truncated.

    Raises:
        InputError: if there is no text with a token, or an argument is out of range.
    """
    percentile = check_number("percentile", percentile, above=0, most=100)
    check_tokenizer(tokenizer)
    scalar = getattr(texts, "shape", None) == ()
    if isinstance(texts, str) or scalar or not isinstance(texts, Iterable):
        raise InputError("texts", "texts to learn from", texts)
    rows = [tokenizer(text) for text in texts]
    if not any(rows):
        raise InputError("texts", "at least one text with a token", "none")
    counts = Counter(token for row in rows for token in row)
    vocabulary = Vocabulary.from_counts(counts, min_count=min_count, max_size=max_size)
    length = int(np.percentile([len(row) for row in rows], percentile, method="higher"))
    return TextEncoder(tokenizer, vocabulary, max(length, 1))
