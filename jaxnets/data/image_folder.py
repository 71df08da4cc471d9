"""A folder of images with a subfolder for each class, as ``torchvision.datasets.ImageFolder``."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxnets.arrays import InputError
from jaxnets.data.batching import epoch_plan
from jaxnets.data.image_files import read_header, read_image
from jaxnets.data.source import Part, Source, lying
from jaxnets.data.streaming import Examples

#: The endings by which an image file is told.
ENDINGS = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
)
_PARTS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("val", "valid", "validation"),
}


def find(folder: Path, seed: int = 0) -> Source | None:
    """The images of a folder; None if it has no subfolders with images.

    The folder holds ``train`` and perhaps ``test`` and ``val``, with a subfolder for each class in
    them; or the subfolders of the classes themselves. Classes are numbered in the order of their
    names. The images come in an order drawn from the seed, so that a range of them is a sample
    of all classes.

    Args:
        folder: where to look.
        seed: of the order.

    Raises:
        InputError: if an image cannot be read or has another size than the first, or a split has
            a class that ``train`` lacks.
    """
    tops = {name: _top(folder, words) for name, words in _PARTS.items()}
    if tops["train"] is None:
        tops = {"train": folder}
    found = {name: _by_class(top) for name, top in tops.items() if top is not None}
    classes = tuple(sorted(found["train"]))
    if not classes:
        return None
    for name, groups in found.items():
        for strange in sorted(set(groups) - set(classes)):
            expected = f"classes of {tops['train']}, which are {', '.join(classes)}"
            raise InputError(str(tops[name]), expected, strange)
    shape = _check(
        [path for groups in found.values() for paths in groups.values() for path in paths]
    )
    parts = {name: _part(groups, classes, shape, seed) for name, groups in found.items() if groups}
    return Source(f"images in {folder}", parts, classes)


def _top(folder: Path, words: tuple[str, ...]) -> Path | None:
    return next((folder / word for word in words if (folder / word).is_dir()), None)


def _by_class(folder: Path) -> dict[str, list[Path]]:
    """The images of each subfolder that has any."""
    subfolders = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    groups = {subfolder.name: sorted(_images(subfolder)) for subfolder in subfolders}
    return {name: paths for name, paths in groups.items() if paths}


def _images(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.suffix.lower() in ENDINGS and not path.name.startswith(".") and path.is_file():
            yield path


def _check(paths: list[Path]) -> tuple[int, int, int]:
    """The one shape of all images, from their headers."""
    first, all_grey = None, True
    for path in paths:
        height, width, grey = read_header(path)
        all_grey &= grey
        first = first or (height, width)
        if (height, width) != first:
            expected = f"an image of {first[1]}×{first[0]} pixels, as {paths[0]}"
            raise InputError(str(path), expected, f"{width}×{height}")
    assert first is not None, "there is an image"
    return *first, 1 if all_grey else 3


def _part(
    groups: dict[str, list[Path]], classes: tuple[str, ...], shape: tuple[int, int, int], seed: int
) -> Part:
    named = [(path, classes.index(name)) for name in sorted(groups) for path in groups[name]]
    order = epoch_plan(len(named), len(named), seed=seed, epoch=0).full[0]
    folder = named[0][0].parent.parent
    names = np.array([os.fsencode(path.relative_to(folder)) for path, _ in named])
    labels = np.array([label for _, label in named], np.int32)
    return lying(ImageFiles(folder, names[order], labels[order], shape))


@dataclass(frozen=True, eq=False, repr=False)
class ImageFiles(Examples):
    """Images that are decoded as they are used.

    Args:
        folder: where they lie.
        names: of the files in it, as the system writes them: bytes [N].
        labels: class numbers, int32 [N].
        shape: height, width and channels of each.
    """

    folder: Path
    names: np.ndarray
    labels: np.ndarray
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        """The number of images."""
        return len(self.names)

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See ``Examples``."""
        paths = (self.folder / os.fsdecode(name) for name in self.names[rows])
        return np.stack([read_image(path, self.shape) for path in paths]), self.labels[rows]

    def known_labels(self) -> np.ndarray:
        """See ``Examples``."""
        return self.labels
