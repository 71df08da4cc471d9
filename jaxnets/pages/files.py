"""Writes the files of a page."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxnets.arrays import InputError
from jaxnets.pages.blocks import Block, Figure
from jaxnets.pages.figures import png
from jaxnets.pages.markdown import markdown
from jaxnets.pages.page import page


def written(blocks: Sequence[Block], record: str, directory: Path) -> None:
    """Writes ``report.md`` and its images, ``report.html`` and ``report.json``.

    Args:
        blocks: the content of both pages.
        record: the text of ``report.json``.
        directory: the folder, which is made if it is missing. An earlier report in it is replaced;
            other files are not changed.

    Raises:
        ValueError: if the files cannot be written; an earlier report is then not changed.
    """
    images = drawn(blocks)
    put(
        {
            **{f"{name}.png": image for name, image in images.items()},
            "report.md": markdown(blocks).encode(),
            "report.html": page(blocks, images).encode(),
            "report.json": record.encode(),
        },
        directory,
    )


def drawn(blocks: Sequence[Block]) -> dict[str, bytes]:
    """Returns the PNG of each figure, by the figure's name."""
    return {block.name: png(block.draw()) for block in blocks if isinstance(block, Figure)}


def put(files: Mapping[str, bytes], directory: Path) -> None:
    """Writes files into a folder.

    All files are written to a temporary folder first and then moved, so that an error does not
    leave a mixture of old and new files.

    Args:
        files: the content of each file, by name.
        directory: the folder, which is made if it is missing.

    Raises:
        ValueError: if the files cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".report-", dir=directory) as beside:
            for name, content in files.items():
                (Path(beside) / name).write_bytes(content)
            for name in files:
                os.replace(Path(beside) / name, directory / name)
    except OSError as error:
        reason = error.strerror or error
        expected = "a folder that can be written to"
        raise InputError("directory", expected, f"{str(directory)!r}: {reason}") from error
