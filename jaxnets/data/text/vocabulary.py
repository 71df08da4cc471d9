"""A vocabulary: tokens and their numbers."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from jaxnets.arrays import ArrayLike, InputError, check_positive, describe, shortened

PAD = 0
"""The number of padding, which fills a text up to a fixed length."""
UNKNOWN = 1
"""The number of every token that is not in the vocabulary."""
_SPECIALS = ("<pad>", "<unk>")


@dataclass(frozen=True, repr=False)
class Vocabulary:
    """Tokens and their numbers: the place of each in ``tokens``.

    A text cannot spell padding: its tokens ``<pad>`` and ``<unk>`` are unknown ones.

    Args:
        tokens: ``<pad>``, ``<unk>`` and then any strings, each once.

    Raises:
        InputError: if they are not.

    Examples:
        >>> vocabulary = Vocabulary.from_counts({"good": 3, "bad": 3, "rare": 1}, min_count=2)
        >>> vocabulary.tokens
        ('<pad>', '<unk>', 'bad', 'good')
        >>> vocabulary.encode(["good", "rare", "bad"])
        array([3, 1, 2], dtype=int32)
    """

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        """Checks the tokens."""
        if not isinstance(self.tokens, tuple) or not all(isinstance(t, str) for t in self.tokens):
            raise InputError("tokens", "a tuple of strings", type(self.tokens).__name__)
        if self.tokens[:2] != _SPECIALS:
            raise InputError("tokens", f"{_SPECIALS} first", self.tokens[:2])
        if len(set(self.tokens)) < len(self.tokens):
            twice = next(t for i, t in enumerate(self.tokens) if t in self.tokens[:i])
            raise InputError("tokens", "each token once", f"{twice!r} twice")

    @classmethod
    def from_counts(
        cls, counts: Mapping[str, int], *, min_count: int = 1, max_size: int | None = None
    ) -> "Vocabulary":
        """The vocabulary of the most frequent tokens; of equally frequent ones, the first by name.

        Args:
            counts: how often each token occurs, as of a ``collections.Counter``.
            min_count: tokens that occur less often are left out.
            max_size: the most tokens, the two specials among them; None for all.

        Raises:
            InputError: if min_count is not a positive integer, or max_size not one of at least 3.
        """
        check_positive("min_count", min_count)
        if max_size is not None:
            check_positive("max_size", max_size)
            if max_size < 3:
                raise InputError("max_size", "at least 3, as there are two specials", max_size)
        found = [t for t, n in counts.items() if n >= min_count and t not in _SPECIALS]
        found.sort(key=lambda token: (-counts[token], token))
        return cls((*_SPECIALS, *found)[:max_size])

    def __len__(self) -> int:
        """The number of tokens, the specials among them."""
        return len(self.tokens)

    def __repr__(self) -> str:
        some = shortened([repr(token) for token in self.tokens[:20]])
        return f"Vocabulary of {len(self):,} tokens: {some}"

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens) if number > UNKNOWN}

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """The number of each token, int32 [n]."""
        return np.array([self._numbers.get(token, UNKNOWN) for token in tokens], np.int32)

    def decode(self, numbers: ArrayLike | Sequence[int]) -> list[str]:
        """The token of each number [n]; the inverse of ``encode`` for known tokens.

        Raises:
            InputError: if the numbers are no integers [n] or one is not in the vocabulary.
        """
        numbers = np.asarray(numbers)
        if numbers.size == 0:
            return []
        if numbers.ndim != 1 or numbers.dtype.kind not in "ui":
            raise InputError("numbers", "integers [n]", describe(numbers))
        if numbers.min() < 0 or numbers.max() >= len(self):
            got = f"{numbers.min()} to {numbers.max()}"
            raise InputError("numbers", f"numbers in [0, {len(self) - 1}]", got)
        return [self.tokens[number] for number in numbers.tolist()]

    def save(self, path: Path | str) -> None:
        """Writes the tokens as a JSON array."""
        text = json.dumps(self.tokens, ensure_ascii=False, indent=0)
        Path(path).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> "Vocabulary":
        """Reads what ``save`` wrote.

        Raises:
            InputError: if the file is missing or holds something else.
        """
        try:
            return cls(tuple(json.loads(Path(path).read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise InputError("path", "a vocabulary file", f"{path}: {error}") from error
