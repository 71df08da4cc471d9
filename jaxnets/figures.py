"""Creates and saves the Matplotlib figures that plotting functions return."""

import functools
import io
from pathlib import Path
from typing import Any

from jaxnets.arrays import InputError, check_path
from jaxnets.disk import replacing


def writable(path: Any, argument: str = "path") -> Path:
    """Checks that a file can be written at a path, and returns the path.

    Args:
        path: the path to check.
        argument: the name of the argument, for error messages.

    Raises:
        InputError: if ``path`` is not a path, is a folder, or its parent folder does not exist.
    """
    place = check_path(argument, path, "a file")
    if place.is_dir() or not place.parent.is_dir():
        raise InputError(argument, "a file in a folder that exists", str(path))
    return place


def new_figure(width: float, height: float) -> Any:
    """Returns an empty Matplotlib figure without a window, which a notebook displays.

    Args:
        width: the width in inches.
        height: the height in inches.
    """
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(width, height), layout="constrained")
    figure._repr_png_ = functools.partial(_png, figure)  # pyplot does this for its own figures
    return figure


def save(figure: Any, path: Path) -> None:
    """Writes a figure in the format of the file's extension, or as PNG if it is unknown."""
    ending = path.suffix[1:].lower()
    known = figure.canvas.get_supported_filetypes()
    with replacing(path) as partial:
        figure.savefig(partial, dpi=150, format=ending if ending in known else "png")


def _png(figure: Any) -> bytes:
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=100)
        return file.getvalue()
