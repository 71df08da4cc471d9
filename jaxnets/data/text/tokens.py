"""Tokenization of texts into words or characters."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxnets.arrays import InputError, check_bool

# A word may contain apostrophes; every other character except white space is a token.
_WORD_OR_MARK = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


@dataclass(frozen=True)
class Tokenizer:
    """Splits a text into words or characters.

    Args:
        level: ``"words"``, separated by white space, or ``"characters"``.
        lowercase: whether the text is converted to lower case first.
        split_punctuation: whether punctuation marks are separate tokens; no effect on characters.

    Raises:
        InputError: if an argument is invalid.

    Examples:
        >>> Tokenizer(lowercase=True, split_punctuation=True)("It's good, not great.")
        ["it's", 'good', ',', 'not', 'great', '.']
    """

    level: Literal["words", "characters"] = "words"
    lowercase: bool = False
    split_punctuation: bool = False

    def __post_init__(self) -> None:
        """Checks the arguments."""
        if not isinstance(self.level, str) or self.level not in ("words", "characters"):
            raise InputError("level", "'words' or 'characters'", self.level)
        check_bool("lowercase", self.lowercase)
        check_bool("split_punctuation", self.split_punctuation)

    def __call__(self, text: str) -> list[str]:
        """Returns the tokens of a text, in order.

        Raises:
            InputError: if ``text`` is not a string.
        """
        if not isinstance(text, str):
            raise InputError("text", "a string", text)
        if self.lowercase:
            text = text.lower()
        if self.level == "characters":
            return list(text)
        return _WORD_OR_MARK.findall(text) if self.split_punctuation else text.split()

    def join(self, tokens: Sequence[str]) -> str:
        """Joins tokens to a text: words with spaces between them, characters without."""
        return ("" if self.level == "characters" else " ").join(tokens)
