"""From a text to its tokens."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxnets.arrays import InputError, check_bool

# A word keeps the apostrophes inside it; any other character except a space is a token.
_WORD_OR_MARK = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


@dataclass(frozen=True)
class Tokenizer:
    """Splits a text into words or characters.

    Args:
        level: ``"words"``, separated by white space; or ``"characters"``, every one.
        lowercase: whether the text is turned to lower case first.
        split_punctuation: whether a punctuation mark is a token of its own; characters are so
            anyway.

    Raises:
        InputError: if the level is neither of the two.

    Examples:
        >>> Tokenizer(lowercase=True, split_punctuation=True)("It's good, not great.")
        ["it's", 'good', ',', 'not', 'great', '.']
    """

    level: Literal["words", "characters"] = "words"
    lowercase: bool = False
    split_punctuation: bool = False

    def __post_init__(self) -> None:
        """Checks the level."""
        if not isinstance(self.level, str) or self.level not in ("words", "characters"):
            raise InputError("level", "'words' or 'characters'", self.level)
        check_bool("lowercase", self.lowercase)
        check_bool("split_punctuation", self.split_punctuation)

    def __call__(self, text: str) -> list[str]:
        """The tokens of a text, in order.

        Raises:
            InputError: if it is not a string.
        """
        if not isinstance(text, str):
            raise InputError("text", "a string", text)
        if self.lowercase:
            text = text.lower()
        if self.level == "characters":
            return list(text)
        return _WORD_OR_MARK.findall(text) if self.split_punctuation else text.split()

    def join(self, tokens: Sequence[str]) -> str:
        """A text of these tokens: words with a space between them, characters without."""
        return ("" if self.level == "characters" else " ").join(tokens)
