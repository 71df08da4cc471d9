"""Matplotlib's figures as functions return them: a notebook shows them, and they are saved."""

import functools
import io
from pathlib import Path
from typing import Any

from jaxnets.arrays import InputError, check_path
from jaxnets.disk import replacing


def writable(path: Any, argument: str = "path") -> Path:
    """The path of a file that can be written.

    Args:
        path: what came.
        argument: the user's argument, for the message.

    Raises:
        InputError: if it is no path, a folder, or in no folder that exists.
    """
    place = check_path(argument, path, "a file")
    if place.is_dir() or not place.parent.is_dir():
        raise InputError(argument, "a file in a folder that exists", str(path))
    return place


def new_figure(width: float, height: float) -> Any:
    """An empty figure of Matplotlib, which belongs to no window; a notebook shows it.

    Args:
        width: in inches.
        height: in inches.
    """
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(width, height), layout="constrained")
    figure._repr_png_ = functools.partial(_png, figure)  # pyplot does this for its own figures
    return figure


def save(figure: Any, path: Path) -> None:
    """Writes a figure in the format of a file's ending, as a PNG if that is unknown."""
    ending = path.suffix[1:].lower()
    known = figure.canvas.get_supported_filetypes()
    with replacing(path) as partial:
        figure.savefig(partial, dpi=150, format=ending if ending in known else "png")


def _png(figure: Any) -> bytes:
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=100)
        return file.getvalue()
