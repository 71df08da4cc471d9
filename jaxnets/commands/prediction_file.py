"""Predictions for many examples, and their CSV file."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets import reports, runs
from jaxnets.arrays import InputError
from jaxnets.commands.examples import Example, classes, named
from jaxnets.disk import replacing
from jaxnets.reports.outputs import outputs_of, predicted
from jaxnets.reports.report import part


@dataclass(frozen=True)
class Predictions:
    """A network's outputs for some examples.

    Attributes:
        column: the header of the column of names.
        names: the name or number of each example.
        labels: the label of each example as text, one for each value; empty if it is unknown.
        outputs: the outputs of the network, [examples, …].
    """

    column: str
    names: Sequence[Any]
    labels: Sequence[tuple[str, ...]]
    outputs: np.ndarray


def check_place(path: Path) -> None:
    """Checks that a file can be written at ``path``."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise InputError("csv", "a file in a folder that exists", str(path))


def of_split(saved: runs.SavedRun, split: str) -> Predictions:
    """Predicts a split of the data set that a run was trained on.

    Args:
        saved: the run.
        split: see ``reports.report``.

    Raises:
        InputError: if the data set is not found, or does not fit the run.
    """
    data = reports.data_of(saved)
    outputs, labels = outputs_of(saved.model, part(data, split), saved.transform)
    words: list[tuple[str, ...]]
    if saved.classifies:
        words = [(named(data.class_names, label),) for label in labels]
    else:
        words = [tuple(f"{value:.7g}" for value in row) for row in values(saved, labels)]
    return Predictions("index", range(len(labels)), words, outputs)


def of_examples(several: Sequence[Example], outputs: np.ndarray) -> Predictions:
    """Returns the predictions for given examples.

    Args:
        several: the examples.
        outputs: the network's outputs for them, [examples, …].
    """
    labels = [() if each.label is None else (each.label,) for each in several]
    return Predictions("name", [each.name for each in several], labels, outputs)


def write(path: Path, saved: runs.SavedRun, found: Predictions) -> None:
    """Writes a row for each example.

    Args:
        path: the file, which is written completely or not at all. An existing file is replaced.
        saved: the run.
        found: the predictions.
    """
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(_rows(saved, found))


def _rows(saved: runs.SavedRun, found: Predictions) -> Iterator[list[Any]]:
    known = max(map(len, found.labels))
    if saved.classifies:
        names, shares = classes(saved, found.outputs)
        taken = predicted(shares, found.outputs.reshape(len(shares), -1))
        head = ["predicted", "probability", *(f"p_{name}" for name in names)]
        answers = [
            [names[k], f"{row[k]:.6g}", *(f"{share:.6g}" for share in row)]
            for k, row in zip(taken, shares, strict=True)
        ]
    else:
        rows = values(saved, found.outputs)
        count = rows.shape[1]
        head = _numbered("predicted", count)
        answers = [[f"{value:.7g}" for value in row] for row in rows]
    yield [found.column, *_numbered("label", known), *head]
    for name, label, answer in zip(found.names, found.labels, answers, strict=True):
        yield [name, *(label or [""] * known), *answer]


def _numbered(name: str, count: int) -> list[str]:
    return [name] * count if count < 2 else [f"{name}_{k}" for k in range(1, count + 1)]


def values(saved: runs.SavedRun, outputs: np.ndarray) -> np.ndarray:
    """Returns predicted values in the units of the data, [examples, values]."""
    rows = outputs.reshape(len(outputs), -1)
    return rows if saved.labels_scaler is None else saved.labels_scaler.inverse(rows)
