"""Reads image files in the format of a run's examples."""

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

from jaxnets.arrays import InputError
from jaxnets.data import image_files
from jaxnets.data.spec import described
from jaxnets.data.survey import border_brightness, is_image


@dataclass(frozen=True)
class GivenImage:
    """An image that was read in the format of a run's examples.

    Attributes:
        pixels: uint8 [height, width, channels].
        size: height and width of the image in the file.
        inverted: whether the brightness was inverted.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    inverted: bool


def open_image(
    path: Path | str | IO[bytes],
    spec: jax.ShapeDtypeStruct,
    *,
    background: float | None = None,
    invert: bool | None = None,
) -> GivenImage:
    """Reads an image file and converts it to the format of a data set's examples.

    An image of another size is resized as by ``load(size=…)``.

    Args:
        path: a file in a format that ``load`` reads.
        spec: shape and dtype of an example.
        background: see ``SavedRun``.
        invert: whether to invert the brightness. By default the image is inverted if its border is
            bright and ``background`` is dark, or the other way round.

    Returns:
        The pixels, with a report of the conversions.

    Raises:
        InputError: if the file is not an image, or if the examples are not images.
    """
    if not is_image(spec):
        raise InputError("image", "a run on images", f"a run on examples {described(spec)}")
    height, width, channels = spec.shape
    pixels = image_files.read_image(path, (height, width, channels), fit=True)
    if invert is None:
        border = border_brightness(pixels[None])[0]
        invert = background is not None and abs(border - background) > 0.5
    if invert:
        pixels = 255 - pixels
    return GivenImage(pixels, image_files.read_header(path)[:2], invert)


def read_image(path: Path | str, spec: jax.ShapeDtypeStruct, **options: Any) -> np.ndarray:
    """Reads an image file like ``open_image``, and returns only the pixels.

    Args:
        path: see ``open_image``.
        spec: see ``open_image``.
        **options: see ``open_image``.

    Returns:
        uint8 [height, width, channels].

    Raises:
        InputError: see ``open_image``.
    """
    return open_image(path, spec, **options).pixels
