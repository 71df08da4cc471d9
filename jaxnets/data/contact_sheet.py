"""Contact sheets: images of every class in one picture."""

from typing import TYPE_CHECKING

import numpy as np

from jaxnets.arrays import InputError, check_positive, describe, printable
from jaxnets.data.dataset import Split
from jaxnets.data.spec import single

if TYPE_CHECKING:
    from PIL.Image import Image

_GAP, _LINE, _SMALLEST = 4, 16, 48
_PAPER, _INK = (255, 255, 255), (20, 20, 20)


def contact_sheet(
    split: Split, class_names: tuple[str, ...] | None = None, columns: int = 10
) -> "Image":
    """Draws one row for each class, with its name and its first images.

    Args:
        split: images, uint8 [N, H, W, 1 or 3], and class numbers.
        class_names: the names to write; by default the class numbers.
        columns: number of images of each class.

    Returns:
        A Pillow image.

    Raises:
        InputError: if the examples are not images with classes.
    """
    from PIL import Image, ImageDraw

    check_positive("columns", columns)
    images = single("split.inputs", split.inputs)
    labels = single("split.labels", split.labels)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise InputError("split", "images, uint8 [N, H, W, 1 or 3]", describe(images))
    if labels.ndim != 1 or labels.dtype.kind == "f":
        raise InputError("split", "a class number for each image", describe(labels))
    classes = np.unique(labels)
    names = [printable(class_names[label] if class_names else str(label)) for label in classes]
    height, width = images.shape[1:3]
    scale = max(1, -(-_SMALLEST // max(height, width)))  # small images are enlarged
    height, width = scale * height, scale * width
    margin = 2 * _GAP + int(
        max(ImageDraw.Draw(Image.new("1", (1, 1))).textlength(n) for n in names)
    )
    row = max(height, _LINE) + _GAP
    size = (margin + columns * (width + _GAP), _GAP + len(classes) * row)
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, (label, name) in enumerate(zip(classes, names, strict=True)):
        top = _GAP + number * row
        pen.text((_GAP, top + (row - _LINE) // 2), name, fill=_INK)
        for column, index in enumerate(np.flatnonzero(labels == label)[:columns]):
            pixels = np.broadcast_to(images[index], (*images.shape[1:3], 3))
            picture = Image.fromarray(np.ascontiguousarray(pixels))
            picture = picture.resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(picture, (margin + column * (width + _GAP), top))
    return sheet
