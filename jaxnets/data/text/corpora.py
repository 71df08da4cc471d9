"""Data sets of text files, which are not bundled: each function takes their location."""

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
    """Loads sentences of film reviews, half of them positive: ``rt-polarity.pos`` and ``.neg``.

    This is the sentence polarity data set v1.0 of Pang and Lee (2005): 5,331 sentences of each
    class, one per line, in latin-1. It has no standard split, so a random fraction of each class is
    held out. The vocabulary and the length (the 99th percentile) are those of the other sentences.

    Args:
        folder: the folder with the two files.
        held_out: fraction of the sentences to test with.
        seed: seed of the selection.
        min_count: words that occur less often are unknown.
        encoder: an encoder, for example that of a trained run; None builds one.

    Returns:
        Lower-case words and punctuation marks, int32 [N, T]; labels 0 (negative) and 1 (positive).

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
    """Loads family names by language: a folder of files ``Language.txt``, one name per line, UTF-8.

    The files of PyTorch's tutorial on names have this form. In them, names are often repeated
    within a language (Arabic: 108 names in 2,000 lines). Here each name of a language is used once,
    because otherwise many test names would also be training names. A name may occur in several
    languages. There is no standard split, so a random fraction of each language is held out.

    Args:
        folder: the folder with the files; each file's name is that of a class.
        held_out: fraction of the names to test with.
        seed: seed of the selection.
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
    """Makes a data set of classified texts, and holds out a part of them.

    Args:
        name: name of the data set.
        texts: texts by class name, in the order of the class numbers.
        tokenizer: the tokenizer.
        held_out: see ``hold_out``.
        seed: see ``hold_out``.
        min_count: see ``learn_encoder``.
        percentile: see ``learn_encoder``.
        encoder: an encoder; None builds one from the training texts.

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
    """Loads a text for a language model: windows of characters, labelled by the next characters.

    The end of the text is held out. Characters that occur only there are unknown.

    Args:
        path: a text file in UTF-8.
        window: number of characters in an example.
        stride: number of characters from the start of a training window to the start of the next;
            a stride less than ``window`` gives windows that overlap. None for ``window``, as in the
            test part.
        held_out: fraction of the text to test with.
        encoder: an encoder; None builds one from the training part.

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
    """Checks that an encoder is a ``TextEncoder`` or None."""
    if encoder is not None and not isinstance(encoder, TextEncoder):
        raise InputError("encoder", "a TextEncoder or None", encoder)


def _check_share(held_out: Any) -> float:
    try:
        return check_number("held_out", held_out, above=0, below=1)
    except InputError as error:
        raise InputError("held_out", "a fraction between 0 and 1", held_out) from error


def windows(
    stream: np.ndarray, window: int, *, streams: int = 1, stride: int | None = None
) -> Split:
    """Divides a stream of tokens into consecutive windows.

    With several streams, the text is first divided into that number of equal parts, and rows
    k·streams to (k+1)·streams - 1 are the k-th windows of all parts. In batches of that size,
    without shuffling, each row continues the same row of the previous batch. Use this for training
    loops that carry the recurrent state from batch to batch. It corresponds to ``batchify`` and
    ``get_batch`` of PyTorch's word_language_model, with the batch axis first.

    Args:
        stream: numbers of tokens [n].
        window: number of tokens in an example, T.
        streams: number of parts of the text that are read in parallel.
        stride: number of tokens from the start of a window to the start of the next one in the same
            part; None for ``window``, so that each token is in one window.

    Returns:
        Inputs and labels [N, T]; the labels are the next tokens. A remainder of a part that is
        shorter than a window is dropped.

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
    size = (len(stream) - 1) // streams  # the label of a part's last token is the token after it
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
        InputError: if the file is missing, contains only white space, or cannot be decoded; the
            message names the line.
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
        raise InputError("path", "a text file that is not empty", f"{path}, which has no text")
    return text


def read_lines(path: _Path, encoding: str = "utf-8") -> list[str]:
    """Reads the nonblank lines of a text file; see ``read_text``."""
    # Not splitlines, which also splits at characters such as 0x85, which occur in latin-1 files.
    return [line.strip() for line in read_text(path, encoding).split("\n") if line.strip()]
