"""Folders of IDX files: MNIST and similar data sets, as published or stored by torchvision."""

from pathlib import Path

import numpy as np

from jaxnets.arrays import InputError, describe
from jaxnets.data import idx
from jaxnets.data.dataset import Split
from jaxnets.data.source import Part, Source, held, lying
from jaxnets.data.streaming import RecordPairs, Records

_PARTS = {"train": ("train",), "test": ("t10k", "test")}
_KINDS = {"images": "idx3", "labels": "idx1"}


def find(folder: Path) -> Source | None:
    """Finds the IDX files of a folder, plain or compressed; returns None if there are none.

    Raises:
        InputError: if one of the four files is missing or damaged.
    """
    if not any(_file(folder, part, kind) for part in _PARTS for kind in _KINDS):
        return None
    parts = {part: _part(*(_required(folder, part, kind) for kind in _KINDS)) for part in _PARTS}
    return Source(f"IDX files in {folder}", parts)


def read(images: Path, labels: Path) -> Split:
    """Reads a file of images and the file of their labels.

    Returns:
        Inputs uint8 [N, H, W, 1], labels int32 [N].

    Raises:
        InputError: if a file is damaged, has another number of axes, or the lengths differ.
    """
    _check(images, idx.read_header(images), labels, idx.read_header(labels))
    return Split(_as_images(idx.read(images)), _as_numbers(idx.read(labels)))


def _part(images: Path, labels: Path) -> Part:
    pixels, numbers = idx.records(images), idx.records(labels)
    if pixels is None or numbers is None:
        return held(read(images, labels), "uncompressed IDX files, as gunzip makes")
    _check(images, pixels, labels, numbers)
    return lying(RecordPairs(pixels, numbers, _as_images, _as_numbers))


def _as_images(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., None]


def _as_numbers(labels: np.ndarray) -> np.ndarray:
    return labels.astype(np.int32)


def _check(
    images: Path, pixels: idx.Header | Records, labels: Path, numbers: idx.Header | Records
) -> None:
    if len(pixels.shape) != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise InputError(str(images), "images, uint8 [N, height, width]", describe(pixels))
    if len(numbers.shape) != 1 or numbers.dtype != np.uint8:
        raise InputError(str(labels), "labels, uint8 [N]", describe(numbers))
    if len(numbers) != len(pixels):
        expected = f"{len(pixels)} labels, one for each image in {images.name}"
        raise InputError(str(labels), expected, f"{len(numbers)}")


def _required(folder: Path, part: str, kind: str) -> Path:
    path = _file(folder, part, kind)
    if path is None:
        name = f"{_PARTS[part][0]}-{kind}-{_KINDS[kind]}-ubyte"
        raise InputError(str(folder), f"a folder with {name} or {name}.gz", "no such file in it")
    return path


def _file(folder: Path, part: str, kind: str) -> Path | None:
    names = (
        f"{start}-{kind}{joint}{_KINDS[kind]}-ubyte{ending}"
        for start in _PARTS[part]
        for joint in "-."
        for ending in ("", ".gz")
    )
    return next((folder / name for name in names if (folder / name).is_file()), None)
