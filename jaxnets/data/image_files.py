"""Image files, read as a viewer shows them: upright, opaque, with 8 bits per channel."""

import contextlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxnets.arrays import InputError
from jaxnets.data.transforms.checks import height_and_width
from jaxnets.json_files import reason

#: Suffixes of image files by Pillow's name of the format. Pillow is restricted to these formats,
#: because some of its other readers start external programs.
FORMATS: dict[str, tuple[str, ...]] = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
}
#: The largest image that is decoded, in pixels.
MOST_PIXELS = 2**26
_GREY = ("1", "L", "LA", "La")
_ORIENTATION = 0x0112  # the EXIF tag of the orientation
_TURNED = (5, 6, 7, 8)  # orientations that exchange height and width


def read_image(
    path: Path | str | IO[bytes], shape: tuple[int, int, int], *, fit: bool = False
) -> np.ndarray:
    """Reads an image as uint8 [H, W, C]: grayscale for one channel, otherwise RGB.

    The image is rotated by its EXIF orientation. Transparent pixels become white, and 16-bit values
    are reduced to 8 bits.

    Args:
        path: a file in one of ``FORMATS``.
        shape: height, width and channels, 1 or 3.
        fit: whether to resize an image of another size. As in ``PIL.ImageOps.fit``, the largest
            central part with the same aspect ratio is resized, by bilinear interpolation with
            antialiasing.

    Raises:
        InputError: if the image cannot be read, has another size, more than ``MOST_PIXELS`` pixels,
            or 32-bit values, whose range is unknown.
    """
    from PIL import Image, ImageOps

    height, width, channels = shape
    with _opened(path) as image:
        if not fit:
            _check_has(path, image, (height, width))
        upright = _eight_bits(image).convert("L" if channels == 1 else "RGB")
        if fit:
            upright = ImageOps.fit(upright, (width, height), Image.Resampling.BILINEAR)
        return np.asarray(upright).reshape(shape)


def read_header(path: Path | str | IO[bytes], *, turned: bool = True) -> tuple[int, int, bool]:
    """Returns height and width of an image, and whether it is grayscale.

    Args:
        path: see ``read_image``.
        turned: whether to return the size after the EXIF rotation. A PNG file must be decoded for
            it, because its EXIF data may follow the pixels.

    Raises:
        InputError: if the image cannot be read, or has more than ``MOST_PIXELS`` pixels.
    """
    with _opened(path) as image:
        grey = image.mode in _GREY or image.mode.startswith("I;16")
        height, width = _seen_size(image) if turned else image.size[::-1]
        return height, width, grey


def check_size(argument: str, value: Any) -> tuple[int, int]:
    """Checks an image size: a height and a width, or one integer for both.

    Raises:
        InputError: if it is neither one positive integer nor two, or the image would be too large.
    """
    height, width = height_and_width(argument, value)
    if height * width > MOST_PIXELS:
        raise InputError(argument, f"at most {MOST_PIXELS:,} pixels", f"{height}×{width}")
    return height, width


def check_content(content: bytes) -> None:
    """Checks that bytes are an image of a supported format and size.

    Raises:
        InputError: if they are in none of ``FORMATS``, or the image has more than ``MOST_PIXELS``
            pixels.
    """
    with _opened(io.BytesIO(content)):
        pass


def _fault(error: Exception) -> str:
    """Returns why a file cannot be read as an image, as one line."""
    from PIL import UnidentifiedImageError

    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return f"a file of another format than {', '.join(FORMATS)}"
    return reason(error)


@contextlib.contextmanager
def _opened(source: Path | str | IO[bytes]) -> Iterator[Any]:
    """Opens an image with Pillow, without reading its pixels."""
    from PIL import Image

    name = str(source) if isinstance(source, Path | str) and str(source) else "image"
    try:
        # a pipe would be waited for
        if isinstance(source, Path | str) and not stat.S_ISREG(os.stat(source).st_mode):
            raise OSError("a special file, such as a pipe")
        with Image.open(source, formats=tuple(FORMATS)) as image:
            if image.width * image.height > MOST_PIXELS:
                expected = f"an image of at most {MOST_PIXELS:,} pixels"
                raise InputError(name, expected, f"{image.width}×{image.height}")
            yield image
    except InputError:
        raise
    except Exception as error:  # a damaged image can fail in any way
        raise InputError(name, "a readable image", _fault(error)) from error


def _check_has(path: Path | str | IO[bytes], image: Any, size: tuple[int, int]) -> None:
    found = image.size[::-1]
    if sorted(found) == sorted(size):
        found = _seen_size(image)  # only if necessary, as it may decode the image
    if found != size:
        expected = f"an image of {size[1]}×{size[0]} pixels"
        raise InputError(str(path) or "image", expected, f"{found[1]}×{found[0]}")


def _seen_size(image: Any) -> tuple[int, int]:
    """Returns height and width after the EXIF rotation."""
    turned = image.width != image.height and image.getexif().get(_ORIENTATION) in _TURNED
    return image.size if turned else image.size[::-1]


def _eight_bits(image: Any) -> Any:
    from PIL import Image, ImageOps

    if image.mode in ("I", "F"):
        raise ValueError("32-bit values, whose range is unknown")
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):
        return Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(
            white, image if image.mode == "RGBA" else image.convert("RGBA")
        )
    return image
