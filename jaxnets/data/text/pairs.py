"""Pairs of a source text and a target text, for sequence to sequence."""

import datetime
import os
from collections.abc import Sequence
from typing import Literal

import numpy as np

from jaxnets.arrays import (
    InputError,
    check_choice,
    check_number,
    check_positive,
    check_seed,
    check_usable,
    describe,
    shown,
)
from jaxnets.data.dataset import Split
from jaxnets.data.splitting import hold_out
from jaxnets.data.text.corpora import check_encoder, read_lines
from jaxnets.data.text.dataset import TextDataset
from jaxnets.data.text.encoder import TextEncoder, learn_encoder, pad
from jaxnets.data.text.tokens import Tokenizer
from jaxnets.data.text.vocabulary import PAD, Vocabulary

#: The name by which a file of pairs is recognized.
PAIRS = "pairs.tsv"
END = 2
"""The number of the token after the last one of a text that is to be written."""
_END = "</s>"


def pairs(
    path: str | os.PathLike[str],
    *,
    tokens: Literal["characters", "words"] = "characters",
    held_out: float = 0.1,
    seed: int = 0,
    encoder: TextEncoder | None = None,
) -> TextDataset:
    """Loads pairs from a UTF-8 file with one pair in each line: the source, a tab, the target.

    Args:
        path: the file, such as ``pairs.tsv``.
        tokens: what both texts are split into.
        held_out: fraction of the pairs to test with.
        seed: seed of the selection.
        encoder: an encoder to use instead of one that is learned from these pairs.

    Returns:
        See ``paired``.

    Raises:
        InputError: if the file is missing, empty or not UTF-8, or a line does not have two texts.
    """
    check_choice("tokens", tokens, ("characters", "words"))
    check_number("held_out", held_out, above=0, below=1)
    check_seed("seed", seed)
    check_encoder(encoder)
    rows = [line.split("\t") for line in read_lines(path)]
    for number, row in enumerate(rows, 1):
        if len(row) != 2 or not all(text.strip() for text in row):
            expected = f"two texts with a tab between them in line {number}"
            raise InputError(str(path), expected, shown("\t".join(row)))
    tokenizer = Tokenizer("characters") if tokens == "characters" else _WORDS
    sources, targets = ([row[i].strip() for row in rows] for i in (0, 1))
    return paired(
        "pairs", sources, targets, tokenizer, held_out=held_out, seed=seed, encoder=encoder
    )


_WORDS = Tokenizer("words", lowercase=True, split_punctuation=True)


def paired(
    name: str,
    sources: Sequence[str],
    targets: Sequence[str],
    tokenizer: Tokenizer,
    *,
    held_out: float = 0.1,
    seed: int = 0,
    encoder: TextEncoder | None = None,
) -> TextDataset:
    """Makes a data set of pairs of texts, and holds out some of them.

    Both texts have one vocabulary, whose third token, ``</s>``, follows the last token of a target.

    Args:
        name: the name of the data set.
        sources: the source texts.
        targets: the target text for each source.
        tokenizer: the tokenizer of both.
        held_out: fraction of the pairs to test with.
        seed: seed of the selection.
        encoder: an encoder to use instead of one that is learned from these pairs.

    Returns:
        Inputs int32 [N, S], the sources; labels int32 [N, T], the targets, each with ``END`` after
        its last token. Both are padded with 0.

    Raises:
        InputError: if the numbers of texts differ, there are fewer than two pairs, or a target is
            empty.
    """
    check_number("held_out", held_out, above=0, below=1)
    check_seed("seed", seed)
    check_encoder(encoder)
    if len(sources) != len(targets) or len(sources) < 2:
        expected = "at least two pairs, a source and a target each"
        got = f"{len(sources)} sources and {len(targets)} targets"
        raise InputError("sources", expected, got)
    if encoder is None:
        learnt = learn_encoder([*sources, *targets], tokenizer)
        own = [token for token in learnt.vocabulary.tokens[2:] if token != _END]
        vocabulary = Vocabulary((*learnt.vocabulary.tokens[:2], _END, *own))
        length = max(len(tokenizer(text)) for text in sources)
        encoder = TextEncoder(tokenizer, vocabulary, length)
    elif encoder.vocabulary.tokens[END : END + 1] != (_END,):
        raise InputError("encoder", f"one whose third token is {_END}, as of pairs", encoder)
    rows = [encoder.vocabulary.encode(encoder.tokenizer(text)) for text in targets]
    labels = pad([np.append(row, np.int32(END)) for row in rows])
    numbers = np.arange(len(sources), dtype=np.int32)
    train, test = hold_out(Split(numbers, numbers * 0), held_out, seed)
    inputs = encoder(sources)
    learn, judge = (Split(inputs[part.inputs], labels[part.inputs]) for part in (train, test))
    return TextDataset(name, learn, judge, encoder.vocabulary.tokens, encoder=encoder)


def target_texts(encoder: TextEncoder, targets: np.ndarray) -> list[str]:
    """Decodes targets to texts, each up to its end token.

    Args:
        encoder: the encoder of the pairs.
        targets: int32 [N, T], such as the labels of ``paired`` or what ``translate`` returns.

    Raises:
        InputError: if the targets are not rows of the encoder's tokens.
    """
    if not isinstance(encoder, TextEncoder):
        raise InputError("encoder", "the TextEncoder of the pairs", encoder)
    check_usable("targets", "integers [N, T]", targets)
    if targets.ndim != 2 or targets.dtype.kind not in "ui":
        raise InputError("targets", "integers [N, T]", describe(targets))
    return [encoder.decode(row[: _length(row)]) for row in targets]


def _length(row: np.ndarray) -> int:
    """The number of tokens before the end."""
    ends = np.flatnonzero((row == END) | (row == PAD))
    return int(ends[0]) if len(ends) else len(row)


_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july",
    "august", "september", "october", "november", "december",
)  # fmt: skip
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_UNITS = (
    "", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth",
    "nine": "ninth", "twelve": "twelfth", "twenty": "twentieth", "thirty": "thirtieth",
}  # fmt: skip
_FORMS = (
    "the {ordinal} of {month} {year}",
    "{month} the {ordinal} {year}",
    "{day} {month} {year}",
    "{month} {day}, {year}",
    "{nth} of {month}, {year}",
    "{day} {short} {year}",
    "{weekday}, {nth} {month} {year}",
    "{weekday} the {ordinal} of {month}, {year}",
    "the {ordinal} of {month} {spoken}",
    "{month} {nth}, {spoken}",
)


def dates(
    count: int = 10_000,
    *,
    held_out: float = 0.1,
    seed: int = 0,
    encoder: TextEncoder | None = None,
) -> TextDataset:
    """Makes pairs of a date in English and in ISO 8601: "the third of May 1998", "1998-05-03".

    The dates are drawn without replacement from those of 1900 to 2099, so a date that is held out
    is not in the training split in another form. There are ten forms, some with the name of the
    weekday and some with the year in words. The same count gives the same dates.

    Args:
        count: number of dates, up to 73,049.
        held_out: fraction of the dates to test with.
        seed: seed of the selection.
        encoder: an encoder to use instead of one that is learned from these dates.

    Returns:
        See ``paired``; the tokens are characters.

    Raises:
        InputError: if an argument is out of range.

    Examples:
        >>> data = dates(100)
        >>> target_texts(data.encoder, data.test.labels[:2])
        ['2058-03-09', '1959-06-29']
    """
    first, last = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)
    days = (last - first).days + 1
    if check_positive("count", count) > days:
        raise InputError("count", f"at most the {days} days of two centuries", count)
    draw = np.random.Generator(np.random.Philox(key=3))
    chosen = draw.choice(days, size=count, replace=False)
    forms = draw.integers(len(_FORMS), size=count)
    found = [first + datetime.timedelta(int(number)) for number in chosen]
    sources = [written(date, int(form)) for date, form in zip(found, forms, strict=True)]
    targets = [date.isoformat() for date in found]
    return paired(
        "dates", sources, targets, Tokenizer("characters", lowercase=True),
        held_out=held_out, seed=seed, encoder=encoder,
    )  # fmt: skip


def written(date: datetime.date, form: int) -> str:
    """Returns a date in English words.

    Args:
        date: the date.
        form: the number of the form, from 0 to 9.

    Examples:
        >>> written(datetime.date(1998, 5, 3), 0)
        'the third of may 1998'
        >>> written(datetime.date(1998, 5, 3), 8)
        'the third of may nineteen ninety-eight'
    """
    day, month = date.day, _MONTHS[date.month - 1]
    ending = {1: "st", 2: "nd", 3: "rd"}.get(day % 10 if day not in (11, 12, 13) else 0, "th")
    return _FORMS[form].format(
        day=day,
        nth=f"{day}{ending}",
        ordinal=_ordinal(day),
        month=month,
        short=month[:3],
        weekday=_DAYS[date.weekday()],
        year=date.year,
        spoken=_spoken_year(date.year),
    )


def _number(value: int) -> str:
    """A number below 100 in words."""
    if value < 20:
        return _UNITS[value]
    tens, units = divmod(value, 10)
    return f"{_TENS[tens]}-{_UNITS[units]}" if units else _TENS[tens]


def _ordinal(value: int) -> str:
    """The ordinal of a number below 100 in words, such as "twenty-first"."""
    start, hyphen, last = _number(value).rpartition("-")
    return start + hyphen + _ORDINALS.get(last, f"{last}th")


def _spoken_year(year: int) -> str:
    """A year in words, such as "nineteen oh five" or "two thousand and one"."""
    century, rest = divmod(year, 100)
    if century == 20 and rest < 10:
        return "two thousand" + (f" and {_number(rest)}" if rest else "")
    if not rest:
        return f"{_number(century)} hundred"
    return f"{_number(century)} {'oh ' if rest < 10 else ''}{_number(rest)}"
