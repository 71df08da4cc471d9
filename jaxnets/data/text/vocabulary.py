"""``Vocabulary``, which numbers tokens."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from jaxnets.arrays import ArrayLike, InputError, check_positive, describe, shortened

PAD = 0
"""The number of the padding token."""
UNKNOWN = 1
"""The number of all tokens that are not in the vocabulary."""
_SPECIALS = ("<pad>", "<unk>")


@dataclass(frozen=True, repr=False)
class Vocabulary:
    """A mapping between tokens and their numbers, the positions in ``tokens``.

    The tokens ``<pad>`` and ``<unk>`` in a text are unknown tokens, so a text cannot contain
    padding.

    Args:
        tokens: ``<pad>``, ``<unk>``, and then any other strings, each once.

    Raises:
        InputError: if ``tokens`` has another form.

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
        """Makes the vocabulary of the most frequent tokens; equal counts are ordered by token.

        Args:
            counts: number of occurrences of each token, such as a ``collections.Counter``.
            min_count: tokens that occur less often are left out.
            max_size: largest number of tokens, including the two special ones; None for no limit.

        Raises:
            InputError: if ``min_count`` is not a positive integer, or ``max_size`` is not an
                integer of at least 3.
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
        """The number of tokens, including the special ones."""
        return len(self.tokens)

    def __repr__(self) -> str:
        some = shortened([repr(token) for token in self.tokens[:20]])
        return f"Vocabulary of {len(self):,} tokens: {some}"

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens) if number > UNKNOWN}

    def encode(self, tokens: Iterable[str]) -> np.ndarray:
        """Returns the number of each token, int32 [n]."""
        return np.array([self._numbers.get(token, UNKNOWN) for token in tokens], np.int32)

    def decode(self, numbers: ArrayLike | Sequence[int]) -> list[str]:
        """Returns the token of each number [n]; the inverse of ``encode`` for known tokens.

        Raises:
            InputError: if ``numbers`` are not integers [n], or one is not in the vocabulary.
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
            InputError: if the file is missing or has other content.
        """
        try:
            return cls(tuple(json.loads(Path(path).read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise InputError("path", "a vocabulary file", f"{path}: {error}") from error
