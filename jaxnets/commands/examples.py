"""Reads the examples on a command line: image files, texts, rows of tables, test examples."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from jaxnets import runs
from jaxnets.arrays import InputError, printable
from jaxnets.commands.saved import data_of
from jaxnets.data import Dataset, StandardizedDataset, TableEncoder, table_files, tables
from jaxnets.data.audio import folder as audio_folder
from jaxnets.data.image_files import FORMATS
from jaxnets.data.spec import single
from jaxnets.data.text.corpora import read_lines

_IMAGES = tuple(ending for endings in FORMATS.values() for ending in endings)
_TEXTS = (".txt", ".text")


@dataclass(frozen=True)
class Example:
    """One example.

    Attributes:
        name: the name of the example in the output.
        inputs: the input of the network before its transform, without a batch axis.
        label: the name of its class, or its value as text; None if the label is unknown.
        file: the image file; None if the example is not one.
    """

    name: str
    inputs: np.ndarray
    label: str | None = None
    file: Path | None = None


#: Pairs of an example's name and its inputs.
Examples = list[tuple[str, np.ndarray]]


def read(saved: runs.SavedRun, **options: Any) -> Examples:
    """Reads the examples of a command, each with its name and label as one text.

    Args:
        saved: the run.
        **options: see ``given``.

    Raises:
        InputError: if an example is not a valid input of the run.
    """
    return [(titled(each.name, each.label), each.inputs) for each in given(saved, **options)]


def titled(name: str, label: str | None) -> str:
    """Returns the name of an example, followed by its label if that is known."""
    return name if label is None else f"{name} (label {label})"


def given(
    saved: runs.SavedRun,
    inputs: Sequence[str] = (),
    row: Sequence[str] = (),
    index: Sequence[int] = (),
    invert: bool | None = None,
    *,
    whole: bool = False,
) -> list[Example]:
    """Reads the examples that the arguments of ``jaxnets predict`` specify.

    Args:
        saved: the run.
        inputs: image files, WAV files, texts or files of tables.
        row: rows of a table, as ``_values`` reads them.
        index: numbers of test examples.
        invert: see ``runs.open_image``.
        whole: whether to read all images in a folder, each line of a text file, and labels.

    Raises:
        InputError: if an example is not a valid input of the run.
    """
    examples = list(_given(saved, inputs, invert, whole=whole)) if inputs else []
    if row and saved.table is not None:
        rows = saved.table([_values(text, saved.table.names) for text in row])
        examples += _from_rows(saved, rows, list(row))
    if index:
        examples += _chosen(data_of(saved, "index"), index, saved.class_names)
    return examples


def _given(
    saved: runs.SavedRun, inputs: Sequence[str], invert: bool | None, *, whole: bool
) -> Iterator[Example]:
    """Reads texts, tables, WAV files or images, depending on the inputs of the run."""
    if saved.encoder is not None:
        texts = [text for each in inputs for text in _texts(each, whole=whole)]
        yield from map(Example, texts, saved.encoder(texts))
        return
    if saved.table is not None:
        for file in inputs:
            yield from _of_table(saved, saved.table, file, whole=whole)
        return
    if saved.audio is not None:
        for path, label in _files(saved, inputs, audio_folder.ENDINGS, "WAV files", whole=whole):
            yield Example(path, saved.audio.read(path), label)
        return
    spec = saved.inputs or data_of(saved, "image").spec.inputs
    for path, label in _files(saved, inputs, _IMAGES, "images", whole=whole):
        image = runs.open_image(path, spec, background=saved.background, invert=invert)
        for note in _changes(image, chosen=invert is not None):
            click.echo(printable(f"{path}: {note}", limit=None), err=True)
        yield Example(path, image.pixels, label, Path(path))


def _texts(given: str, *, whole: bool) -> list[str]:
    """Returns the text, or with ``whole`` the lines of a text file."""
    is_file = whole and given.lower().endswith(_TEXTS)
    return read_lines(given) if is_file else [given]


def _files(
    saved: runs.SavedRun, given: Sequence[str], endings: Sequence[str], kind: str, *, whole: bool
) -> list[tuple[str, str | None]]:
    """Returns pairs of a file and its label.

    With ``whole``, a folder stands for all its files with one of the endings; a subfolder with the
    name of a class is their label.
    """
    found: list[tuple[str, str | None]] = []
    names = saved.class_names or ()
    for each in given:
        folder = Path(each)
        if not whole or not each or not folder.is_dir():
            found.append((each, None))
            continue
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in endings)
        if not paths:
            raise InputError(each, f"a folder with {kind}", "none")
        found += [(str(p), p.parent.name if p.parent.name in names else None) for p in paths]
    return found


def _changes(image: runs.GivenImage, *, chosen: bool) -> list[str]:
    """Describes the changes of an image that the user did not request."""
    (height, width), (new_height, new_width) = image.size, image.pixels.shape[:2]
    changes = []
    if (height, width) != (new_height, new_width):
        same = height * new_width == width * new_height
        part = "resized" if same else "its middle is resized"
        changes.append(f"{width}×{height} pixels, {part} to {new_width}×{new_height}")
    if image.inverted and not chosen:
        why = "its border is unlike those of the training images"
        changes.append(f"{why}, so dark and light are exchanged (--no-invert disables this)")
    return changes


def _of_table(
    saved: runs.SavedRun, encoder: TableEncoder, file: str, *, whole: bool
) -> list[Example]:
    """Reads the rows of a file or of standard input; of a series, its last window."""
    cells, series = table_files.read(Path(file)), _window(saved) is not None
    rows, places = tables.new_rows(cells, encoder, series=series)
    examples = _from_rows(saved, rows, places)
    if not whole or series:
        return examples
    label = None if saved.recipe is None else saved.recipe.data_options.get("label")
    labels = tables.known_labels(cells, encoder, label)
    if labels is None:
        return examples
    return [replace(each, label=of) for each, of in zip(examples, labels, strict=True)]


def _from_rows(saved: runs.SavedRun, rows: np.ndarray, places: list[str]) -> list[Example]:
    """Makes an example of each row, or of a series one example of its last rows."""
    if saved.inputs_scaler is not None:
        rows = saved.inputs_scaler(rows)
    window = _window(saved)
    if window is None:
        return list(map(Example, places, rows))
    if len(rows) < window:
        expected = f"at least {window} rows, from which the run forecasts"
        raise InputError(places[-1], expected, f"{len(rows)}")
    return [Example(f"after {places[-1]}", rows[-window:])]


def _window(saved: runs.SavedRun) -> int | None:
    """Returns the number of rows that the run forecasts from; None if each row is an example."""
    shape: tuple[int, ...] = getattr(saved.inputs, "shape", ())
    return shape[0] if len(shape) == 2 else None


def _values(text: str, names: Sequence[str]) -> Mapping[str, str] | Sequence[str]:
    """Returns the cells of --row by column name, or in column order if no name is given."""
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


def _chosen(
    data: Dataset, index: Sequence[int], class_names: tuple[str, ...] | None
) -> list[Example]:
    """Returns the test examples with these numbers."""
    single("inputs", data.spec.inputs)
    for number in index:
        if not 0 <= number < len(data.test):
            raise InputError("index", f"a number from 0 to {len(data.test) - 1}", number)
    inputs, labels = data.test.gather(np.array(index, np.int32))
    if isinstance(data, StandardizedDataset) and data.labels_scaler is not None:
        labels = data.labels_scaler.inverse(labels)
    names = class_names or data.class_names
    words: list[str | None] = [None] * len(index)
    if hasattr(labels, "dtype"):
        words = [named(names, label) for label in labels]
    return [
        Example(f"test example {number}", example, label)
        for number, label, example in zip(index, words, inputs, strict=True)
    ]


def named(class_names: tuple[str, ...] | None, label: np.ndarray) -> str:
    """Returns the name of a class, or the label as text if it has no name."""
    names = class_names or ()
    is_class = label.ndim == 0 and label.dtype.kind in "iu" and 0 <= label < len(names)
    return names[int(label)] if is_class else str(label)


def of_test(data: Dataset, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the inputs and labels of evenly spaced test examples.

    They are spread over the whole test split, as files may be sorted by class.

    Args:
        data: the data set.
        count: the largest number of examples.

    Raises:
        InputError: if inputs or labels consist of several arrays.
    """
    rows = np.linspace(0, len(data.test) - 1, min(count, len(data.test)))
    inputs, labels = data.test.gather(np.round(rows).astype(np.int32))
    return single("inputs", inputs), single("labels", labels)


def shares(saved: runs.SavedRun, row: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the names of the classes, printable in a terminal, and their probabilities.

    Args:
        saved: a run with classes.
        row: the network's outputs for one example.

    Returns:
        The names, and the probabilities, [classes].
    """
    names, found = classes(saved, row[None])
    return tuple(map(printable, names)), found[0]


def classes(saved: runs.SavedRun, outputs: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the names of the classes, and their probabilities, [examples, classes].

    Args:
        saved: a run with classes.
        outputs: the outputs of the network, [examples, …].
    """
    rows = outputs.reshape(len(outputs), -1)
    found = saved.probabilities(rows.astype(np.float64))
    names = saved.class_names or tuple(map(str, range(found.shape[1])))
    return names, found[:, : len(names)]  # a network may have more outputs than there are classes
