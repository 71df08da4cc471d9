"""Tables: CSV files with an example, or a step of a series, in each row."""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jaxnets.arrays import InputError
from jaxnets.data import dates, table_files
from jaxnets.data.audio.folder import RecordingOptions
from jaxnets.data.dataset import Split
from jaxnets.data.source import Part, Source, held
from jaxnets.data.table_encoding import TableColumn, TableEncoder, complain
from jaxnets.data.table_files import (
    Cells,
    are_booleans,
    as_numbers,
    is_missing,
    is_number,
    listed,
    plain,
    shown,
)
from jaxnets.data.table_header import has_header, heading, is_unnamed

_LABEL_NAMES = ("label", "class", "target", "y")  # in this order of preference
_PARTS = {"train": ("train",), "test": ("test",), "validation": ("val", "valid", "validation")}
#: The endings by which a table is recognized.
ENDINGS = (".csv", ".tsv")
_TIMES = ("date", "datetime", "month", "time", "timestamp", "year")
_COUNTERS = ("id", "index", "row", "rowid", "row_id", "rownames", "level_0", "#")
_STREAMABLE = "arrays, in .npy files or by np.savez, instead of a table"
_LIKE_A_NUMBER = re.compile(
    r"[-+(]?\s*[$€£¥]?\s*[-+]?\.?\d[\d.,'_\s]*[%$€£¥]?\)?|[-+]?inf(inity)?", re.I
)
_FEW = 20  # number of categories that a column may always have, even with few rows


@dataclass(frozen=True)
class Table:
    """The cells of a table.

    Args:
        path: the file.
        columns: the name of each column, or its number from 1 if there is no header.
        rows: the cells of each row, as text.
        lines: the line number of the file at which each row ends.
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def column(self, number: int) -> list[str]:
        """Returns the cells of a column."""
        return [row[number] for row in self.rows]

    def place(self, row: int) -> str:
        """Returns the name of a row in error messages."""
        return f"{self.path}, row {self.lines[row]}"

    def reordered(self, order: Sequence[int]) -> "Table":
        """Returns the table with its rows in another order."""
        rows, lines = [self.rows[k] for k in order], [self.lines[k] for k in order]
        return replace(self, rows=rows, lines=lines)


@dataclass(frozen=True)
class Reading:
    """Options for reading a user's files: a table, or a folder of images.

    Args:
        label: the label column: a name in the header, or a number from 0, negative from the end. By
            default the column named label, class, target or y, or else the last.
        regression: whether labels are values to predict even if all are integers.
        window: for a series, in which each row is a step, the number of steps in a window; None if
            each row is an example.
        size: for a folder of images, the height and width to which each image is resized.
        header: whether the first row is a header; None detects it.
        categories: columns of numbers that are categories, named like ``label``.
        drop: columns to leave out.
        encoder: the encoder of the rows; None builds one from the training table.
        recording: options for a folder of recordings; None for the defaults.
    """

    label: str | int | None = None
    regression: bool = False
    window: int | None = None
    size: tuple[int, int] | None = None
    header: bool | None = None
    categories: tuple[str | int, ...] = ()
    drop: tuple[str | int, ...] = ()
    encoder: TableEncoder | None = None
    recording: RecordingOptions | None = None


@dataclass(frozen=True)
class _Roles:
    """The roles of a table's columns, by their numbers."""

    label: int
    features: list[int]
    time: int | None
    counters: list[int]


def find(path: Path, reading: Reading | None = None) -> Source | None:
    """Reads the table or tables at a path; returns None if there are none.

    The path is a ``.csv`` or ``.tsv`` file, or a folder with ``train.csv`` and optionally
    ``test.csv`` and ``val.csv``. ``docs/data.md`` describes how a file is read.

    A column of numbers is one input. A column of texts is one input for each text that it has in
    the training table. The labels are classes if they are texts or integers (numbered in
    alphabetical or numerical order), and otherwise values to predict.

    In a series every column is an input, also the label, which must have numbers. A column of dates
    determines the order of the rows.

    Args:
        path: a file or folder.
        reading: the options; None reads a table that begins with dates as a series, and any other
            as examples.

    Raises:
        InputError: if a cell is missing or invalid; the message names the file, the row and the
            column.
    """
    files = _files(path)
    if not files:
        return None
    if reading is None:
        tables = _read(files, None)
        reading = Reading(window=1 if _is_dated(tables["train"]) else None)
    else:
        tables = _read(files, reading.header)
    roles = _roles(tables["train"], reading)
    make = _table_source if reading.window is None else _series_source
    return make(path, tables, roles, reading)


def _table_source(path: Path, tables: dict[str, Table], roles: _Roles, reading: Reading) -> Source:
    origin = f"the table {path}{_left_out(tables['train'], roles)}"
    classes = None if reading.regression else _classes(tables.values(), roles.label)
    encoder = reading.encoder or _learn(tables["train"], roles.features, reading)
    parts = _examples(tables, roles, encoder, classes)
    return Source(origin, parts, classes, asks_label=True, encoder=encoder)


def _series_source(path: Path, tables: dict[str, Table], roles: _Roles, reading: Reading) -> Source:
    origin = f"the series {path}{_left_out(tables['train'], roles)}"
    if roles.time is not None:
        ordered = _in_order(tables, roles.time)
        if any(ordered[name].lines != table.lines for name, table in tables.items()):
            origin += f", sorted by {shown(tables['train'].columns[roles.time])}"
        tables = ordered
    encoder = reading.encoder or _learn(tables["train"], roles.features, reading)
    parts = _steps(tables, roles, encoder)
    return Source(origin, parts, window=reading.window, asks_label=True, encoder=encoder)


def _left_out(table: Table, roles: _Roles) -> str:
    """Describes the row-number columns that are left out, for the origin."""
    names = " and ".join(shown(table.columns[k]) for k in roles.counters)
    return names and f", without its column {names}"


def known_labels(
    cells: Cells, encoder: TableEncoder, label: str | int | None = None
) -> list[str] | None:
    """Finds the labels in a table of new rows, as text; returns None if there are none.

    They are in the column with the given name, in one with a usual name of labels, or in the only
    column that is not an input.

    Args:
        cells: the cells of the table.
        encoder: the encoder of the training table.
        label: the label column of the training table, if the user named it.
    """
    header = set(encoder.names) <= set(cells.rows[0].cells) and len(cells.rows) > 1
    if not header:
        return None
    table = _table(cells, header=True)
    others = [k for k, name in enumerate(table.columns) if name not in encoder.names]
    names = [str(label)] if isinstance(label, str) else _LABEL_NAMES
    found = [k for name in names for k in others if table.columns[k].lower() == name.lower()]
    if not found and len(others) == 1 and not _counts(table, others[0]):
        found = others
    return table.column(found[0]) if found else None


def new_rows(cells: Cells, encoder: TableEncoder, *, series: bool) -> tuple[np.ndarray, list[str]]:
    """Encodes the rows of another table as inputs.

    If the table has a header, columns are found by name, and other columns are ignored. Otherwise
    it must have the encoder's columns in their order, or all columns of the training table.

    Args:
        cells: the cells of the table.
        encoder: the encoder of the training table.
        series: whether rows are steps, which are sorted by date if there is a date column.

    Returns:
        The inputs, float32 [rows, inputs], and the name of each row in error messages.

    Raises:
        InputError: if a column is missing, or a cell is invalid for its column.
    """
    header = set(encoder.names) <= set(cells.rows[0].cells)
    if len(cells.rows) == 1 and all(map(is_number, encoder.names)):
        header = False  # a single row of numbers, which happen to be the column names
    table = _table(cells, header=header)
    if set(encoder.names) <= set(table.columns):
        columns = [table.columns.index(name) for name in encoder.names]
    elif len(table.columns) == len(encoder.names):
        columns = list(range(len(encoder.names)))
    else:
        expected = f"the columns {listed(encoder.names)}"
        raise InputError(str(table.path), expected, listed(cells.rows[0].cells))
    time = _time(table, [k for k in range(len(table.columns)) if k not in columns])
    if series and time is not None:
        table = _in_order({"train": table}, time)["train"]
    inputs = _encoded(table, encoder, columns)
    return inputs, [table.place(row) for row in range(len(table.rows))]


def _read(files: Mapping[str, Path], header: bool | None) -> dict[str, Table]:
    """Reads the tables of a data set and checks that they have the same columns."""
    cells = {name: table_files.read(file) for name, file in files.items()}
    header = has_header(cells, header)
    tables = {name: _table(each, header=header) for name, each in cells.items()}
    first = tables["train"]
    for name, table in tables.items():
        if header and table.columns != first.columns:
            expected = f"the columns of {first.path.name}: {listed(first.columns)}"
            raise InputError(str(table.path), expected, listed(table.columns))
        if len(table.columns) != len(first.columns):
            expected = f"{len(first.columns)} columns, as {first.path.name}"
            raise InputError(str(table.path), expected, len(table.columns))
        tables[name] = replace(table, columns=first.columns)
    return tables


def _table(cells: Cells, *, header: bool) -> Table:
    rows = cells.rows[1:] if header else cells.rows
    width = len(cells.rows[0].cells)
    names = cells.rows[0].cells if header else heading(cells)
    columns = tuple(names or (str(number) for number in range(1, width + 1)))
    if not rows:
        expected = "rows of at least two columns, one for the label" if width > 1 else "rows"
        raise InputError(str(cells.path), expected, f"0 rows of {width} columns")
    twice = [name for name in columns if columns.count(name) > 1 and not is_unnamed(name)]
    if twice:
        raise InputError(str(cells.path), "columns of different names", f"{shown(twice[0])} twice")
    for row in rows:
        if header and row.cells == names:
            raise InputError(f"{cells.path}, row {row.line}", "an example", "the header again")
        if len(row.cells) != width:
            raise InputError(
                f"{cells.path}, row {row.line}", f"{width} columns", f"{len(row.cells)}"
            )
    return Table(cells.path, columns, [row.cells for row in rows], [row.line for row in rows])


def _files(path: Path) -> dict[str, Path]:
    if path.is_file() and path.suffix.lower() in ENDINGS:
        return {"train": path}
    found = {
        name: file
        for name, words in _PARTS.items()
        for word in words
        for ending in ENDINGS
        if (file := path / f"{word}{ending}").is_file()
    }
    return found if "train" in found else {}


# What the columns are


def _roles(table: Table, reading: Reading) -> _Roles:
    label = None if reading.label is None else _number(table, "label", reading.label)
    dropped = {_number(table, "drop", name) for name in reading.drop}
    if label in dropped:
        raise InputError("drop", "columns other than the label", table.columns[label])
    left = [k for k in range(len(table.columns)) if k not in dropped]
    time = None if reading.window is None else _time(table, [k for k in left if k != label])
    left = [k for k in left if k != time]
    fewest = 2 if reading.window is None else 1
    counters = [k for k in left if k != label and _counts(table, k)] if len(left) > fewest else []
    left = [k for k in left if k not in counters]
    if reading.encoder is not None:
        features = _places(table, reading.encoder)
        left = features if reading.window is not None else [k for k in left if k not in features]
        label = _default_label(table, left or features) if label is None else label
        return _Roles(label, features, time, counters)
    if not left and label is None:
        raise InputError("drop", "not all columns", listed(table.columns))
    if label is None:
        label = _default_label(table, left)
    features = left if reading.window is not None else [k for k in left if k != label]
    if not features:
        found = f"{len(table.rows)} rows of {len(table.columns)} columns"
        expected = "rows of at least two columns, one for the label"
        raise InputError(str(table.path), expected, found)
    return _Roles(label, features, time, counters)


def _places(table: Table, encoder: TableEncoder) -> list[int]:
    """Returns the numbers of an encoder's columns, found by name."""
    if not set(encoder.names) <= set(table.columns):
        expected = f"the columns {listed(encoder.names)}"
        raise InputError(str(table.path), expected, listed(table.columns))
    return [table.columns.index(name) for name in encoder.names]


def _number(table: Table, argument: str, name: str | int) -> int:
    """Returns the number of a column that the user named."""
    columns = table.columns
    if isinstance(name, int) and not isinstance(name, bool):
        if str(name) in columns and name >= len(columns):  # a name that is a number
            return columns.index(str(name))
        if not -len(columns) <= name < len(columns):
            raise InputError(argument, f"a column from 0 to {len(columns) - 1}", name)
        return name % len(columns)
    if name not in columns:
        raise InputError(argument, f"a column of {listed(columns)}", name)
    return columns.index(name)


def _default_label(table: Table, columns: list[int]) -> int:
    names = {table.columns[k].lower(): k for k in columns}
    found = next((names[name] for name in _LABEL_NAMES if name in names), columns[-1])
    last = columns[-1]
    if found != last and names.get("y") == found and as_numbers(table.column(last)) is None:
        either = f"{shown(table.columns[found])} or {shown(table.columns[last])}"
        raise InputError("label", f"{either}, as either may be the label", "none")
    return found


def _time(table: Table, columns: list[int]) -> int | None:
    """Finds the date column of a series; returns None if no column has dates."""
    if len(table.columns) < 2:
        return None
    if 0 in columns and table.columns[0].lower() in _TIMES:
        return 0
    texts = [k for k in columns if as_numbers(table.column(k)) is None]
    named = [k for k in texts if table.columns[k].lower() in _TIMES]
    return next(iter(named), None) or next((k for k in texts if _has_dates(table, k)), None)


def _has_dates(table: Table, column: int) -> bool:
    return dates.are_dates(table.column(column))


def _counts(table: Table, column: int) -> bool:
    """Whether a column only numbers or names the rows.

    Raises:
        InputError: if a column without a name has repeated or missing values.
    """
    name, cells = table.columns[column], table.column(column)
    if not is_unnamed(name) and name.lower() not in _COUNTERS:
        return False
    different = len(set(cells)) == len(cells)
    if is_unnamed(name):
        if not different or any(map(is_missing, cells)):
            expected = "a name for each column, or header=False"
            raise InputError(f"{table.path}, column {column + 1}", expected, repr(name))
        return True
    return different and all(cell.lstrip("+-").isdigit() for cell in cells)


def _is_dated(table: Table) -> bool:
    timed = len(table.columns) > 1 and table.columns[0].lower() in _TIMES
    return timed and as_numbers(table.column(0)) is None


# What the cells are


def _learn(table: Table, features: list[int], reading: Reading) -> TableEncoder:
    """Builds the encoder from all rows of the training table."""
    requested = {_number(table, "categories", name) for name in reading.categories}
    for column in requested - set(features):
        expected = "columns that are inputs"
        raise InputError("categories", expected, table.columns[column])
    return TableEncoder(
        tuple(
            TableColumn(table.columns[k], _categories(table, k, requested=k in requested))
            for k in features
        )
    )


def _categories(table: Table, column: int, *, requested: bool) -> tuple[str, ...] | None:
    """Returns the categories of a column in order; None if the column has numbers."""
    cells, name = table.column(column), table.columns[column]
    if not requested and any(map(is_number, cells)):
        return None
    for row, cell in enumerate(cells):
        if is_missing(cell):
            complain(
                table.place(row), name, "a category" if requested else "a number or text", cell
            )
    if as_numbers(cells) is not None:
        return tuple(sorted(set(map(plain, cells)), key=float))
    if not requested:
        _check_texts(table, column)
    return tuple(sorted(set(map(plain, cells) if are_booleans(cells) else cells)))


def _check_texts(table: Table, column: int) -> None:
    """Checks that texts are plausible categories, and not numbers, dates or free text."""
    cells, name = table.column(column), table.columns[column]
    if all(_LIKE_A_NUMBER.fullmatch(cell) for cell in cells):
        complain(table.place(0), name, "a number", cells[0])
    remedy = f"drop=({shown(name)},) to leave it out, or categories=({shown(name)},)"
    if dates.are_dates(cells):
        complain(table.place(0), name, f"a number or a category; {remedy}", cells[0])
    different = len(set(cells))
    if different > max(_FEW, len(cells) / 2):
        where = f"{table.path}, column {shown(name)}"
        got = f"{different} different texts in {len(cells)} rows"
        raise InputError(where, f"numbers or a few categories; {remedy}", got)


def _classes(tables: Iterable[Table], column: int) -> tuple[str, ...] | None:
    """Returns the classes in order; None if the labels are values to predict."""
    tables = list(tables)
    for table in tables:
        for row, text in enumerate(table.column(column)):
            if is_missing(text):
                complain(table.place(row), table.columns[column], "a label", text)
    labels = [text for table in tables for text in table.column(column)]
    numbers = as_numbers(labels)
    if numbers is None:
        return _named_classes(tables, column, set(labels))
    if not all(number.is_integer() for number in numbers.tolist()):
        return None
    found = set(map(plain, labels))
    pointed = not any(text.lstrip("+-").isdigit() for text in labels)
    if pointed and len(found) > len(labels) / 2:
        return None
    return tuple(sorted(found, key=int))


def _named_classes(tables: list[Table], column: int, texts: set[str]) -> tuple[str, ...]:
    """Returns the classes if not all labels are numbers.

    Raises:
        InputError: if the labels seem to be values, and one is not a number.
    """
    values = [text for text in texts if is_number(text) and not float(text).is_integer()]
    strange = [text for text in texts if not is_number(text)]
    if values or all(_LIKE_A_NUMBER.fullmatch(text) for text in strange):
        for table in tables:
            for row, text in enumerate(table.column(column)):
                if not is_number(text):
                    complain(table.place(row), table.columns[column], "a number", text)
    return tuple(sorted(set(map(plain, texts)) if are_booleans(texts) else texts))


# The parts of the set


def _examples(
    tables: Mapping[str, Table],
    roles: _Roles,
    encoder: TableEncoder,
    classes: tuple[str, ...] | None,
) -> dict[str, Part]:
    parts = {}
    for name, table in tables.items():
        inputs = _encoded(table, encoder, roles.features)
        if classes is None:
            labels = _values(table, roles.label)
        else:
            labels = _class_numbers(table.column(roles.label), classes)
        parts[name] = held(Split(inputs, labels), _STREAMABLE)
    return parts


def _class_numbers(labels: list[str], classes: tuple[str, ...]) -> np.ndarray:
    numbers = {text: number for number, text in enumerate(classes)}
    found = [text if text in numbers else plain(text) for text in labels]
    return np.array([numbers[text] for text in found], np.int32)


def _steps(tables: Mapping[str, Table], roles: _Roles, encoder: TableEncoder) -> dict[str, Part]:
    return {
        name: held(
            Split(_encoded(table, encoder, roles.features), _values(table, roles.label)[:, 0]),
            _STREAMABLE,
        )
        for name, table in tables.items()
    }


def _encoded(table: Table, encoder: TableEncoder, columns: list[int]) -> np.ndarray:
    return encoder.encode([[row[k] for k in columns] for row in table.rows], table.place)


def _values(table: Table, column: int) -> np.ndarray:
    """Converts a column to numbers, float32 [rows, 1]."""
    numbers = TableEncoder((TableColumn(table.columns[column]),))
    return _encoded(table, numbers, [column])


def _in_order(tables: Mapping[str, Table], time: int) -> dict[str, Table]:
    """Sorts the steps of a series by date.

    Raises:
        InputError: if two steps have the same date, a date is missing, or a date of another part is
            not after all dates of the training part.
    """
    ordered, last = {}, -math.inf
    for name, table in sorted(tables.items(), key=lambda item: item[0] != "train"):
        places = [
            f"{table.place(row)}, column {shown(table.columns[time])}"
            for row in range(len(table.rows))
        ]
        cells, remedy = (
            table.column(time),
            f"drop=({shown(table.columns[time])},) to leave the column out",
        )
        moments = dates.moments(cells, places.__getitem__, remedy)
        order = sorted(range(len(moments)), key=moments.__getitem__)
        for before, after in itertools.pairwise(order):
            if moments[before] == moments[after]:
                raise InputError(places[after], "a date that no other row has", shown(cells[after]))
        if name != "train" and moments[order[0]] <= last:
            expected = f"dates after the last of {tables['train'].path.name}, or {remedy}"
            raise InputError(places[order[0]], expected, shown(cells[order[0]]))
        last = max(last, moments[order[-1]]) if name == "train" else last
        ordered[name] = table.reordered(order)
    return ordered
