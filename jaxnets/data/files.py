"""Data sets in files that people have already."""

import os
from pathlib import Path

from jaxnets.arrays import InputError
from jaxnets.data import cifar, idx_folder, image_folder, npz, tables
from jaxnets.data.audio import folder as audio_folder
from jaxnets.data.known import KNOWN, canonical, checked, folders, owner
from jaxnets.data.source import Source

#: The environment variable that names the folder of a user's data sets.
VARIABLE = "JAXNETS_DATA"
LAYOUTS = (
    "IDX files, CIFAR batches, .npz, .npy, .csv, or a subfolder of images or WAV files for each "
    "class"
)


def find(
    name: str,
    root: Path,
    *,
    given: bool = False,
    seed: int = 0,
    reading: tables.Reading | None = None,
) -> Source | None:
    """The data set of a name in a folder, which may be its own or hold it; None if it is not there.

    Args:
        name: of the set: one of ``jaxnets.data.known.KNOWN``, or what its folder or file is
            called.
        root: where to look; a file is the set itself.
        given: whether the user named this very place for this set: then it is taken for the set's
            own folder whatever it is called, unless another known set's folder is called so.
        seed: see ``jaxnets.data.image_folder.find``.
        reading: see ``jaxnets.data.tables.find``.

    Raises:
        UnclearClasses: if the folder given, which has another name, is perhaps one of images.
        InputError: if the set is there and damaged.
    """
    for place in places(name, root, given=given):
        # any folders in folders may hold images, and are not a set that is known
        nested = 0 if name in KNOWN else image_folder.WRAPPINGS
        try:
            source = open_path(place, seed=seed, reading=reading, nested=nested)
        except image_folder.UnclearClasses as error:
            if place in (root, root / "raw") and canonical(root.name) != name:
                raise
            # it is called as the set is
            raise InputError(error.argument, error.expected, error.got) from error
        if source is not None:
            return checked(name, source)
    return None


def open_path(
    path: Path,
    *,
    seed: int = 0,
    reading: tables.Reading | None = None,
    size: tuple[int, int] | None = None,
    nested: int = image_folder.WRAPPINGS,
) -> Source | None:
    """The data set at a path, in whichever layout it is; None if it is in none that is known.

    Args:
        path: the folder or file.
        seed: see ``jaxnets.data.image_folder.find``.
        reading: see ``jaxnets.data.tables.find``.
        size: see ``jaxnets.data.image_folder.find``; by default that of ``reading``.
        nested: likewise.

    Raises:
        InputError: if it is damaged.
    """
    if path.is_dir():
        size = size or (reading.size if reading else None)
        return (
            idx_folder.find(path)
            or cifar.find(path)
            or tables.find(path, reading)
            or image_folder.find(path, seed, size, nested=nested)
            or audio_folder.find(path, seed, reading.listening if reading else None)
            or npz.find(path)
        )
    return npz.find(path) if path.suffix.lower() == ".npz" else tables.find(path, reading)


def at(path: Path, *, seed: int = 0, reading: tables.Reading | None = None) -> Source | None:
    """The data set at a path that the user gives; None if there is none.

    A file of a set of several stands for their folder, and a folder for a ``raw`` in it or for the
    one table or ``.npz`` file in it.

    Args:
        path: an existing file or folder.
        seed: see ``jaxnets.data.image_folder.find``.
        reading: see ``jaxnets.data.tables.find``.

    Raises:
        InputError: if it is damaged.
    """
    if path.is_file() and path.suffix.lower() not in (*tables.ENDINGS, ".npz"):
        return _set_of(path)
    places = [path]
    if path.is_dir():
        single = [file for ending in (*tables.ENDINGS, ".npz") for file in path.glob(f"*{ending}")]
        places += [path / "raw", *(single if len(single) == 1 else [])]
    opened = (open_path(place, seed=seed, reading=reading) for place in places if place.exists())
    return next((source for source in opened if source is not None), None)


def _set_of(path: Path) -> Source | None:
    """The set of files to which one belongs by its name."""
    if "ubyte" in path.name:
        return idx_folder.find(path.parent)
    if path.suffix == ".npy":
        return npz.find(path.parent)
    return cifar.find(path.parent) if path.suffix in ("", ".bin") else None


def variable_root() -> Path | None:
    """The folder that the environment variable names, or None.

    Raises:
        InputError: if there is no such folder.
    """
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    root = Path(value).expanduser()
    if not root.is_dir():
        raise InputError(VARIABLE, "an existing folder", value)
    return root


def system_root(name: str) -> Path | None:
    """The folder of the system's package of a set, if it is installed."""
    folder = KNOWN[name].system if name in KNOWN else None
    return Path(folder) if folder and Path(folder).is_dir() else None


def places(name: str, root: Path, *, given: bool = False) -> list[Path]:
    """The existing folders and files that may hold a set, in the order in which to look.

    Args:
        name: see ``find``.
        root: see ``find``.
        given: see ``find``.
    """
    if root.is_file():
        return [root]
    found = []
    for folder in folders(name):
        found += [root / folder / "raw", root / folder]
        found += [root / f"{folder}{ending}" for ending in (".npz", ".csv", ".tsv")]
    # torchvision's MNIST/raw is called by its parent's name
    path = root.resolve()
    called = owner(path.parent.name if path.name == "raw" else path.name)
    if called == name if called else given:
        found += [root / "raw", root]
    return [place for place in found if place.exists()]
