"""The examples that a command is given: image files, texts, rows of tables, test examples."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np

from jaxnets import runs
from jaxnets.arrays import InputError, printable
from jaxnets.commands.saved import data_of
from jaxnets.data import Dataset, StandardizedDataset, TableEncoder, table_files, tables

#: Inputs of a network, each with the name of its example.
Examples = list[tuple[str, np.ndarray]]


def read(
    saved: runs.SavedRun,
    inputs: tuple[str, ...] = (),
    row: tuple[str, ...] = (),
    index: tuple[int, ...] = (),
    invert: bool | None = None,
) -> Examples:
    """The examples that a command is given.

    Args:
        saved: the run that is asked.
        inputs: texts, or the paths of images or tables.
        row: rows of a table, as ``--row`` has them.
        index: numbers of test examples.
        invert: see ``runs.open_image``.

    Raises:
        InputError: if an example is not what the run takes.
    """
    found = _given(saved, inputs, invert) if inputs else []
    if row and saved.table is not None:
        rows = saved.table([_values(text, saved.table.names) for text in row])
        found += _from_rows(saved, rows, list(row))
    if index:
        found += _chosen(data_of(saved, "index"), index, saved.class_names)
    return found


def _given(saved: runs.SavedRun, inputs: tuple[str, ...], invert: bool | None) -> Examples:
    """The texts or images given, each with its name."""
    if saved.encoder is not None:
        return list(zip(inputs, saved.encoder(inputs), strict=True))
    if saved.table is not None:
        return [example for file in inputs for example in _of_table(saved, saved.table, file)]
    spec = saved.inputs or data_of(saved, "image").spec.inputs
    examples = []
    for path in inputs:
        image = runs.open_image(path, spec, background=saved.background, invert=invert)
        for note in _changes(image, told=invert is not None):
            click.echo(printable(f"{path}: {note}", limit=None), err=True)
        examples.append((path, image.pixels))
    return examples


def _changes(image: runs.GivenImage, *, told: bool) -> list[str]:
    """What was done to an image, in words, unless the user told to do it."""
    (height, width), (new_height, new_width) = image.size, image.pixels.shape[:2]
    changes = []
    if (height, width) != (new_height, new_width):
        same = height * new_width == width * new_height
        part = "resized" if same else "its middle is resized"
        changes.append(f"{width}×{height} pixels, {part} to {new_width}×{new_height}")
    if image.inverted and not told:
        why = "dark and light are the other way round than in the training images"
        changes.append(f"{why}, so it is inverted (--no-invert leaves it)")
    return changes


def _of_table(saved: runs.SavedRun, encoder: TableEncoder, file: str) -> Examples:
    """The rows of a file, or of standard input; the one example that is the end of a series."""
    cells = table_files.read(Path(file))
    return _from_rows(saved, *tables.new_rows(cells, encoder, series=_window(saved) is not None))


def _from_rows(saved: runs.SavedRun, rows: np.ndarray, places: list[str]) -> Examples:
    """Examples of rows of inputs, each with its name."""
    if saved.inputs_scaler is not None:
        rows = saved.inputs_scaler(rows)
    steps = _window(saved)
    if steps is None:
        return list(zip(places, rows, strict=True))
    if len(rows) < steps:
        expected = f"at least {steps} rows, from which the run forecasts"
        raise InputError(places[-1], expected, f"{len(rows)}")
    return [(f"after {places[-1]}", rows[-steps:])]


def _window(saved: runs.SavedRun) -> int | None:
    """How many rows the run forecasts from; None if each row is an example."""
    shape: tuple[int, ...] = getattr(saved.inputs, "shape", ())
    return shape[0] if len(shape) == 2 else None


def _values(text: str, names: Sequence[str]) -> Mapping[str, str] | Sequence[str]:
    """The cells of --row by their columns' names; in the columns' order where none is named."""
    expected = f"NAME=VALUE once for each of {table_files.listed(names)}"
    try:
        cells = next(csv.reader([text], skipinitialspace=True))
    except csv.Error as error:
        raise InputError("row", expected, table_files.shown(text)) from error
    longest = sorted(names, key=len, reverse=True)
    found: dict[str, str] = {}
    for cell in cells:
        name = next((name for name in longest if cell.strip().startswith(f"{name}=")), None)
        if name is None and not found and cell is cells[0] and "=" not in cell:
            return cells
        if name is None or name in found:
            raise InputError("row", expected, table_files.shown(cell))
        found[name] = cell.strip()[len(name) + 1 :]
    return found


def _chosen(data: Dataset, index: tuple[int, ...], class_names: tuple[str, ...] | None) -> Examples:
    """Test examples by number, each with its name."""
    for number in index:
        if not 0 <= number < len(data.test):
            raise InputError("index", f"a number from 0 to {len(data.test) - 1}", number)
    inputs, labels = data.test.gather(np.array(index, np.int32))
    if isinstance(data, StandardizedDataset) and data.labels_scaler is not None:
        labels = data.labels_scaler.inverse(labels)
    names = class_names or data.class_names
    return [
        (f"test example {number} (label {named(names, label)})", example)
        for number, label, example in zip(index, labels, inputs, strict=True)
    ]


def named(class_names: tuple[str, ...] | None, label: np.ndarray) -> str:
    """The name of a class; a label without one as it is."""
    names = class_names or ()
    is_class = label.ndim == 0 and label.dtype.kind in "iu" and 0 <= label < len(names)
    return names[int(label)] if is_class else str(label)


def shares(saved: runs.SavedRun, row: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the classes, fit for a terminal, and the probability of each.

    Args:
        saved: a run with classes.
        row: the network's outputs for one example.
    """
    logits = gives_logits(saved)
    if len(row) == 1:  # one output tells two classes apart
        second = 1 / (1 + np.exp(-row[0])) if logits else row[0]
        row = np.array([1 - second, second])
    elif logits:
        exponentials = np.exp(row - row.max())
        row = exponentials / exponentials.sum()
    names = tuple(map(printable, saved.class_names or range(len(row))))
    return names, row[: len(names)]  # an output of a class that does not exist is no class


def gives_logits(saved: runs.SavedRun) -> bool:
    """Whether outputs are logits, as our networks say, and as the loss says of others."""
    output = getattr(saved.model, "output", None)
    if isinstance(output, str):
        return output == "logits"
    return saved.recipe is None or saved.recipe.loss not in _OF_PROBABILITIES


#: Losses whose outputs are probabilities.
_OF_PROBABILITIES = ("binary-cross-entropy", "cross-entropy-of-probabilities")
