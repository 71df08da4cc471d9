"""Text files as data sets. None is bundled: each function takes the place of the files."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, check_number, check_path, check_positive, check_seed
from jaxnets.data.dataset import Split
from jaxnets.data.splitting import hold_out
from jaxnets.data.text.dataset import TextDataset
from jaxnets.data.text.encoder import TextEncoder, check_tokenizer, learn_encoder
from jaxnets.data.text.tokens import Tokenizer

_Path = str | os.PathLike[str]


def polarity(
    folder: _Path,
    *,
    held_out: float = 0.1,
    seed: int = 0,
    min_count: int = 2,
    encoder: TextEncoder | None = None,
) -> TextDataset:
    """Sentences of film reviews, half of them positive: ``rt-polarity.pos`` and ``.neg``.

    The sentence polarity data set v1.0 of Pang and Lee (2005): 5,331 sentences of each kind, one a
    line, in latin-1. There is no standard split: a share of each class, drawn by the seed, is held
    out. The vocabulary is that of the other sentences, and their 99th percentile is the length.

    Args:
        folder: with the two files in it.
        held_out: share of the sentences to test with.
        seed: draws them.
        min_count: words that occur less often are unknown.
        encoder: in place of one that is learnt from these sentences, such as that of a run.

    Returns:
        Lower-case words and marks, int32 [N, T]; labels 0 (negative) and 1 (positive).

    Raises:
        InputError: if a file is missing or empty.
    """
    kinds = {"negative": "rt-polarity.neg", "positive": "rt-polarity.pos"}
    _check_share(held_out)
    check_seed("seed", seed)
    check_positive("min_count", min_count)
    root = check_path("folder", folder, "a folder")
    texts = {kind: read_lines(root / file, "latin-1") for kind, file in kinds.items()}
    return classified(
        "rt-polarity",
        texts,
        Tokenizer(lowercase=True, split_punctuation=True),
        held_out=held_out,
        seed=seed,
        min_count=min_count,
        percentile=99,
        encoder=encoder,
    )


def names(
    folder: _Path, *, held_out: float = 0.1, seed: int = 0, encoder: TextEncoder | None = None
) -> TextDataset:
    """Family names by language: a folder of ``Language.txt``, one name a line, in UTF-8.

    The files of PyTorch's tutorial on names are of this kind. In them a name is often repeated
    within its language (Arabic: 108 names in 2,000 lines); here each counts once, as a repeated
    name that is held out would have been learnt by heart. A name may occur in several languages.
    There is no standard split: a share of each language, drawn by the seed, is held out.

    Args:
        folder: with the files in it; each file's name is that of a class.
        held_out: share of the names to test with.
        seed: draws them.
        encoder: see ``polarity``.

    Returns:
        Characters, int32 [N, T], and the languages' numbers in alphabetical order.

    Raises:
        InputError: if there are fewer than two files, or a file is empty or not UTF-8.
    """
    _check_share(held_out)
    check_seed("seed", seed)
    files = sorted(check_path("folder", folder, "a folder").glob("*.txt"))
    if len(files) < 2:
        expected = "a folder with at least two files Language.txt"
        raise InputError("folder", expected, f"{folder}, with {len(files)}")
    texts = {file.stem: list(dict.fromkeys(read_lines(file))) for file in files}
    return classified(
        "names", texts, Tokenizer("characters"), held_out=held_out, seed=seed, encoder=encoder
    )


def classified(
    name: str,
    texts: Mapping[str, Sequence[str]],
    tokenizer: Tokenizer,
    *,
    held_out: float = 0.1,
    seed: int = 0,
    min_count: int = 1,
    percentile: float = 100.0,
    encoder: TextEncoder | None = None,
) -> TextDataset:
    """A data set of texts by class, with a part held out.

    Args:
        name: of the data set.
        texts: by the name of the class, in the order of their numbers.
        tokenizer: cuts them.
        held_out: see ``hold_out``.
        seed: see ``hold_out``.
        min_count: see ``learn_encoder``.
        percentile: see ``learn_encoder``.
        encoder: in place of one that is learnt from these texts.

    Raises:
        InputError: if a class has fewer than two texts, or an argument is out of range.
    """
    held_out = _check_share(held_out)
    check_tokenizer(tokenizer)
    if not isinstance(texts, Mapping) or not texts:
        raise InputError("texts", "texts by the name of their class", texts)
    for kind, found in texts.items():
        if not isinstance(kind, str) or isinstance(found, str) or not isinstance(found, Sequence):
            raise InputError("texts", "a sequence of texts for each name of a class", found)
        if len(found) < 2:
            expected = f"at least two texts of each class ({kind} among them)"
            raise InputError("texts", expected, len(found))
    every = [text for found in texts.values() for text in found]
    labels = np.repeat(np.arange(len(texts), dtype=np.int32), [len(v) for v in texts.values()])
    parts = hold_out(Split(np.arange(len(every)), labels), held_out, seed)
    kept, held = ([every[place] for place in part.inputs] for part in parts)
    check_encoder(encoder)
    if encoder is None:
        encoder = learn_encoder(kept, tokenizer, min_count=min_count, percentile=percentile)
    train, test = (
        Split(encoder(found), part.labels) for found, part in zip((kept, held), parts, strict=True)
    )
    return TextDataset(name, train, test, tuple(texts), encoder=encoder)


def characters(
    path: _Path,
    *,
    window: int = 64,
    stride: int | None = None,
    held_out: float = 0.1,
    encoder: TextEncoder | None = None,
) -> TextDataset:
    """A text for a language model: windows of characters, and for each the character after it.

    The last part of the text is held out. Characters that occur there alone are unknown.

    Args:
        path: a file in UTF-8.
        window: characters in an example.
        stride: characters from the start of a training window to the start of the next one; less
            than ``window`` for windows that overlap. None for ``window``, as in the test part.
        held_out: share of the text to test with.
        encoder: in place of one that is learnt from this text.

    Returns:
        Inputs and labels int32 [N, window]; see ``windows``.

    Raises:
        InputError: if the file is missing, empty, not UTF-8 or too short.
    """
    check_positive("window", window)
    held_out = _check_share(held_out)
    text = read_text(path)
    cut = len(text) - round(held_out * len(text))
    check_encoder(encoder)
    if encoder is None:
        tokenizer = Tokenizer("characters")
        encoder = TextEncoder(tokenizer, learn_encoder([text[:cut]], tokenizer).vocabulary)
    tokenizer, vocabulary = encoder.tokenizer, encoder.vocabulary
    train, test = (vocabulary.encode(tokenizer(part)) for part in (text[:cut], text[cut:]))
    splits = windows(train, window, stride=stride), windows(test, window)
    return TextDataset(Path(path).stem, *splits, vocabulary.tokens, encoder=encoder)


def check_encoder(encoder: Any) -> None:
    """Raises unless an encoder is one of texts, or None."""
    if encoder is not None and not isinstance(encoder, TextEncoder):
        raise InputError("encoder", "a TextEncoder of texts, or None", encoder)


def _check_share(held_out: Any) -> float:
    try:
        return check_number("held_out", held_out, above=0, below=1)
    except InputError as error:
        raise InputError("held_out", "a share between 0 and 1", held_out) from error


def windows(
    stream: np.ndarray, window: int, *, streams: int = 1, stride: int | None = None
) -> Split:
    """Cuts a stream of tokens into windows, each beginning where the one before it ends.

    With several streams the text is cut into as many equal parts first, and rows k·streams to
    (k+1)·streams - 1 are the k-th windows of all parts: in batches of that size, not shuffled, each
    row continues where the same row of the batch before it ended. This is ``batchify`` and
    ``get_batch`` of PyTorch's word_language_model, batch first; it serves loops that carry the
    recurrent state from batch to batch.

    Args:
        stream: numbers of tokens [n].
        window: T, the tokens in an example.
        streams: parts of the text that are read side by side.
        stride: tokens from the start of a window to the start of the next one in the same part;
            None for ``window``, so that each token is in one window.

    Returns:
        Inputs and labels [N, T]; the labels are the tokens one place further. What is left at the
        end of a part, less than a window, is dropped.

    Raises:
        InputError: if a part is not longer than a window.

    Examples:
        >>> windows(np.arange(9, dtype=np.int32), 2, streams=2).inputs
        array([[0, 1],
               [4, 5],
               [2, 3],
               [6, 7]], dtype=int32)
    """
    check_positive("window", window)
    check_positive("streams", streams)
    if not isinstance(stream, np.ndarray) or stream.ndim != 1 or stream.dtype.kind not in "ui":
        raise InputError("stream", "numbers of tokens, integers [n]", stream)
    size = (len(stream) - 1) // streams  # the token after a part is the next part's first
    step = window if stride is None else check_positive("stride", stride)
    count = (size - window) // step + 1
    if size < window:
        expected = f"a text longer than {streams} windows of {window} tokens"
        raise InputError("stream", expected, f"{len(stream)} tokens")
    starts = np.arange(count)[:, None] * step + np.arange(streams)[None, :] * size
    places = starts.reshape(-1, 1) + np.arange(window)[None, :]
    return Split(stream[places], stream[places + 1])


def read_text(path: _Path, encoding: str = "utf-8") -> str:
    """Reads a text file.

    Raises:
        InputError: if it is missing, holds nothing but white space, or bytes that the encoding does
            not have; the message names the line.
    """
    try:
        data = check_path("path", path, "a text file").read_bytes()
    except OSError as error:
        raise InputError("path", "a readable text file", f"{path}: {error.strerror}") from error
    try:
        text = data.decode(encoding).removeprefix("\ufeff").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        got = f"{path}, line {line}: byte {data[error.start]:#04x}"
        raise InputError("path", f"a text in {encoding}", got) from error
    if not text.strip():
        raise InputError("path", "a file with text in it", f"{path}, which is empty")
    return text


def read_lines(path: _Path, encoding: str = "utf-8") -> list[str]:
    """The lines of a text file, without those that are blank; raises as ``read_text``."""
    # not splitlines, which also cuts at 0x85 and the like, that latin-1 files hold as letters
    return [line.strip() for line in read_text(path, encoding).split("\n") if line.strip()]
