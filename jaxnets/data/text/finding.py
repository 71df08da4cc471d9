"""Finds the files of known data sets of texts."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxnets.arrays import InputError
from jaxnets.data import from_tfds
from jaxnets.data.dataset import Split
from jaxnets.data.files import VARIABLE, variable_root
from jaxnets.data.text.corpora import characters, names, polarity
from jaxnets.data.text.dataset import TextDataset
from jaxnets.data.text.encoder import TextEncoder, learn_encoder
from jaxnets.data.text.pairs import PAIRS, dates, pairs
from jaxnets.data.text.tokens import Tokenizer


def load(
    name: str,
    data_dir: Path | None = None,
    held_out: float | None = None,
    seed: int = 0,
    encoder: TextEncoder | None = None,
    **options: Any,
) -> TextDataset:
    """Loads a data set of texts by its name.

    Args:
        name: one of ``TEXTS``.
        data_dir: the data set's own folder or file, or the folder that contains it; by default the
            folder in JAXNETS_DATA, or that of TensorFlow Datasets.
        held_out: fraction to test with, by default 0.1; ignored if the data set has a test split.
        seed: seed of the selection.
        encoder: an encoder; None builds one from the training texts.
        **options: the arguments in ``OPTIONS`` that the data set takes.

    Raises:
        InputError: if the files are not found, or are damaged.
    """
    return TEXTS[name](data_dir, 0.1 if held_out is None else held_out, seed, encoder, **options)


#: The arguments that only one data set of texts takes.
OPTIONS = {"text": ("window", "stride"), "pairs": ("tokens",)}
#: Suffixes of text files.
ENDINGS = (".txt", ".text")
#: For each data set, a description of its files, the folders to search, and a file that must exist.
_FILES = {
    "names": (
        "a file Language.txt for each class",
        ("names", "data/names", "names/data/names", "."),
        "*.txt",
    ),
    "pairs": (PAIRS, (".", "pairs"), PAIRS),
    "rt-polarity": (
        "rt-polarity.pos and rt-polarity.neg",
        (".", "rt-polarity", "rt-polaritydata"),
        "rt-polarity.pos",
    ),
    "text": ("a text file, or input.txt", (".", "tinyshakespeare", "text"), "input.txt"),
}


def place(name: str, root: Path) -> Path | None:
    """Returns the folder in or below ``root`` with the files of a data set of texts, or None."""
    _, folders, file = _FILES.get(name, ("", (), ""))
    return next((root / folder for folder in folders if any((root / folder).glob(file))), None)


def at(path: Path) -> tuple[str, Path] | None:
    """Returns the name and the location of the texts at a user's path; None if there are none.

    Args:
        path: an existing file or folder.
    """
    if path.is_file():
        if path.name == PAIRS:
            return "pairs", path
        return ("text", path) if path.suffix.lower() in ENDINGS else None
    for name in ("rt-polarity", "text", "pairs"):
        if (path / _FILES[name][2]).is_file():
            return name, path
    texts, others = list(path.glob("*.txt")), [other for other in path.iterdir() if other.is_dir()]
    if len(texts) == 1 and not others and len(list(path.iterdir())) == 1:
        return "text", texts[0]
    return ("names", path) if len(texts) > 1 and _all_end(path, ".txt") else None


def _all_end(folder: Path, ending: str) -> bool:
    return all(file.suffix == ending or file.name.startswith(".") for file in folder.iterdir())


def _first(name: str, data_dir: Path | None) -> Path:
    root = data_dir or variable_root()
    folder = None if root is None else place(name, root)
    if folder is None:
        looked = f"in {root}" if root is not None else f"with data_dir or {VARIABLE}, neither given"
        raise InputError("name", f"{_FILES[name][0]} {looked}", f"{name!r} without such files")
    return folder


def _found(place: Path, data: TextDataset) -> TextDataset:
    return dataclasses.replace(data, origin=f"files in {place}" if place.is_dir() else str(place))


def _polarity(
    root: Path | None, held_out: float, seed: int, encoder: TextEncoder | None
) -> TextDataset:
    folder = _first("rt-polarity", root)
    return _found(folder, polarity(folder, held_out=held_out, seed=seed, encoder=encoder))


def _names(
    root: Path | None, held_out: float, seed: int, encoder: TextEncoder | None
) -> TextDataset:
    folder = _first("names", root)
    return _found(folder, names(folder, held_out=held_out, seed=seed, encoder=encoder))


def _text(
    root: Path | None,
    held_out: float,
    seed: int,
    encoder: TextEncoder | None,
    window: int = 64,
    stride: int | None = None,
) -> TextDataset:
    cut: dict[str, Any] = {"window": window, "stride": stride, "held_out": held_out}
    if root is not None and root.is_file():
        return _found(root, characters(root, **cut, encoder=encoder))
    folder = _first("text", root)
    return _found(folder, characters(folder / "input.txt", **cut, encoder=encoder))


def _pairs(
    root: Path | None,
    held_out: float,
    seed: int,
    encoder: TextEncoder | None,
    tokens: str = "characters",
) -> TextDataset:
    chosen: dict[str, Any] = {"tokens": tokens, "held_out": held_out, "seed": seed}
    if root is not None and root.is_file():
        return _found(root, pairs(root, **chosen, encoder=encoder))
    folder = _first("pairs", root)
    return _found(folder, pairs(folder / PAIRS, **chosen, encoder=encoder))


def _dates(
    root: Path | None, held_out: float, seed: int, encoder: TextEncoder | None
) -> TextDataset:
    if root is not None:
        raise InputError("data_dir", "None, as dates are generated", str(root))
    data = dates(held_out=held_out, seed=seed, encoder=encoder)
    return dataclasses.replace(data, origin="generated by jaxnets")


def _imdb(
    root: Path | None, held_out: float, seed: int, encoder: TextEncoder | None
) -> TextDataset:
    """Loads the IMDb reviews, 25,000 in each split; 10 % of them are truncated."""
    parts = [from_tfds.texts("imdb_reviews", part, root) for part in ("train", "test")]
    tokenizer = Tokenizer(lowercase=True, split_punctuation=True)
    if encoder is None:
        encoder = learn_encoder(parts[0][0], tokenizer, min_count=5, percentile=90)
    train, test = (Split(encoder(found), labels) for found, labels in parts)
    classes, origin = ("negative", "positive"), "TensorFlow Datasets"
    return TextDataset("imdb_reviews", train, test, classes, origin, encoder=encoder)


#: Functions that load the data sets of texts, by name: (folder or file, held-out fraction, seed,
#: encoder) → data.
TEXTS: dict[str, Callable[..., TextDataset]] = {
    "dates": _dates,
    "imdb_reviews": _imdb,
    "names": _names,
    "pairs": _pairs,
    "rt-polarity": _polarity,
    "text": _text,
}
