"""Folders of images with a subfolder for each class, like ``torchvision.datasets.ImageFolder``."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxnets.arrays import InputError
from jaxnets.data.batching import epoch_plan
from jaxnets.data.image_files import FORMATS, read_header, read_image
from jaxnets.data.source import Part, Source, lying
from jaxnets.data.streaming import Examples

#: Suffixes of image files.
ENDINGS = frozenset(ending for endings in FORMATS.values() for ending in endings)
#: Largest number of folders around those of the classes, such as an archive's top folder.
WRAPPINGS = 3
_PARTS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "eval"),
    "validation": ("val", "valid", "validation", "dev"),
}
#: Files and folders that systems and archives create; they and hidden files are ignored.
_SYSTEM = frozenset(
    (
        *("__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information"),
        *("desktop.ini", "ehthumbs.db", "icon\r", "lost+found", "thumbs.db"),
    )
)
_DEEP = 4  # depth to which a split's folder is searched for images
_LONGEST = 80  # number of characters of a line that a message shows
_NAMED = 3  # number of files or folders that a message names


class UnclearClasses(InputError):
    """Raised if the classes of a folder of images are unclear."""


def find(
    folder: Path, seed: int = 0, size: tuple[int, int] | None = None, *, nested: int = WRAPPINGS
) -> Source | None:
    """Finds the images of a folder; returns None if it has no subfolders with images.

    The folder contains ``train`` and optionally ``test`` and ``val``, in any case of letters, each
    with a subfolder for each class; or the subfolders of the classes directly. All images at any
    depth in a class's folder belong to the class. For a ``val`` like Tiny ImageNet's, with
    ``images`` and ``val_annotations.txt``, the file determines the classes. Classes are numbered in
    the order of their names. The images are in a random order that depends on the seed, so that a
    range of them is a sample of all classes.

    Args:
        folder: the folder to search.
        seed: seed of the order.
        size: height and width to which ``read_image`` resizes every image; None if all images have
            the same size.
        nested: largest number of folders around those of the classes. With 0, a folder is a class
            only if it, or a folder next to it, directly contains images.

    Raises:
        UnclearClasses: if a class has no images, ``test`` has a class that ``train`` lacks, or it
            is unclear which folders are the classes.
        InputError: if an image cannot be read, or, without ``size``, images differ in size.
    """
    children = _folders(folder)
    tops = _splits(folder, children)
    if not tops and not _are_classes(children, nested):
        wraps = nested and len(children) == 1
        return find(children[0], seed, size, nested=nested - 1) if wraps else None
    left_out: list[str] = []
    if tops:
        others = [child for child in children if child not in tops.values()]
        left_out += [f"the folder {c.name}" for c in others if _has_images(c, 1)]
        left_out += _beside(folder)
        tops = {name: _unwrapped(top) for name, top in tops.items()}
    else:
        _check_order(children)
        tops = {"train": folder}
    found: dict[str, dict[str, list[Path]]] = {}
    for name, top in tops.items():
        if found and (annotated := _annotated(top)):
            found[name] = annotated
            _check_classes(tops, name, found, left_out)
        elif found and _has_no_classes(top, found["train"]):
            left_out.append(f"{top.name}, whose images have no classes")
        else:
            found[name] = _by_class(top, left_out)
            _check_classes(tops, name, found, left_out)
    return _source(folder, tops, found, seed, size, left_out)


def _source(
    folder: Path,
    tops: dict[str, Path],
    found: dict[str, dict[str, list[Path]]],
    seed: int,
    size: tuple[int, int] | None,
    left_out: list[str],
) -> Source:
    classes = tuple(found["train"])
    paths = [path for groups in found.values() for images in groups.values() for path in images]
    shape = common_shape(paths, size)
    parts = {
        name: _part(tops[name], groups, classes, shape, seed, fit=size is not None)
        for name, groups in found.items()
    }
    origin = f"images in {folder}"
    return Source(origin, parts, classes, images=True, left_out=tuple(left_out))


# Which folders hold the classes


def _splits(folder: Path, children: list[Path]) -> dict[str, Path]:
    """Returns the folders of the splits, training first; none if the children are classes."""
    called = {child: split_of(child.name) for child in children}
    named = [child for child in children if called[child] and _has_images(child, _DEEP)]
    parted = [child for child in named if any(_has_images(sub, _DEEP) for sub in _folders(child))]
    others = [child for child in children if not called[child] and _has_images(child, 1)]
    train = next((child for child in parted if called[child] == "train"), None)
    if train is None:
        if named and not others:
            names = ", ".join(child.name for child in named)
            raise UnclearClasses(
                str(folder), "train/CLASS/IMAGE or CLASS/IMAGE", f"images in {names}"
            )
        return {}
    if others and {called[child] for child in named} == {"train"}:
        if _has_images(train, 0):
            return {}
        expected = f"classes, or {train.name} with classes in it; load {train} for the latter"
        raise UnclearClasses(str(folder), expected, f"both: {others[0].name} next to {train.name}")
    tops: dict[str, Path] = {}
    for child, part in called.items():
        if part and tops.setdefault(part, child) != child:
            got = f"{tops[part].name} and {child.name}"
            raise UnclearClasses(str(folder), f"one folder of {part} images", got)
    return {part: tops[part] for part in _PARTS if part in tops}


def split_of(name: str) -> str | None:
    """Returns the split that a name stands for: ``train`` for ``Training_Set``; None for none."""
    word = re.sub(r"[^a-z]", "", name.lower()).removesuffix("set")
    return next((part for part, words in _PARTS.items() if word in words), None)


def _are_classes(children: list[Path], nested: int) -> bool:
    if any(_has_images(child, 0) for child in children):
        return True
    return bool(nested) and len(children) > 1 and all(_has_images(c, 1) for c in children)


def _check_order(classes: list[Path]) -> None:
    """Checks that no class contains splits, whose images would be mixed."""
    for folder in classes:
        inner = {split_of(sub.name) for sub in _folders(folder) if _has_images(sub, 0)}
        if "train" in inner and inner & {"test", "validation"}:
            raise UnclearClasses(str(folder), "train/CLASS/IMAGE", "CLASS/train/IMAGE")


def _unwrapped(top: Path) -> Path:
    """Returns the only subfolder if it has the same name as the folder; otherwise the folder."""
    inner = _folders(top)
    doubled = len(inner) == 1 and inner[0].name.lower() == top.name.lower()
    return inner[0] if doubled and not _has_images(top, 0) else top


def _has_no_classes(top: Path, classes: dict[str, list[Path]]) -> bool:
    """Whether a split has images without folders of classes."""
    inner = [sub for sub in _folders(top) if _has_images(sub, 1)]
    if not inner:
        return _has_images(top, 0)
    return [sub.name.lower() for sub in inner] == ["images"] and inner[0].name not in classes


def _annotated(top: Path) -> dict[str, list[Path]]:
    """Reads the images of each class from Tiny ImageNet's annotation file; empty without one."""
    path = top / f"{top.name}_annotations.txt"
    if not path.is_file():
        return {}
    groups: dict[str, list[Path]] = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        name, _, rest = line.partition("\t")
        image, label = top / "images" / name, rest.partition("\t")[0]
        if not label or Path(name).name != name or not image.is_file():
            expected = f"an image in {top / 'images'}, a tab, and its class"
            raise InputError(f"{path}, line {number}", expected, repr(line[:_LONGEST]))
        groups.setdefault(label, []).append(image)
    return {label: sorted(groups[label]) for label in sorted(groups)}


def _by_class(top: Path, left_out: list[str]) -> dict[str, list[Path]]:
    """Returns the images of each class, in the order of their names."""
    groups, strange = {}, []
    for subfolder in _folders(top):
        files = _beneath(subfolder)
        images = [path for path in files if _is_image(path.name)]
        others = [path for path in files if not _is_image(path.name)]
        if not images:
            got = f"only {_listed(others)}, of unknown format" if others else "none"
            raise UnclearClasses(str(subfolder), f"images of the class {subfolder.name}", got)
        groups[subfolder.name] = images
        strange += others
    if not groups:
        raise UnclearClasses(str(top), "a subfolder of images for each class", "none")
    if strange:
        left_out.append(f"{_listed(strange)}, of unknown format")
    left_out += _beside(top)
    return groups


def _beside(folder: Path) -> list[str]:
    """Describes images that are next to the folders of classes, which are not read."""
    images = [Path(entry.path) for entry in _entries(folder) if _is_image(entry.name)]
    return [f"{_listed(images)}, outside the class folders"] if images else []


def _check_classes(
    tops: dict[str, Path],
    name: str,
    found: dict[str, dict[str, list[Path]]],
    left_out: list[str],
) -> None:
    """Checks the classes of a split against those of the training images."""
    classes = found["train"]
    for strange in found[name]:
        if strange not in classes:
            expected = f"classes of {tops['train']}, which are {', '.join(classes)}"
            raise UnclearClasses(str(tops[name]), expected, strange)
    missing = [each for each in classes if each not in found[name]]
    if missing:
        left_out.append(f"{', '.join(missing)} in {tops[name].name}, which has no such folders")


# The content of a folder


def _folders(folder: Path) -> list[Path]:
    """Returns the subfolders, in the order of their names."""
    return [Path(entry.path) for entry in _entries(folder) if _is_folder(entry)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Returns the entries of a folder in the order of their names, without system files."""
    try:
        with os.scandir(folder) as entries:
            own = [entry for entry in entries if not _is_systems(entry.name)]
    except OSError as error:
        raise InputError(str(folder), "a folder that can be read", f"{error.strerror}") from error
    return sorted(own, key=lambda entry: entry.name)


def _is_systems(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return os.path.isdir(entry.path)  # False, not an error, for a broken link


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in ENDINGS


def _has_images(folder: Path, depth: int) -> bool:
    """Whether a folder contains images, down to ``depth`` levels below it."""
    try:
        entries = _entries(folder)
    except InputError:
        return False
    if any(_is_image(entry.name) and not _is_folder(entry) for entry in entries):
        return True
    inner = [Path(entry.path) for entry in entries if depth and _is_folder(entry)]
    return any(_has_images(each, depth - 1) for each in inner)


def _beneath(folder: Path) -> list[Path]:
    """Returns all files at any depth; a folder that links reach several times counts once."""
    files: list[Path] = []
    waiting, seen = [folder], set()
    while waiting:
        here = waiting.pop()
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        for entry in _entries(here):
            (waiting if _is_folder(entry) else files).append(Path(entry.path))
    return sorted(files)


def _listed(paths: list[Path]) -> str:
    """Formats a few names and the number of the others."""
    shown = ", ".join(f"{path.parent.name}/{path.name}" for path in paths[:_NAMED])
    more = len(paths) - _NAMED
    return f"{shown} and {more:,} more" if more > 0 else shown


# The images


def common_shape(paths: list[Path], size: tuple[int, int] | None) -> tuple[int, int, int]:
    """Reads the headers of all images and returns their common shape.

    Args:
        paths: the files.
        size: height and width to which they will be resized; None if they are alike.

    Returns:
        Height, width, and the number of channels: 1 if all images are grayscale, 3 otherwise.

    Raises:
        InputError: if images differ in size, and none is given.
    """
    first, all_grey = size, True
    for path in paths:
        height, width, grey = read_header(path, turned=size is None)
        all_grey &= grey
        first = first or (height, width)
        if size is None and (height, width) != first:
            expected = f"an image of {first[1]}×{first[0]} pixels, as {paths[0]}"
            got = f"{width}×{height}; size= resizes all of them"
            raise InputError(str(path), expected, got)
    assert first is not None, "there is an image"
    return *first, 1 if all_grey else 3


def _part(
    top: Path,
    groups: dict[str, list[Path]],
    classes: tuple[str, ...],
    shape: tuple[int, int, int],
    seed: int,
    *,
    fit: bool,
) -> Part:
    named = [(path, classes.index(name)) for name, paths in groups.items() for path in paths]
    order = epoch_plan(len(named), len(named), seed=seed, epoch=0).full[0]
    names = np.array([os.fsencode(path.relative_to(top)) for path, _ in named])
    labels = np.array([label for _, label in named], np.int32)
    return lying(ImageFiles(top, names[order], labels[order], shape, fit))


@dataclass(frozen=True, eq=False, repr=False)
class ImageFiles(Examples):
    """Images that are decoded when they are needed.

    Args:
        folder: the folder.
        names: paths of the files relative to the folder, in the system's encoding: bytes [N].
        labels: class numbers, int32 [N].
        shape: height, width and channels of each image.
        fit: see ``read_image``.
    """

    folder: Path
    names: np.ndarray
    labels: np.ndarray
    shape: tuple[int, int, int]
    fit: bool = False

    def __len__(self) -> int:
        """The number of images."""
        return len(self.names)

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See ``Examples``."""
        paths = (self.folder / os.fsdecode(name) for name in self.names[rows])
        pixels = np.stack([read_image(path, self.shape, fit=self.fit) for path in paths])
        return pixels, self.labels[rows]

    def known_labels(self) -> np.ndarray:
        """See ``Examples``."""
        return self.labels
