"""MNIST: 70,000 handwritten digits, bundled with the library.

The data are by Yann LeCun, Corinna Cortes and Christopher J.C. Burges, under the licence CC BY-SA
3.0 (https://creativecommons.org/licenses/by-sa/3.0/), not under that of the code.
"""

import zipfile
import zlib
from importlib import resources
from importlib.resources.abc import Traversable

import numpy as np

from jaxnets.arrays import InputError, describe
from jaxnets.data.dataset import Dataset, Split

#: The original IDX file of each array in the bundled file, and the MD5 of its uncompressed content.
ORIGINALS = {
    "train_images": ("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb"),
    "train_labels": ("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624"),
    "test_images": ("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea"),
    "test_labels": ("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637"),
}
_SHAPES = {
    "train_images": (60000, 28, 28),
    "train_labels": (60000,),
    "test_images": (10000, 28, 28),
    "test_labels": (10000,),
}
# Exceptions that zipfile and NumPy raise for damaged files.
_DAMAGE = (ValueError, LookupError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def load() -> Dataset:
    """Loads the bundled MNIST: ``torchvision.datasets.MNIST`` without a download.

    Returns:
        Inputs uint8 [60000, 28, 28, 1] and [10000, 28, 28, 1] from 0 (background) to 255 (ink),
        labels int32 [60000] and [10000], the digits.

    Raises:
        InputError: if the bundled file is missing or damaged.
    """
    return read(resources.files(__package__) / "mnist.npz")


def read(file: Traversable) -> Dataset:
    """Reads a file like the bundled one: a ``.npz`` file of the arrays in ``ORIGINALS``.

    Args:
        file: a path, or a resource inside a package.

    Raises:
        InputError: if the file is missing, damaged or not MNIST.
    """
    expected = "the MNIST file that comes with jaxnets (reinstall jaxnets to restore it)"
    try:
        with file.open("rb") as stream, zipfile.ZipFile(stream) as archive:
            arrays = {name: _member(archive, name) for name in ORIGINALS}
    except FileNotFoundError as error:
        raise InputError(str(file), expected, "no such file") from error
    except _DAMAGE as error:
        raise InputError(str(file), expected, f"a damaged file ({error!r})") from error
    for name, array in arrays.items():
        if array.shape != _SHAPES[name] or array.dtype != np.uint8:
            raise InputError(str(file), expected, f"{name} of {describe(array)}")
    train, test = (
        Split(arrays[f"{part}_images"][..., None], arrays[f"{part}_labels"].astype(np.int32))
        for part in ("train", "test")
    )
    return Dataset("mnist", train, test, class_names=tuple("0123456789"))


def _member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    # np.load would report a file that is not a zip as a pickle.
    with archive.open(f"{name}.npy") as stream:
        return np.lib.format.read_array(stream)
