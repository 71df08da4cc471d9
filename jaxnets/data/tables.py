"""Tables: CSV files with an example, or a step of a series, in each row."""

import contextlib
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from jaxnets.arrays import InputError
from jaxnets.data.dataset import Split
from jaxnets.data.source import Part, Source, held

_LABEL_NAMES = ("label", "class", "target", "y")
_PARTS = {"train": ("train",), "test": ("test",), "validation": ("val", "valid", "validation")}
_ENDINGS = (".csv", ".tsv")
_TIMES = ("date", "datetime", "month", "time", "timestamp", "year")
_STREAMABLE = "arrays, in .npy files or by np.savez, instead of a table"
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Table:
    """The cells of a file.

    Args:
        path: the file.
        columns: the name of each column; its number from 1 where there is no header.
        rows: the cells of each row, as text.
        lines: the line in the file on which each row ends.
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]


@dataclass(frozen=True)
class Reading:
    """How a user's files are to be understood: a table, or a folder of images.

    Args:
        label: the label's column: a header's name, or a number from 0, negative from the end. By
            default it is the one called label, class, target or y, or else the last.
        regression: whether labels are values to predict even if all are whole numbers.
        window: None where each row is an example. In a series, where each row is a step, the
            number of steps that a forecast is made from.
        size: of a folder of images instead, the height and width to which each is brought.
    """

    label: str | int | None = None
    regression: bool = False
    window: int | None = None
    size: tuple[int, int] | None = None


def find(path: Path, reading: Reading | None = None) -> Source | None:
    """The table or tables at a path; None if there are none.

    The path is a ``.csv`` or ``.tsv`` file, or a folder with ``train.csv`` and perhaps
    ``test.csv`` and ``val.csv``. Columns are separated by commas, semicolons or tabs. The first
    row is a header if no cell in it is a number.

    All columns but the label's are numbers. The labels are classes if they are text or whole
    numbers (numbered in the order of the alphabet or of their size), and values to predict if one
    of them has a decimal point.

    In a series every column is an input, the label's too, and all are numbers; a first column
    called date, datetime, month, time, timestamp or year is left aside.

    Args:
        path: where to look.
        reading: how to understand it; None takes a table that begins with dates for a series, and
            any other for examples.

    Raises:
        InputError: if a cell is missing or is no number; it names the file, the row, the column.
    """
    files = _files(path)
    if not files:
        return None
    if reading is None:
        reading = Reading(window=1 if _dated(read(files["train"], fewest=1)) else None)
    series = reading.window is not None
    tables = {name: read(file, fewest=1 if series else 2) for name, file in files.items()}
    first = tables["train"]
    for table in tables.values():
        if table.columns != first.columns:
            expected = f"the columns of {first.path.name}: {', '.join(first.columns)}"
            raise InputError(str(table.path), expected, ", ".join(table.columns))
    column = _label_column(first, reading.label)
    origin = f"the {'series' if series else 'table'} {path}"
    if series:
        parts = _steps(tables, column)
        return Source(origin, parts, window=reading.window, asks_label=True)
    classes = None if reading.regression else _classes(tables, column)
    return Source(origin, _examples(tables, column, classes), classes, asks_label=True)


def _steps(tables: dict[str, Table], label: int) -> dict[str, Part]:
    columns = next(iter(tables.values())).columns
    timed = len(columns) > 1 and columns[0].lower() in _TIMES and label != 0
    features = list(range(int(timed), len(columns)))
    return {
        name: held(Split(_numbers(table, features), _numbers(table, [label])[:, 0]), _STREAMABLE)
        for name, table in tables.items()
    }


def _dated(table: Table) -> bool:
    timed = len(table.columns) > 1 and table.columns[0].lower() in _TIMES
    return timed and not all(_is_number(row[0]) for row in table.rows)


def _examples(
    tables: dict[str, Table], label: int, classes: tuple[str, ...] | None
) -> dict[str, Part]:
    parts = {}
    for name, table in tables.items():
        inputs = _numbers(table, [k for k in range(len(table.columns)) if k != label])
        if classes is None:
            labels = _numbers(table, [label])
        else:
            numbers = {text: number for number, text in enumerate(classes)}
            labels = np.array([numbers[row[label]] for row in table.rows], np.int32)
        parts[name] = held(Split(inputs, labels), _STREAMABLE)
    return parts


def read(path: Path, fewest: int = 2) -> Table:
    """Reads the cells of a file.

    Args:
        path: the file.
        fewest: columns that it must have.

    Raises:
        InputError: if it is no table: not UTF-8, empty, or with rows of different lengths.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            start = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t", key=start.count), strict=True)
            numbered = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(str(path), "a table as UTF-8 text", str(error)) from error
    if not numbered:
        raise InputError(str(path), "a table", "an empty file")
    header = numbered[0][1]
    if any(_is_number(cell) for cell in header):
        header = [str(number) for number in range(1, len(header) + 1)]
    else:
        numbered = numbered[1:]
    if not numbered or len(header) < fewest:
        found = f"{len(numbered)} rows of {len(header)} columns"
        wanted = "rows of at least two columns, one for the label" if fewest > 1 else "rows"
        raise InputError(str(path), wanted, found)
    for line, row in numbered:
        if len(row) != len(header):
            raise InputError(f"{path}, row {line}", f"{len(header)} columns", f"{len(row)}")
    lines, rows = zip(*numbered, strict=True)
    return Table(path, tuple(header), list(rows), list(lines))


def _files(path: Path) -> dict[str, Path]:
    if path.is_file() and path.suffix.lower() in _ENDINGS:
        return {"train": path}
    found = {
        name: file
        for name, words in _PARTS.items()
        for word in words
        for ending in _ENDINGS
        if (file := path / f"{word}{ending}").is_file()
    }
    return found if "train" in found else {}


def _label_column(table: Table, label: str | int | None) -> int:
    columns = table.columns
    if isinstance(label, int) and not isinstance(label, bool):
        if not -len(columns) <= label < len(columns):
            raise InputError("label", f"a column from 0 to {len(columns) - 1}", label)
        return label % len(columns)
    if label is not None:
        if label not in columns:
            raise InputError("label", f"a column of {', '.join(columns)}", label)
        return columns.index(label)
    named = [k for k, column in enumerate(columns) if column.lower() in _LABEL_NAMES]
    return named[0] if named else len(columns) - 1


def _classes(tables: dict[str, Table], column: int) -> tuple[str, ...] | None:
    """The classes in the order of their numbers; None if the labels are values to predict."""
    texts = {text for table in tables.values() for text in _labels(table, column)}
    if not all(_is_number(text) for text in texts):
        return tuple(sorted(texts))
    if not all(text.lstrip("+-").isdigit() for text in texts):
        return None
    return tuple(sorted(texts, key=int))


def _labels(table: Table, column: int) -> list[str]:
    for line, row in zip(table.lines, table.rows, strict=True):
        if row[column] in ("", "?", "NA"):
            _complain(table, line, column, "a label", row[column])
    return [row[column] for row in table.rows]


def _numbers(table: Table, columns: list[int]) -> np.ndarray:
    """The cells of these columns, float32 [rows, columns]."""
    cells = [[row[column] for column in columns] for row in table.rows]
    with contextlib.suppress(ValueError), np.errstate(over="ignore"):
        numbers = np.array(cells, np.float64).astype(np.float32)
        if np.isfinite(numbers).all():
            return numbers
    for line, row in zip(table.lines, table.rows, strict=True):
        for column in columns:
            if not _is_number(row[column]):
                _complain(table, line, column, "a number", row[column])
    raise InputError(str(table.path), "numbers", "a cell that NumPy takes for none")


def _complain(table: Table, line: int, column: int, expected: str, cell: str) -> NoReturn:
    place = f"{table.path}, row {line}, column {table.columns[column]!r}"
    raise InputError(place, expected, repr(cell) if cell else "an empty cell")


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) <= _LARGEST  # neither NaN nor infinite
    except ValueError:
        return False
