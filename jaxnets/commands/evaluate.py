"""The command ``evaluate``: measures a trained network on a data set."""

import shlex
from pathlib import Path
from typing import Any

import click

from jaxnets import reports
from jaxnets.arrays import InputError, printable
from jaxnets.commands.flags import PathArgument, data_dir, data_option, image_size
from jaxnets.commands.saved import opened
from jaxnets.json_files import read_object
from jaxnets.reports.report import WHICH
from jaxnets.training.records import RECORD


@click.command("evaluate")
@click.argument("run", type=PathArgument())
@click.option("--data", help="Another data set: a path, or a name from jaxnets data list.")
@click.option(
    "--split",
    type=click.Choice(WHICH),
    default="test",
    show_default=True,
    help="The examples to evaluate on.",
)
@data_dir
@image_size
@data_option
@click.option(
    "--bins",
    type=click.IntRange(1, 1000),
    default=15,
    show_default=True,
    help="Number of confidence bins of the calibration.",
)
@click.option(
    "--out",
    type=PathArgument(),
    help="A folder for report.html (self-contained), report.md and report.json.",
)
@click.option("--json", "as_json", is_flag=True, help="Print only the content of report.json.")
def evaluate_command(
    run: Path,
    data: str | None,
    split: Any,
    data_option: tuple[tuple[str, Any], ...],
    bins: int,
    out: Path | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Evaluate the network in the run directory RUN on every example of a split.

    For classes, the report has accuracy, precision, recall and F1 of each class, the confusion
    matrix, calibration and the most confident mistakes; for values, the errors in the data's units
    and the residuals; for language models, loss, perplexity and accuracy. --out writes a page with
    tables and figures.

    --data accepts the same values as train --data. Texts, rows and classes are encoded as in
    training.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise InputError("out", "a folder", str(out))
    given = {name: value for name, value in where.items() if value is not None}
    saved = opened(run)
    examples = None
    if data is not None or given or data_option:
        examples = reports.data_of(saved, data, {**dict(data_option), **_texts(given)})
    command = _command(run, split, data=data, **given)
    record = read_object(run / RECORD)
    made = reports.of_run(saved, examples, split, bins=bins, record=record, command=command)
    click.echo(made.as_json() if as_json else str(made))
    if out is not None:
        made.write(out)
        click.echo(f"wrote {printable(out / 'report.html', limit=None)}", err=as_json)


def _command(run: Path, split: str, **given: Any) -> str:
    """Returns the command line that makes the report again."""
    words = ["jaxnets", "evaluate", str(run), "--split", split]
    for name, value in given.items():
        if value is not None:
            size = "x".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [f"--{name.replace('_', '-')}", size]
    return shlex.join(words)


def _texts(given: dict[str, Any]) -> dict[str, Any]:
    """Converts paths to text, as ``load`` requires."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
