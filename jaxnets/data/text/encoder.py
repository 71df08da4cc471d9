"""From texts to arrays of numbers, and back."""

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
    """A tokenizer, a vocabulary and a length, which turn a text into a network's input.

    Args:
        tokenizer: cuts the text.
        vocabulary: numbers the tokens.
        length: tokens in a row: longer texts lose their end, shorter ones are filled up with 0.
            None takes each batch's longest.

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
        """Checks the length."""
        check_tokenizer(self.tokenizer)
        if not isinstance(self.vocabulary, Vocabulary):
            raise InputError("vocabulary", "a Vocabulary", self.vocabulary)
        if self.length is not None:
            check_positive("length", self.length)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """The texts as rows, int32 [N, length].

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
        """The text of one row [n], its padding left out."""
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
            InputError: if the file is missing or holds something else.
        """
        try:
            held = read_object(Path(path))
            tokens = held["vocabulary"]["tokens"]
            if not isinstance(tokens, list):
                raise InputError("tokens", "a list of words", type(tokens).__name__)
            vocabulary = Vocabulary(tuple(tokens))
            return cls(Tokenizer(**held["tokenizer"]), vocabulary, held["length"])
        except WRONG as error:
            expected = "a file written by TextEncoder.save"
            raise InputError("path", expected, f"{path}: {reason(error)}") from error


def pad(rows: Sequence[np.ndarray], length: int | None = None) -> np.ndarray:
    """Truncates or pads rows of numbers to one length.

    Args:
        rows: integers [n], of any lengths.
        length: None for the longest row's.

    Returns:
        int32 [len(rows), length], with 0 after a row's end.

    Raises:
        InputError: if an int32 does not hold a number.
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
    """Raises unless a tokenizer is one."""
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

    Every text takes as many time steps as the longest allowed one, so the length is chosen by
    percentile: a few long texts lose their end, and all others are that much faster.

    Args:
        texts: those to learn from, not those to be judged by.
        tokenizer: cuts them.
        min_count: see ``Vocabulary.from_counts``.
        max_size: see ``Vocabulary.from_counts``.
        percentile: the share of texts, in (0, 100], that keep all their tokens.

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
