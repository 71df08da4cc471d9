"""Image files, read as a viewer shows them: upright, opaque, 8 bits a value."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.arrays import InputError

_GREY = ("1", "L", "LA", "La")
_ORIENTATION = 0x0112  # EXIF's entry; from 5 up height and width change places


def read_image(path: Path | str, shape: tuple[int, int, int]) -> np.ndarray:
    """Reads an image as uint8 [H, W, C]: grey for one channel, otherwise RGB.

    It is turned as its EXIF entry says, what is transparent becomes white, 16 bits a value are
    brought to 8.

    Args:
        path: any file that Pillow reads.
        shape: height, width and channels, 1 or 3.

    Raises:
        InputError: if it cannot be read, has another size, or values of 32 bits, whose range is
            not known.
    """
    from PIL import Image

    height, width, channels = shape
    try:
        with Image.open(path) as image:
            pixels = np.asarray(_eight_bits(image).convert("L" if channels == 1 else "RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error
    if pixels.shape[:2] != (height, width):
        got = f"{pixels.shape[1]}×{pixels.shape[0]}"
        raise InputError(str(path) or "image", f"an image of {width}×{height} pixels", got)
    return pixels.reshape(shape)


def read_header(path: Path | str) -> tuple[int, int, bool]:
    """Height and width as the image is seen, and whether it is grey, without reading its pixels.

    Raises:
        InputError: if it cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.getexif().get(_ORIENTATION, 1) >= 5:
                height, width = width, height
            return height, width, image.mode in _GREY or image.mode.startswith("I;16")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _eight_bits(image: Any) -> Any:
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("values of 32 bits, whose range is not known")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA"))
    return image


def _unreadable(path: Path | str, error: Exception) -> InputError:
    return InputError(str(path) or "image", "a readable image", f"{type(error).__name__}: {error}")
