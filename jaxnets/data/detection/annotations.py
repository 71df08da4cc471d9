"""Reads the boxes of images in the formats of YOLO, COCO and Pascal VOC."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jaxnets.arrays import InputError, shown
from jaxnets.data.image_files import read_header
from jaxnets.json_files import WRONG, read_object, reason

_LINE = "a class number and four numbers from 0 to 1: the box's center x, center y, width, height"


@dataclass(frozen=True)
class Annotated:
    """An image and the boxes of its objects.

    Attributes:
        path: the image file.
        boxes: left, upper, right and lower edge of each object in pixels.
        names: the class of each object: a name, or in YOLO's files a number.
        left_out: whether each object is neither trained on nor counted, such as a crowd.
    """

    path: Path
    boxes: tuple[tuple[float, float, float, float], ...]
    names: tuple[str | int, ...]
    left_out: tuple[bool, ...]


def read_yolo(image: Path, labels: Path) -> Annotated:
    """Reads a text file with a line ``class x y width height`` for each object.

    The numbers are shares of the image's width and height; x and y are those of the center. An
    image without such a file has no objects.

    Args:
        image: the image file.
        labels: the text file, which need not exist.

    Raises:
        InputError: if a line is not of that form; the message has its number.
    """
    lines = []
    if labels.is_file():
        try:
            lines = labels.read_text(encoding="utf-8").splitlines()
        except WRONG as error:
            raise InputError(str(labels), "a text file", reason(error)) from error
    boxes, names = [], []
    height, width, _ = read_header(image) if any(map(str.strip, lines)) else (0, 0, False)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        place, words = f"{labels}, line {number}", line.split()
        if not re.fullmatch(r"\d+", words[0]) or len(words) != 5:
            raise InputError(place, _LINE, shown(line))
        x, y, w, h = _numbers(place, _LINE, words[1:])
        if not all(0 <= value <= 1 for value in (x, y, w, h)):
            raise InputError(place, _LINE, shown(line))
        edges = (x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height
        boxes.append(edges)
        names.append(int(words[0]))
    return Annotated(image, tuple(boxes), tuple(names), (False,) * len(names))


def read_names(folder: Path) -> tuple[str, ...] | None:
    """Reads YOLO's class names from ``data.yaml`` or ``classes.txt``; None if there are none.

    Args:
        folder: the folder of the data set.

    Raises:
        InputError: if ``data.yaml`` has no list of names.
    """
    for name in ("classes.txt", "labels/classes.txt"):
        if (folder / name).is_file():
            lines = (folder / name).read_text(encoding="utf-8").splitlines()
            return tuple(line.strip() for line in lines if line.strip())
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        text = path.read_text(encoding="utf-8")
        found = re.search(r"^names:[ \t]*(\[.*?\])?[ \t]*(?:#.*)?$(.*)", text, re.M | re.S)
        if found is None:
            continue
        if found[1]:
            words = found[1][1:-1].split(",")
        else:  # a line "- name" or "0: name" for each
            rows = re.match(r"(?:\n[ \t]*(?:-|\d+:)[^\n]*|\n[ \t]*(?=\n))*", found[2])
            words = re.findall(r"^[ \t]*(?:-|\d+:)(.*)$", rows[0] if rows else "", re.M)
        names = tuple(word.split("#")[0].strip().strip("'\"") for word in words)
        if not names or not all(names):
            raise InputError(str(path), "names: [first, second, …]", "none")
        return names
    return None


def read_voc(image: Path, file: Path) -> Annotated:
    """Reads an XML file of Pascal VOC.

    Its pixels are counted from 1, and the last one belongs to the box. Objects that are marked as
    difficult are left out.

    Args:
        image: the image file.
        file: the XML file.

    Raises:
        InputError: if the file is damaged, or an object has no name or box.
    """
    try:
        objects = ElementTree.parse(file).getroot().findall("object")
    except ElementTree.ParseError as error:
        line = f"{file}, line {error.position[0]}"
        raise InputError(line, "an XML file of Pascal VOC", reason(error)) from error
    except WRONG as error:
        raise InputError(str(file), "an XML file of Pascal VOC", reason(error)) from error
    boxes, names, difficult = [], [], []
    for number, each in enumerate(objects, start=1):
        place, expected = f"{file}, object {number}", "bndbox with xmin, ymin, xmax and ymax"
        words = [each.findtext(f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")]
        x1, y1, x2, y2 = _numbers(place, expected, words)
        _check_order(place, x1 - 1, y1 - 1, x2, y2)
        boxes.append((x1 - 1, y1 - 1, x2, y2))
        names.append(_name(place, each.findtext("name")))
        difficult.append((each.findtext("difficult") or "0").strip() == "1")
    return Annotated(image, tuple(boxes), tuple(names), tuple(difficult))


def read_coco(file: Path, folders: Sequence[Path]) -> tuple[list[Annotated], tuple[str, ...]]:
    """Reads a JSON file of COCO.

    Args:
        file: the JSON file, with images, annotations and categories.
        folders: where the image files may be.

    Returns:
        The images in the order of the file, and the names of the categories in the order of their
        ids. Crowds are left out.

    Raises:
        InputError: if the file is damaged, or an image is missing.
    """
    try:
        record = read_object(file)
    except json.JSONDecodeError as error:
        line = f"{file}, line {error.lineno}"
        raise InputError(line, "a JSON file of COCO", error.msg) from error
    except WRONG as error:
        raise InputError(str(file), "a JSON file of COCO", reason(error)) from error
    lists = [_listed(file, record, name) for name in ("images", "annotations", "categories")]
    categories = {
        _field(file, f"categories[{k}]", each, "id"): _name(
            f"{file}, categories[{k}]", each.get("name")
        )
        for k, each in enumerate(lists[2])
    }
    paths: dict[Any, Path] = {}
    for k, each in enumerate(lists[0]):
        name = str(_field(file, f"images[{k}]", each, "file_name"))
        places = [folder / part for folder in folders for part in (name, Path(name).name)]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            expected = f"an image in {', '.join(map(str, folders))}"
            raise InputError(f"{file}, images[{k}]", expected, f"{shown(name)} and no such file")
        paths[_field(file, f"images[{k}]", each, "id")] = found
    objects: dict[Any, list[tuple[Any, str, bool]]] = {key: [] for key in paths}
    for k, each in enumerate(lists[1]):
        place = f"{file}, annotations[{k}]"
        image, kind, box = (
            _field(file, f"annotations[{k}]", each, name)
            for name in ("image_id", "category_id", "bbox")
        )
        for known, key, of in ((paths, image, "images"), (categories, kind, "categories")):
            if not isinstance(key, int | str) or key not in known:
                raise InputError(place, f"an id of the {of}", shown(key))
        expected = "bbox: [x, y, width, height]"
        if not isinstance(box, list) or len(box) != 4:
            raise InputError(place, expected, shown(box))
        x, y, w, h = _numbers(place, expected, box)
        _check_order(place, x, y, x + w, y + h)
        crowd = bool(each.get("iscrowd", 0))
        objects[image].append(((x, y, x + w, y + h), categories[kind], crowd))
    every = [
        Annotated(path, *(tuple(part) for part in zip(*objects[key], strict=True)))
        if objects[key]
        else Annotated(path, (), (), ())
        for key, path in paths.items()
    ]
    return every, tuple(categories[key] for key in sorted(categories, key=_by_number))


def _by_number(key: Any) -> tuple[bool, Any]:
    return isinstance(key, str), key


def _listed(file: Path, record: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = record.get(name)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise InputError(str(file), f"a list {name} of objects", "none")
    return found


def _field(file: Path, place: str, record: Mapping[str, Any], name: str) -> Any:
    if name not in record:
        raise InputError(f"{file}, {place}", name, f"only {', '.join(sorted(map(str, record)))}")
    return record[name]


def _name(place: str, name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        raise InputError(place, "the name of a class", "none" if name is None else shown(name))
    return name.strip()


def _numbers(place: str, expected: str, words: Sequence[Any]) -> list[float]:
    """Converts four values to finite numbers."""
    try:
        numbers = [float(word) for word in words]
    except (TypeError, ValueError) as error:
        raise InputError(place, expected, shown(list(words))) from error
    if not all(map(math.isfinite, numbers)):
        raise InputError(place, expected, shown(list(words)))
    return numbers


def _check_order(place: str, x1: float, y1: float, x2: float, y2: float) -> None:
    if x2 < x1 or y2 < y1:
        got = f"{x1:g} to {x2:g} and {y1:g} to {y2:g}"
        raise InputError(place, "a box from its smaller to its larger coordinates", got)
