"""Prints and draws the objects that a detector finds in images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxnets import runs
from jaxnets.arrays import InputError, printable
from jaxnets.commands.examples import Example
from jaxnets.data import Split, make_grid
from jaxnets.data.detection.folder import fitted
from jaxnets.data.image_files import read_header, read_image
from jaxnets.detection import draw_boxes, nms
from jaxnets.disk import new_folder, replacing
from jaxnets.models.center_net import detections

if TYPE_CHECKING:
    from PIL.Image import Image

#: The smallest score of an object that is shown.
LEAST = 0.3
_SAME = 0.7  # intersection over union above which two boxes count as the same object
_COLUMNS, _GAP = 5, 4  # images in a row of a sheet, pixels between them


class Objects(NamedTuple):
    """The objects in an image.

    Attributes:
        boxes: in pixels of the image in its file, before resizing, floats [n, 4].
        scores: from 0 to 1, best first, floats [n].
        labels: classes, integers [n].
        names: the name of each class, n strings.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]


def found(
    saved: runs.SavedRun, several: Sequence[Example], outputs: np.ndarray, least: float
) -> list[Objects]:
    """Returns the objects with a score of at least ``least`` in each example.

    Of boxes that overlap by more than ``_SAME``, also of different classes, only the one with the
    highest score is returned.
    """
    every = detections(outputs)
    objects = []
    for example, *parts in zip(several, *map(np.asarray, every), strict=True):
        boxes, scores, labels = (part[(parts[1] >= least) & (parts[2] >= 0)] for part in parts)
        alone = nms(boxes, scores, _SAME)
        boxes, scores, labels = boxes[alone], scores[alone], labels[alone]
        if example.file is not None:
            size = read_header(example.file)[:2]
            boxes = fitted(boxes, size, example.inputs.shape[:2], inverse=True)
        names = saved.class_names or tuple(map(str, range(labels.max(initial=0) + 1)))
        objects.append(Objects(boxes, scores, labels, [printable(names[k]) for k in labels]))
    return objects


def in_words(objects: Objects) -> str:
    """Returns the objects as text: class, score and box of each."""
    words = [
        f"{name} {score:.2%} ({', '.join(f'{edge:.0f}' for edge in box)})"
        for name, score, box in zip(objects.names, objects.scores, objects.boxes, strict=True)
    ]
    return "  ".join(words) or "nothing found"


def draw(several: Sequence[Example], every: Sequence[Objects], out: Path) -> list[str]:
    """Draws the objects onto their images.

    Args:
        several: the examples.
        every: the objects in each.
        out: a new file that ends in .png, for one example; or a new folder.

    Returns:
        A line with the path.

    Raises:
        InputError: if the path exists, or is a file although there are several examples.
    """
    sheets = [
        draw_boxes(_pixels(example), objects.boxes, _texts(objects), objects.labels.tolist())
        for example, objects in zip(several, every, strict=True)
    ]
    if out.suffix.lower() == ".png":
        if out.exists() or not out.absolute().parent.is_dir() or len(sheets) > 1:
            expected = "a new .png file for one example, or a new folder for several"
            raise InputError("out", expected, str(out))
        with replacing(out) as partial:
            sheets[0].save(partial, format="PNG")
        return [f"wrote {printable(out, limit=None)}"]
    with new_folder(out) as folder:
        for name, sheet in zip(_file_names(several), sheets, strict=True):
            sheet.save(folder / name)
    return [f"wrote {len(sheets)} images to {printable(out, limit=None)}"]


def _texts(objects: Objects) -> list[str]:
    return [
        f"{name} {score:.2f}" for name, score in zip(objects.names, objects.scores, strict=True)
    ]


def _pixels(example: Example) -> Any:
    """Returns the pixels of the file; without a file, those of the example."""
    if example.file is None:
        return example.inputs
    height, width, _ = read_header(example.file)
    return read_image(example.file, (height, width, 3))


def _file_names(several: Sequence[Example]) -> list[str]:
    """Returns a different file name for each example."""
    names: list[str] = []
    for example in several:
        stem = Path(example.file or example.name.replace(" ", "-")).stem
        same = sum(name == f"{stem}.png" or name.startswith(f"{stem}-again") for name in names)
        names.append(f"{stem}-again-{same}.png" if same else f"{stem}.png")
    return names


def sheet(split: Split, class_names: tuple[str, ...] | None) -> "Image":
    """Draws images with their boxes side by side, five in a row.

    Args:
        split: images with boxes.
        class_names: the name of each class; None for numbers.
    """
    from PIL import Image

    drawn = []
    for image, boxes, labels in zip(
        split.inputs, split.labels["boxes"], split.labels["labels"], strict=True
    ):
        real = labels >= 0
        words = [printable(class_names[k] if class_names else str(k)) for k in labels[real]]
        drawn.append(np.asarray(draw_boxes(image, boxes[real], words, labels[real].tolist())))
    return Image.fromarray(make_grid(np.stack(drawn), _COLUMNS, _GAP))
