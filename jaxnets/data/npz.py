"""Data sets in NumPy's files, recognized by the names of the arrays."""

import functools
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets.arrays import InputError, check_fits, describe, narrowed
from jaxnets.data import array_files
from jaxnets.data.array_files import StoredArray
from jaxnets.data.dataset import Split
from jaxnets.data.source import Part, Source
from jaxnets.data.spec import named
from jaxnets.data.streaming import RecordPairs

_INPUTS = ("x", "X", "images", "inputs", "data")
_LABELS = ("y", "Y", "labels", "targets", "target", "label")
_PARTS = {"train": ("train",), "test": ("test",), "validation": ("val", "valid", "validation")}


def find(path: Path) -> Source | None:
    """Finds the data set in a ``.npz`` file, or in the ``.npy`` files of a folder, or None.

    Inputs are named x, X, images, inputs or data; labels are named y, Y, labels, targets, target or
    label. The name is prefixed or suffixed by train, test, val, valid or validation (``x_train``,
    ``train_images``), or used alone for a single split. Several arrays of one kind have a point and
    a further name, such as ``inputs.image`` and ``inputs.tabular``; they make a dictionary. A file
    with inputs only makes splits without labels. Images may be NHWC, or NCHW with 1, 3 or 4
    channels, which is converted to NHWC for any dtype. Arrays [N, H, W] get a channel axis if they
    are uint8 or named images; otherwise they may be sequences, and are not changed.

    Raises:
        InputError: if a file is damaged, there are no such arrays, or they do not fit together.
    """
    if not path.exists():
        return None
    if path.is_file():
        arrays, origin = array_files.members(path), f"the file {path}"
    else:
        arrays, origin = array_files.folder(path), f"the .npy files in {path}"
    columns = _columns(path, arrays)
    found = [
        (name or "train", _named(columns, _INPUTS, words), _named(columns, _LABELS, words))
        for name, words in {"": ("",), **_PARTS}.items()
    ]
    unlabelled = set(columns) <= {inputs for _, inputs, _ in found}
    parts: dict[str, Part] = {}
    for name, inputs, labels in found:
        if inputs and (labels or unlabelled):
            parts[name] = _part(path, inputs, columns[inputs], labels, columns.get(labels))
        elif inputs or labels:
            missing = "labels" if inputs else "inputs"
            raise InputError(str(path), f"{missing} for {inputs or labels}", ", ".join(arrays))
    if "train" not in parts:
        if path.is_dir() and not parts:
            return None
        expected = "arrays such as x_train, y_train, x_test, y_test"
        raise InputError(str(path), expected, ", ".join(arrays) or "none")
    return Source(origin, parts)


def _columns(path: Path, arrays: Mapping[str, StoredArray]) -> dict[str, Any]:
    """Returns the arrays by name, and dictionaries of those whose names have a point."""
    columns: dict[str, Any] = {}
    for name, array in arrays.items():
        first, point, rest = name.partition(".")
        column = columns.setdefault(first, {} if point else array)
        if isinstance(column, dict) != bool(point):
            raise InputError(str(path), f"either {first} or {first}.…", ", ".join(arrays))
        if point:
            column[rest] = array
    return columns


def _named(columns: Collection[str], kinds: tuple[str, ...], words: tuple[str, ...]) -> str:
    """Returns the first existing name made of a kind and a split, or an empty string."""
    names = (
        f"{a}_{b}" if a and b else a or b for w in words for k in kinds for a, b in ((w, k), (k, w))
    )
    return next((name for name in names if name in columns), "")


def _part(path: Path, inputs_name: str, inputs: Any, labels_name: str, labels: Any) -> Part:
    """Makes a part of inputs and labels, each an array or a dictionary, or labels None."""
    count = _check(path, inputs_name, inputs, labels_name, labels)
    as_inputs = jax.tree.map(lambda x: functools.partial(_as_inputs, path, x.name), inputs)
    as_labels = jax.tree.map(lambda x: functools.partial(_as_labels, path, x.name), labels)

    @functools.cache
    def whole() -> Split:
        return Split(
            *(
                jax.tree.map(lambda array, convert: convert(array.read()), column, convert)
                for column, convert in ((inputs, as_inputs), (labels, as_labels))
            )
        )

    def read(start: int, stop: int) -> Split:
        return whole().between(start, stop)

    stored = jax.tree.leaves((inputs, labels))
    if any(array.records is None for array in stored):
        streamed = "uncompressed arrays in C order, in .npy files or by np.savez"
        return Part(count, read, streamed)
    records = [jax.tree.map(lambda x: x.records, column) for column in (inputs, labels)]
    return Part(count, read, RecordPairs(records[0], records[1], as_inputs, as_labels))


def _check(path: Path, inputs_name: str, inputs: Any, labels_name: str, labels: Any) -> int:
    """Checks the arrays' shapes and dtypes; returns the number of examples."""
    stored = [(array, "inputs", "buif") for array in named(inputs_name, inputs).values()]
    if labels is not None:
        stored += [(array, "labels", "uif") for array in named(labels_name, labels).values()]
    first = stored[0][0]
    for array, what, kinds in stored:
        if not first.shape or not array.shape or len(array) != len(first):
            expected = f"as many {what} in {array.name} as inputs in {first.name}"
            raise InputError(str(path), expected, f"{describe(array)} and {describe(first)}")
        if array.dtype.kind not in kinds:
            raise InputError(str(path), f"numbers in {array.name}", describe(array))
    return len(first)


def _as_inputs(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    what = f"{path}, {name}"
    if array.dtype.kind == "f":
        array = narrowed(what, array, np.float32)
    check_fits(what, array)
    return _channels_last(array, "image" in name.lower() or array.dtype == np.uint8)


def _as_labels(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    if array.ndim == 2 and array.shape[1] == 1 and array.dtype.kind in "iu":
        array = array[:, 0]  # class numbers in a column
    dtype = np.float32 if array.dtype.kind == "f" else np.int32
    return narrowed(f"{path}, {name}", array, dtype)


def _channels_last(array: np.ndarray, images: bool) -> np.ndarray:
    if array.ndim == 3 and images:
        return array[..., None]
    if array.ndim == 4 and array.shape[-1] not in (1, 3, 4) and array.shape[1] in (1, 3, 4):
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1))
    return array
