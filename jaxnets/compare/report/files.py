"""Writes the files of a report."""

from pathlib import Path

from jaxnets.arrays import InputError, check_path
from jaxnets.compare.records import Comparison
from jaxnets.compare.report.as_json import as_json
from jaxnets.compare.report.content import content
from jaxnets.compare.report.steps import content_of_steps
from jaxnets.compare.step_records import StepComparison
from jaxnets.pages.files import written


def write(comparison: Comparison | StepComparison, directory: Path | str) -> None:
    """Writes ``report.md`` and its images, ``report.html``, and ``report.json``.

    Args:
        comparison: the comparison.
        directory: the folder, which is made if it is missing. An earlier report in it is replaced;
            other files are not changed.

    Raises:
        ValueError: if the files cannot be written; an earlier report is then not changed.
    """
    place = check_path("directory", directory, "a folder")
    if isinstance(comparison, StepComparison):
        blocks = content_of_steps(comparison)
    elif isinstance(comparison, Comparison) and comparison.pairs:
        blocks = content(comparison)
    else:
        raise InputError("comparison", "a Comparison with at least one pair", comparison)
    written(blocks, as_json(comparison), place)
