"""CIFAR-10 and CIFAR-100 in both published layouts: binary files and pickles."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, describe
from jaxnets.data import unpickle
from jaxnets.data.dataset import Split
from jaxnets.data.source import Part, Source, held, join, lying
from jaxnets.data.streaming import Examples, Joined, Records

_PIXELS = 3 * 32 * 32
_PIECE = 1000  # images per read when only labels are needed
_MOST_BYTES = 2**30  # largest pickle, which is read into memory; CIFAR-100's has 155 million bytes
_TEN = (tuple(f"data_batch_{number}" for number in range(1, 6)), ("test_batch",))
_HUNDRED = (("train",), ("test",))


def read_binary(path: Path, *, classes: int = 10, label_bytes: int = 1) -> Split:
    """Reads a file of the binary version.

    Args:
        path: the file, with the label and the red, green and blue plane of each image.
        classes: number of classes.
        label_bytes: 1, or 2 for CIFAR-100, whose first byte is the coarse label; the last is used.

    Returns:
        Inputs uint8 [N, 32, 32, 3], labels int32 [N].

    Raises:
        InputError: if the file's size is not a multiple of the record size, or a label is out of
            range.
    """
    examples = open_binary(path, classes=classes, label_bytes=label_bytes)
    return Split(*examples.gather(np.arange(len(examples))))


def open_binary(path: Path, *, classes: int = 10, label_bytes: int = 1) -> "BinaryFile":
    """Opens a file of the binary version for streaming.

    Args:
        path: see ``read_binary``.
        classes: see ``read_binary``.
        label_bytes: see ``read_binary``.

    Raises:
        InputError: if the file's size is not a multiple of the record size.
    """
    length, size = path.stat().st_size, label_bytes + _PIXELS
    count, rest = divmod(length, size)
    if rest or not count:
        found = f"{length} bytes: {count} records and {rest} bytes more"
        raise InputError(str(path), f"records of {size} bytes, a label and an image each", found)
    return BinaryFile(Records(path, 0, (count, size), np.dtype(np.uint8)), classes, label_bytes)


@dataclass(frozen=True, eq=False, repr=False)
class BinaryFile(Examples):
    """The images of a file of the binary version.

    Args:
        records: the records, each with labels and planes.
        classes: number of classes.
        label_bytes: number of bytes before an image, the last of which is its label.
    """

    records: Records
    classes: int
    label_bytes: int

    def __len__(self) -> int:
        """The number of images."""
        return len(self.records)

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See ``Examples``."""
        records = self.records.gather(rows)
        labels = records[:, self.label_bytes - 1].astype(np.int32)
        _check_labels(self.records.path, labels, self.classes, rows)
        return _images(records[:, self.label_bytes :]), labels

    def known_labels(self) -> np.ndarray:
        """See ``Examples``."""
        pieces = np.array_split(np.arange(len(self)), -(-len(self) // _PIECE))
        return np.concatenate([self.gather(rows)[1] for rows in pieces])


def read_pickle(path: Path, *, classes: int = 10) -> Split:
    """Reads a file of the Python version, a pickle, without executing its code.

    Args:
        path: the file: a dict of ``data`` [N, 3072] and ``labels`` or ``fine_labels``.
        classes: number of classes.

    Returns:
        Inputs uint8 [N, 32, 32, 3], labels int32 [N].

    Raises:
        InputError: if the file has another content.
    """
    content = _dictionary(path)
    pixels = content.get("data")
    if not isinstance(pixels, np.ndarray) or pixels.shape[1:] != (_PIXELS,):
        raise InputError(str(path), f"an array 'data' [N, {_PIXELS}]", _shape(pixels))
    if pixels.dtype != np.uint8:
        raise InputError(str(path), "'data' of uint8", str(pixels.dtype))
    key = "labels" if classes == 10 else "fine_labels"
    labels = _whole_numbers(content.get(key))
    if labels is None or len(labels) != len(pixels):
        expected = f"{len(pixels)} whole numbers '{key}', one for each image"
        raise InputError(str(path), expected, _shape(content.get(key)))
    _check_labels(path, labels, classes, np.arange(len(labels)))
    return Split(_images(pixels), labels.astype(np.int32))


def _whole_numbers(values: Any) -> np.ndarray | None:
    """Converts a flat sequence of integers to an array; returns None for anything else."""
    if isinstance(values, list | tuple) and all(type(value) is int for value in values):
        values = np.array(values) if values else np.zeros(0, np.int64)
    whole = isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iu"
    return values if whole else None


def find(folder: Path) -> Source | None:
    """Finds CIFAR-10 or CIFAR-100 in a folder; returns None if it has none of their files.

    Raises:
        InputError: if some of the files are missing.
    """
    for files, ending, classes in (
        (_TEN, "", 10), (_TEN, ".bin", 10), (_HUNDRED, "", 100), (_HUNDRED, ".bin", 100),
    ):  # fmt: skip
        paths = [[folder / f"{name}{ending}" for name in part] for part in files]
        there = [path for part in paths for path in part if path.is_file()]
        missing = [path.name for part in paths for path in part if not path.is_file()]
        if there and missing:
            raise InputError(str(folder), f"also {', '.join(missing)}", f"{there[0].name} alone")
        if there:
            return _source(folder, paths, binary=bool(ending), classes=classes)
    return None


def _source(folder: Path, paths: list[list[Path]], *, binary: bool, classes: int) -> Source:
    def part(paths: list[Path]) -> Part:
        if not binary:
            splits = [read_pickle(path, classes=classes) for path in paths]
            return held(join(splits), "CIFAR's binary version, whose images can be read one by one")
        label_bytes = 1 if classes == 10 else 2
        opened = [open_binary(path, classes=classes, label_bytes=label_bytes) for path in paths]
        return lying(Joined(tuple(opened)))

    parts = {"train": part(paths[0]), "test": part(paths[1])}
    kind = "binary files" if binary else "pickles"
    return Source(f"{kind} in {folder}", parts, _class_names(folder, binary, classes))


def _class_names(folder: Path, binary: bool, classes: int) -> tuple[str, ...] | None:
    stem = {10: "batches.meta", 100: "fine_label_names" if binary else "meta"}[classes]
    path = folder / (f"{stem}.txt" if binary else stem)
    if not path.is_file():
        return None
    if binary:
        names = _words(path)
    else:
        key = "label_names" if classes == 10 else "fine_label_names"
        found = _dictionary(path).get(key)
        if not isinstance(found, list | tuple) or not all(map(_is_text, found)):
            raise InputError(str(path), f"a list of names '{key}'", _shape(found))
        names = list(map(_text, found))
    if len(names) != classes:
        raise InputError(str(path), f"the names of {classes} classes", f"{len(names)} names")
    return tuple(names)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except UnicodeDecodeError as error:
        raise InputError(str(path), "names in UTF-8", str(error)) from error


def _dictionary(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise InputError(str(path), f"a pickle of at most {_MOST_BYTES:,} bytes", f"{size:,} bytes")
    content = unpickle.loads(path.read_bytes(), str(path))
    if not isinstance(content, dict):
        raise InputError(str(path), "a pickled dict", type(content).__name__)
    return {_text(key): value for key, value in content.items()}


def _check_labels(path: Path, labels: np.ndarray, classes: int, rows: np.ndarray) -> None:
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(bad):
        found = f"{labels[bad[0]]} for image {rows[bad[0]]}"
        raise InputError(str(path), f"labels from 0 to {classes - 1}", found)


def _images(pixels: np.ndarray) -> np.ndarray:
    planes = pixels.reshape(-1, 3, 32, 32)  # [N, channels, rows, columns]
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def _is_text(value: Any) -> bool:
    return isinstance(value, str | bytes)


def _text(value: str | bytes) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else value


def _shape(value: Any) -> str:
    if isinstance(value, list | tuple):
        kinds = sorted({type(entry).__name__ for entry in value})
        return f"{len(value)} of {', '.join(kinds) or 'nothing'}"
    return describe(value) if isinstance(value, np.ndarray) else type(value).__name__
