"""A ``.npz`` file of arrays, under the names that people give them."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from jaxnets.arrays import InputError, describe
from jaxnets.data.dataset import Split
from jaxnets.data.source import Part, Source, held

_INPUTS = ("x", "X", "images", "inputs", "data")
_LABELS = ("y", "Y", "labels", "targets", "target", "label")
_PARTS = {"train": ("train",), "test": ("test",), "validation": ("val", "valid", "validation")}
_DAMAGE = (ValueError, LookupError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def find(path: Path) -> Source | None:
    """The arrays of a ``.npz`` file; None if there is no such file.

    Inputs are called x, X, images, inputs or data, labels y, Y, labels, targets, target or label;
    with train, test, val, valid or validation before or behind (``x_train``, ``train_images``), or
    alone for a single split. Images may be [N, H, W], NHWC or NCHW.

    Raises:
        InputError: if the file is damaged, has no such arrays, or they do not fit together.
    """
    if not path.is_file():
        return None
    arrays = _arrays(path)
    parts: dict[str, Part] = {}
    for name, words in {"": ("",), **_PARTS}.items():
        inputs, labels = _named(arrays, _INPUTS, words), _named(arrays, _LABELS, words)
        if inputs and labels:
            parts[name or "train"] = held(_split(path, inputs, labels, arrays))
        elif inputs or labels:
            missing = "labels" if inputs else "inputs"
            raise InputError(str(path), f"{missing} beside {inputs or labels}", ", ".join(arrays))
    if "train" not in parts:
        expected = "arrays such as x_train, y_train, x_test, y_test"
        raise InputError(str(path), expected, ", ".join(arrays) or "none")
    return Source(f"the file {path}", parts)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("not a zip file")
            return {name: archive[name] for name in archive.files}
    except _DAMAGE as error:
        raise InputError(str(path), "an undamaged .npz file", f"{error!r}") from error


def _named(arrays: dict[str, np.ndarray], kinds: tuple[str, ...], words: tuple[str, ...]) -> str:
    """The first name that is made of one of each; empty if there is none."""
    names = (
        f"{a}_{b}" if a and b else a or b for w in words for k in kinds for a, b in ((w, k), (k, w))
    )
    return next((name for name in names if name in arrays), "")


def _split(path: Path, inputs: str, labels: str, arrays: dict[str, np.ndarray]) -> Split:
    x, y = arrays[inputs], arrays[labels]
    if y.ndim == 2 and y.shape[1] == 1 and y.dtype.kind in "iu":
        y = y[:, 0]  # class numbers in a column
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        expected = f"as many labels in {labels} as inputs in {inputs}"
        raise InputError(str(path), expected, f"{describe(y)} and {describe(x)}")
    for name, array, kinds in ((inputs, x, "buif"), (labels, y, "uif")):
        if array.dtype.kind not in kinds:
            raise InputError(str(path), f"numbers in {name}", describe(array))
    if x.dtype == np.uint8:
        x = _channels_last(x)
    return Split(
        x.astype(np.float32) if x.dtype.kind == "f" else x,
        y.astype(np.float32 if y.dtype.kind == "f" else np.int32),
    )


def _channels_last(images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        return images[..., None]
    if images.ndim == 4 and images.shape[-1] not in (1, 3, 4) and images.shape[1] in (1, 3, 4):
        return np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    return images
