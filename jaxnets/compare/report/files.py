"""A report as files."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxnets.arrays import InputError, check_path
from jaxnets.compare.records import Comparison
from jaxnets.compare.report.as_json import as_json
from jaxnets.compare.report.blocks import Block, Figure
from jaxnets.compare.report.content import content
from jaxnets.compare.report.markdown import markdown
from jaxnets.compare.report.page import page
from jaxnets.compare.report.plots import png
from jaxnets.compare.report.steps import content_of_steps
from jaxnets.compare.step_records import StepComparison


def write(comparison: Comparison | StepComparison, directory: Path | str) -> None:
    """Writes ``report.md`` and its images, ``report.html``, and ``report.json``.

    Args:
        comparison: what is reported.
        directory: made if it is missing; an earlier report in it is replaced, other files stay.

    Raises:
        ValueError: if the files cannot be written there; those that were there then remain.
    """
    place = check_path("directory", directory, "a folder")
    if isinstance(comparison, StepComparison):
        blocks = content_of_steps(comparison)
    elif isinstance(comparison, Comparison) and comparison.pairs:
        blocks = content(comparison)
    else:
        raise InputError("comparison", "a Comparison with a pair at least", comparison)
    images = drawn(blocks)
    put(
        {
            **{f"{name}.png": image for name, image in images.items()},
            "report.md": markdown(blocks).encode(),
            "report.html": page(blocks, images).encode(),
            "report.json": as_json(comparison).encode(),
        },
        place,
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
