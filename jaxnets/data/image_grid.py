"""Many images in one picture, as torchvision's ``make_grid`` and ``save_image``."""

from pathlib import Path

import numpy as np

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    as_host_array,
    check_integer,
    check_path,
    check_positive,
    describe,
)
from jaxnets.disk import replacing


def make_grid(images: ArrayLike, nrow: int = 8, padding: int = 2) -> np.ndarray:
    """Arranges images in rows, with black lines around them.

    Args:
        images: floats from 0 to 1, which are clipped, or uint8; [N, H, W, 1 or 3].
        nrow: number of images in a row.
        padding: width of the lines in pixels.

    Returns:
        uint8 [rows · (H + padding) + padding, columns · (W + padding) + padding, 1 or 3].

    Raises:
        InputError: if the images have another shape or dtype, or a number is out of range.

    Examples:
        >>> make_grid(np.ones((5, 28, 28, 1)), nrow=3).shape
        (62, 92, 1)
    """
    array = as_host_array("images", images)
    known = array.dtype == np.uint8 or array.dtype.kind == "f"
    if array.ndim != 4 or not array.size or array.shape[-1] not in (1, 3) or not known:
        expected = "floats from 0 to 1 or uint8, [N, H, W, 1 or 3]"
        raise InputError("images", expected, describe(array))
    check_positive("nrow", nrow)
    check_integer("padding", padding, least=0)
    if array.dtype != np.uint8:
        array = (np.clip(np.nan_to_num(array), 0, 1) * 255 + 0.5).astype(np.uint8)
    count, height, width, channels = array.shape
    columns = min(nrow, count)
    rows, high, wide = -(-count // columns), height + padding, width + padding
    grid = np.zeros((rows * high + padding, columns * wide + padding, channels), np.uint8)
    for number, image in enumerate(array):
        top, left = padding + number // columns * high, padding + number % columns * wide
        grid[top : top + height, left : left + width] = image
    return grid


def save_image(images: ArrayLike, path: Path | str, nrow: int = 8, padding: int = 2) -> None:
    """Writes images as one PNG file; see ``make_grid``.

    Args:
        images: see ``make_grid``.
        path: the file to write.
        nrow: see ``make_grid``.
        padding: see ``make_grid``.

    Raises:
        InputError: see ``make_grid``; or if the file cannot be written there.
    """
    from PIL import Image

    grid = make_grid(images, nrow, padding)
    place = check_path("path", path, "a PNG file")
    if place.is_dir() or not place.absolute().parent.is_dir():
        raise InputError("path", "a file in a folder that exists", str(path))
    with replacing(place) as partial:
        Image.fromarray(grid[..., 0] if grid.shape[-1] == 1 else grid).save(partial, format="PNG")
