"""Arrays in NumPy's files, under the names that people give them."""

import functools
from collections.abc import Collection
from pathlib import Path

import numpy as np

from jaxnets.arrays import InputError, check_fits, describe, narrowed
from jaxnets.data import array_files
from jaxnets.data.array_files import StoredArray
from jaxnets.data.dataset import Split
from jaxnets.data.source import Part, Source
from jaxnets.data.streaming import RecordPairs

_INPUTS = ("x", "X", "images", "inputs", "data")
_LABELS = ("y", "Y", "labels", "targets", "target", "label")
_PARTS = {"train": ("train",), "test": ("test",), "validation": ("val", "valid", "validation")}


def find(path: Path) -> Source | None:
    """The arrays of a ``.npz`` file, or of the ``.npy`` files in a folder; None if there are none.

    Inputs are called x, X, images, inputs or data, labels y, Y, labels, targets, target or label;
    with train, test, val, valid or validation before or behind (``x_train``, ``train_images``), or
    alone for a single split. Images may be NHWC, or NCHW of 1, 3 or 4 channels, which becomes
    NHWC whatever its dtype. Arrays [N, H, W] of uint8, or called images, get a channel; of other
    dtypes and names they may be sequences, and stay as they are.

    Raises:
        InputError: if a file is damaged, there are no such arrays, or they do not fit together.
    """
    if not path.exists():
        return None
    if path.is_file():
        arrays, origin = array_files.members(path), f"the file {path}"
    else:
        arrays, origin = array_files.folder(path), f"the .npy files in {path}"
    parts: dict[str, Part] = {}
    for name, words in {"": ("",), **_PARTS}.items():
        inputs, labels = _named(arrays, _INPUTS, words), _named(arrays, _LABELS, words)
        if inputs and labels:
            parts[name or "train"] = _part(path, arrays[inputs], arrays[labels])
        elif inputs or labels:
            missing = "labels" if inputs else "inputs"
            raise InputError(str(path), f"{missing} beside {inputs or labels}", ", ".join(arrays))
    if "train" not in parts:
        if path.is_dir() and not parts:
            return None
        expected = "arrays such as x_train, y_train, x_test, y_test"
        raise InputError(str(path), expected, ", ".join(arrays) or "none")
    return Source(origin, parts)


def _named(arrays: Collection[str], kinds: tuple[str, ...], words: tuple[str, ...]) -> str:
    """The first name that is made of one of each; empty if there is none."""
    names = (
        f"{a}_{b}" if a and b else a or b for w in words for k in kinds for a, b in ((w, k), (k, w))
    )
    return next((name for name in names if name in arrays), "")


def _part(path: Path, inputs: StoredArray, labels: StoredArray) -> Part:
    if not inputs.shape or not labels.shape or len(inputs) != len(labels):
        expected = f"as many labels in {labels.name} as inputs in {inputs.name}"
        raise InputError(str(path), expected, f"{describe(labels)} and {describe(inputs)}")
    for array, kinds in ((inputs, "buif"), (labels, "uif")):
        if array.dtype.kind not in kinds:
            raise InputError(str(path), f"numbers in {array.name}", describe(array))

    as_inputs = functools.partial(
        _as_inputs, f"{path}, {inputs.name}", "image" in inputs.name.lower()
    )
    as_labels = functools.partial(_as_labels, f"{path}, {labels.name}")

    @functools.cache
    def whole() -> Split:
        return Split(as_inputs(inputs.read()), as_labels(labels.read()))

    def read(start: int, stop: int) -> Split:
        return whole().between(start, stop)

    if inputs.records is None or labels.records is None:
        streamed = "arrays in C order, in .npy files or by np.savez, which does not compress them"
        return Part(len(inputs), read, streamed)
    examples = RecordPairs(inputs.records, labels.records, as_inputs, as_labels)
    return Part(len(inputs), read, examples)


def _as_inputs(what: str, images: bool, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "f":
        array = narrowed(what, array, np.float32)
    check_fits(what, array)
    return _channels_last(array, images or array.dtype == np.uint8)


def _as_labels(what: str, array: np.ndarray) -> np.ndarray:
    if array.ndim == 2 and array.shape[1] == 1 and array.dtype.kind in "iu":
        array = array[:, 0]  # class numbers in a column
    return narrowed(what, array, np.float32 if array.dtype.kind == "f" else np.int32)


def _channels_last(array: np.ndarray, images: bool) -> np.ndarray:
    if array.ndim == 3 and images:
        return array[..., None]
    if array.ndim == 4 and array.shape[-1] not in (1, 3, 4) and array.shape[1] in (1, 3, 4):
        return np.ascontiguousarray(array.transpose(0, 2, 3, 1))
    return array
