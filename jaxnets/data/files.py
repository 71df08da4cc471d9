"""Data sets in the user's files, in any supported layout."""

import os
from pathlib import Path

from jaxnets.arrays import InputError
from jaxnets.data import cifar, idx_folder, image_folder, npz, tables
from jaxnets.data.audio import folder as audio_folder
from jaxnets.data.detection import folder as detection_folder
from jaxnets.data.known import KNOWN, canonical, checked, folders, owner
from jaxnets.data.source import Source

#: The environment variable that names the folder of a user's data sets.
VARIABLE = "JAXNETS_DATA"
LAYOUTS = (
    "IDX files, CIFAR batches, .npz, .npy, .csv, images with boxes, or a subfolder of images or "
    "WAV files for each class"
)


def find(
    name: str,
    root: Path,
    *,
    given: bool = False,
    seed: int = 0,
    reading: tables.Reading | None = None,
) -> Source | None:
    """Finds a data set by name in its own folder or in the parent folder; None if not found.

    Args:
        name: one of ``jaxnets.data.known.KNOWN``, or the name of the data set's folder or file.
        root: where to search; a file is the data set itself.
        given: whether the user chose ``root`` for this data set. It is then the data set's own
            folder, whatever its name, unless that is the name of another known data set.
        seed: see ``jaxnets.data.image_folder.find``.
        reading: see ``jaxnets.data.tables.find``.

    Raises:
        UnclearClasses: if ``root`` has another name, and it is unclear whether it is a folder of
            images.
        InputError: if the data set is damaged.
    """
    for place in places(name, root, given=given):
        # A known data set is never a folder of images, which would match almost any folder.
        nested = 0 if name in KNOWN else image_folder.WRAPPINGS
        try:
            source = open_path(place, seed=seed, reading=reading, nested=nested)
        except image_folder.UnclearClasses as error:
            if place in (root, root / "raw") and canonical(root.name) != name:
                raise
            # The folder has the name of the data set, so it is an error and not another data set.
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
    """Opens the data set at a path; returns None if it has no supported layout.

    Args:
        path: the folder or file.
        seed: see ``jaxnets.data.image_folder.find``.
        reading: see ``jaxnets.data.tables.find``.
        size: see ``jaxnets.data.image_folder.find``; by default that of ``reading``.
        nested: see ``jaxnets.data.image_folder.find``.

    Raises:
        InputError: if the data set is damaged.
    """
    if path.is_dir():
        size = size or (reading.size if reading else None)
        return (
            idx_folder.find(path)
            or cifar.find(path)
            or tables.find(path, reading)
            or detection_folder.find(path, seed, size)
            or image_folder.find(path, seed, size, nested=nested)
            or audio_folder.find(path, seed, reading.recording if reading else None)
            or npz.find(path)
        )
    return npz.find(path) if path.suffix.lower() == ".npz" else tables.find(path, reading)


def at(path: Path, *, seed: int = 0, reading: tables.Reading | None = None) -> Source | None:
    """Opens the data set at a path from the user; returns None if no layout fits.

    If the path is one of several files of a data set, their folder is opened. If it is a folder,
    its subfolder ``raw``, or the single table or ``.npz`` file in it, may be opened instead.

    Args:
        path: an existing file or folder.
        seed: see ``jaxnets.data.image_folder.find``.
        reading: see ``jaxnets.data.tables.find``.

    Raises:
        InputError: if the data set is damaged.
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
    """Opens the data set that a file belongs to, by the file's name."""
    if "ubyte" in path.name:
        return idx_folder.find(path.parent)
    if path.suffix == ".npy":
        return npz.find(path.parent)
    return cifar.find(path.parent) if path.suffix in ("", ".bin") else None


def variable_root() -> Path | None:
    """Returns the folder in the environment variable ``JAXNETS_DATA``, or None.

    Raises:
        InputError: if the folder does not exist.
    """
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    root = Path(value).expanduser()
    if not root.is_dir():
        raise InputError(VARIABLE, "an existing folder", value)
    return root


def system_root(name: str) -> Path | None:
    """Returns the folder where a system package installs a data set; None if not installed."""
    folder = KNOWN[name].system if name in KNOWN else None
    return Path(folder) if folder and Path(folder).is_dir() else None


def places(name: str, root: Path, *, given: bool = False) -> list[Path]:
    """Returns the existing folders and files that may be a data set, in the order to search.

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
    # torchvision stores files in MNIST/raw, so the parent's name counts.
    path = root.resolve()
    called = owner(path.parent.name if path.name == "raw" else path.name)
    if called == name if called else given:
        found += [root / "raw", root]
    # ``Path.exists`` raises an error for a name that is too long for a file.
    return [place for place in found if os.path.exists(place)]
