"""Folders of images with boxes, in the layouts of YOLO, COCO and Pascal VOC."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxnets.arrays import InputError
from jaxnets.data.batching import epoch_plan
from jaxnets.data.dataset import Split
from jaxnets.data.detection.annotations import (
    Annotated,
    read_coco,
    read_names,
    read_voc,
    read_yolo,
)
from jaxnets.data.detection.dataset import padded
from jaxnets.data.image_files import read_header, read_image
from jaxnets.data.image_folder import ENDINGS, common_shape, split_of
from jaxnets.data.source import Part, Source

_NOT_STREAMED = "images that are not annotated with boxes"


@dataclass(frozen=True)
class _Found:
    """The annotated images of a folder.

    Attributes:
        parts: the images of each split.
        names: the class names; None if the annotations have numbers.
        origin: a description of the folder.
    """

    parts: dict[str, list[Annotated]]
    names: tuple[str, ...] | None
    origin: str


def find(folder: Path, seed: int = 0, size: tuple[int, int] | None = None) -> Source | None:
    """Finds the images with boxes in a folder; returns None if it does not have these layouts.

    - YOLO: ``images`` and ``labels``, either with subfolders such as ``train`` and ``val`` or in
      such folders; class names from ``data.yaml`` or ``classes.txt``.
    - COCO: JSON files such as ``annotations/instances_train2017.json``, or one in each of the
      folders ``train`` and ``valid``.
    - Pascal VOC: ``Annotations`` with an XML file for each image in ``JPEGImages``, and the splits
      in ``ImageSets/Main``; or XML files next to the images in folders such as ``train``.

    Args:
        folder: the folder to search.
        seed: seed of the order of the images.
        size: height and width to which every image is resized, and its boxes with it; see
            ``read_image``. None if all images have the same size.

    Raises:
        InputError: if an annotation or an image is damaged or missing; the message has the file and
            the line or the number of the object.
    """
    found = _yolo(folder) or _coco(folder) or _voc(folder)
    if found is None:
        return None
    every = [image for part in found.parts.values() for image in part]
    names = found.names
    if names is None:
        names = _numbered(every)
    numbers = {name: number for number, name in enumerate(names)}
    shape = common_shape([image.path for image in every], size)
    most = max(1, *(len(image.names) for image in every))
    parts = {
        name: _part(images, numbers, shape, most, seed, fit=size is not None)
        for name, images in found.parts.items()
    }
    return Source(found.origin, parts, names, images=True, boxes=True)


def fitted(
    boxes: np.ndarray, size: tuple[int, int], new: tuple[int, int], *, inverse: bool = False
) -> np.ndarray:
    """Converts boxes to the coordinates of the image that ``read_image(fit=True)`` returns.

    Args:
        boxes: floats [N, 4].
        size: height and width of the image in the file.
        new: height and width of the resized image.
        inverse: whether to convert in the opposite direction.
    """
    height, width = size
    part = min(height, width * new[0] / new[1]), min(width, height * new[1] / new[0])
    top, left = (height - part[0]) / 2, (width - part[1]) / 2
    scale = np.array([new[1] / part[1], new[0] / part[0]] * 2)
    start = np.array([left, top] * 2)
    return boxes / scale + start if inverse else (boxes - start) * scale


def _numbered(images: Sequence[Annotated]) -> tuple[str, ...]:
    """Returns the class names of annotations that have numbers."""
    largest = max((int(name) for image in images for name in image.names), default=0)
    return tuple(map(str, range(largest + 1)))


def _part(
    images: Sequence[Annotated],
    numbers: dict[str, int],
    shape: tuple[int, int, int],
    most: int,
    seed: int,
    *,
    fit: bool,
) -> Part:
    """Makes a split of images in a random order."""
    order = epoch_plan(len(images), len(images), seed=seed, epoch=0).full[0].tolist()

    def read(start: int, stop: int) -> Split:
        chosen = [images[k] for k in order[start:stop]]
        pixels = np.stack([read_image(each.path, shape, fit=fit) for each in chosen])
        found = [_objects(each, numbers, shape, fit=fit) for each in chosen]
        return Split(pixels, padded([each[0] for each in found], [each[1] for each in found], most))

    return Part(len(images), read, _NOT_STREAMED)


def _objects(
    image: Annotated, numbers: dict[str, int], shape: tuple[int, int, int], *, fit: bool
) -> tuple[np.ndarray, list[int]]:
    """The boxes [n, 4] of the objects of which something is left, and their labels."""
    boxes, labels = np.reshape(np.array(image.boxes, np.float64), (-1, 4)), []
    for name, left_out in zip(image.names, image.left_out, strict=True):
        number = numbers[name] if isinstance(name, str) else name
        if number >= len(numbers):
            expected = f"classes below {len(numbers)}, the number of class names"
            raise InputError(f"labels of {image.path}", expected, number)
        labels.append(-2 - number if left_out else number)
    if fit:
        boxes = fitted(boxes, read_header(image.path)[:2], shape[:2])
    edges = np.array([shape[1], shape[0]] * 2)
    boxes = np.clip(boxes, 0, edges)
    left = np.flatnonzero(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    return boxes[left], [labels[k] for k in left]


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)


def _split_folders(folder: Path) -> dict[str, Path]:
    """The subfolders that are named after splits, such as ``train`` and ``valid``."""
    found: dict[str, Path] = {}
    for child in sorted(folder.iterdir()) if folder.is_dir() else ():
        part = split_of(child.name) if child.is_dir() else None
        if part is not None:
            found.setdefault(part, child)
    return {part: found[part] for part in ("train", "test", "validation") if part in found}


def _yolo(folder: Path) -> _Found | None:
    """Images in ``images`` and their text files in ``labels``."""
    images, labels = folder / "images", folder / "labels"
    pairs: dict[str, tuple[Path, Path]] = {}
    if images.is_dir() and labels.is_dir():
        splits = {part: path for part, path in _split_folders(images).items() if _images(path)}
        pairs = {part: (path, labels / path.name) for part, path in splits.items()}
        pairs = pairs or {"train": (images, labels)}
    else:
        for part, path in _split_folders(folder).items():
            if (path / "images").is_dir() and (path / "labels").is_dir():
                pairs[part] = path / "images", path / "labels"
    if "train" not in pairs:
        return None
    parts = {
        part: [read_yolo(path, texts / f"{path.stem}.txt") for path in _images(place)]
        for part, (place, texts) in pairs.items()
    }
    _check_filled(parts, {part: place for part, (place, _) in pairs.items()})
    return _Found(parts, read_names(folder), f"images and YOLO's labels in {folder}")


def _coco(folder: Path) -> _Found | None:
    """JSON files, each with the annotations of a split."""
    files: dict[str, Path] = {}
    inside = [path for child in _split_folders(folder).values() for path in child.glob("*.json")]
    for path in [*folder.glob("*.json"), *folder.glob("annotations/*.json"), *sorted(inside)]:
        words = path.stem.lower().split("_")
        if words[0] in ("captions", "person", "image") or not _is_coco(path):
            continue
        known = [split_of(word) for word in (*words, path.parent.name)]
        files.setdefault(next((part for part in known if part), "train"), path)
    if "train" not in files:
        return None
    parts, names = {}, None
    for part, path in files.items():
        subfolders = [child for child in sorted(folder.iterdir()) if child.is_dir()]
        own = [child for child in subfolders if split_of(child.name) == part]
        deeper = [child for child in (folder / "images").glob("*") if split_of(child.name) == part]
        places = [path.parent, *own, *deeper, folder / "images", folder]
        parts[part], found = read_coco(path, [place for place in places if place.is_dir()])
        if names is not None and names != found:
            expected = f"the categories of {files['train']}"
            raise InputError(str(path), expected, ", ".join(found))
        names = found
    _check_filled(parts, files)
    return _Found(parts, names, f"images and COCO's annotations in {folder}")


def _is_coco(path: Path) -> bool:
    """Whether a file has the words of COCO's three lists."""
    content = path.read_bytes()
    return all(word in content for word in (b'"images"', b'"annotations"', b'"categories"'))


def _voc(folder: Path) -> _Found | None:
    """XML files in ``Annotations``, or next to the images of each split."""
    inner = folder / "Annotations"
    if inner.is_dir() and any(inner.glob("*.xml")):
        places = [folder / name for name in ("JPEGImages", "images")]
        every = {p.stem: p for place in (*places, inner, folder) for p in _images(place)}
        stems = _image_sets(folder) or {"train": sorted(p.stem for p in inner.glob("*.xml"))}
        parts = {
            part: [_voc_pair(every, inner / f"{stem}.xml") for stem in some]
            for part, some in stems.items()
        }
    else:
        parts = {}
        for part, place in _split_folders(folder).items():
            every = {path.stem: path for path in _images(place)}
            files = sorted(place.glob("*.xml"))
            if files:
                parts[part] = [_voc_pair(every, file) for file in files]
    if "train" not in parts:
        return None
    names = sorted({str(name) for part in parts.values() for each in part for name in each.names})
    return _Found(parts, tuple(names), f"images and Pascal VOC's annotations in {folder}")


def _image_sets(folder: Path) -> dict[str, list[str]]:
    """The names of the images of each split, from ``ImageSets/Main/train.txt`` and others."""
    found: dict[str, list[str]] = {}
    for part, name in (("train", "train"), ("test", "test"), ("validation", "val")):
        path = folder / "ImageSets" / "Main" / f"{name}.txt"
        if path.is_file():
            found[part] = [
                line.split()[0] for line in path.read_text().splitlines() if line.strip()
            ]
    return found if "train" in found else {}


def _voc_pair(images: dict[str, Path], file: Path) -> Annotated:
    if file.stem not in images:
        raise InputError(str(file), f"an image {file.stem}.jpg for it", "no such file")
    return read_voc(images[file.stem], file)


def _check_filled(parts: dict[str, list[Annotated]], places: dict[str, Path]) -> None:
    for part, images in parts.items():
        if not images:
            raise InputError(str(places[part]), "images", "none")
