"""The files of a page."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxnets.arrays import InputError
from jaxnets.pages.blocks import Block, Figure
from jaxnets.pages.figures import png
from jaxnets.pages.markdown import markdown
from jaxnets.pages.page import page


def written(blocks: Sequence[Block], held: str, directory: Path) -> None:
    """Writes ``report.md`` and its images, ``report.html`` and ``report.json``.

    Args:
        blocks: what both pages say.
        held: the text of ``report.json``.
        directory: made if it is missing; an earlier report in it is replaced, other files stay.

    Raises:
        ValueError: if the files cannot be written there; those that were there then remain.
    """
    images = drawn(blocks)
    put(
        {
            **{f"{name}.png": image for name, image in images.items()},
            "report.md": markdown(blocks).encode(),
            "report.html": page(blocks, images).encode(),
            "report.json": held.encode(),
        },
        directory,
    )


def drawn(blocks: Sequence[Block]) -> dict[str, bytes]:
    """The PNG of each figure, by its name."""
    return {block.name: png(block.draw()) for block in blocks if isinstance(block, Figure)}


def put(files: Mapping[str, bytes], directory: Path) -> None:
    """Writes all files beside their places, and only then moves each to its own.

    Raises:
        ValueError: if that fails.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".report-", dir=directory) as beside:
            for name, held in files.items():
                (Path(beside) / name).write_bytes(held)
            for name in files:
                os.replace(Path(beside) / name, directory / name)
    except OSError as error:
        reason = error.strerror or error
        expected = "a folder that can be written"
        raise InputError("directory", expected, f"{str(directory)!r}: {reason}") from error
