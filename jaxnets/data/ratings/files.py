"""Files of ratings: MovieLens' formats, and other tables with a user and an item in each row."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxnets.arrays import InputError
from jaxnets.data import dates
from jaxnets.data.table_encoding import complain
from jaxnets.data.table_files import as_numbers, is_number, listed, shown

#: Recognized names of each column, in lower case without ``_``, ``-`` and spaces, by priority.
_NAMES = {
    "user": ("user", "userid", "uid", "reviewerid"),
    "item": ("item", "itemid", "iid", "movie", "movieid", "book", "bookid", "product", "productid"),
    "label": ("rating", "label", "stars", "score"),
    "time": ("timestamp", "time", "date", "datetime"),
}
_MOVIES = {"u.item": "|", "movies.dat": "::", "movies.csv": ","}  # each an id, then a title
_CELLS = {"user": "an id", "item": "an id", "label": "a rating", "time": "a time"}
_DELIMITERS = ("::", "\t", ";", "|", ",")  # the first one that the first line has


@dataclass(frozen=True)
class Columns:
    """The columns of a file, by name in the header or by number from 0; None detects a column.

    Args:
        user: the column of the users' ids.
        item: the column of the items' ids.
        label: the column of the ratings.
        time: the column of the times of the ratings: numbers that grow with time, or dates.
        header: whether the first row contains the names of the columns; None detects it.
    """

    user: str | int | None = None
    item: str | int | None = None
    label: str | int | None = None
    time: str | int | None = None
    header: bool | None = None


@dataclass(frozen=True, eq=False)
class Table:
    """The ratings in a file, in the order of its rows.

    Args:
        path: the file.
        users: the id of the user in each row.
        items: the id of the item in each row.
        values: the ratings, float32 [N]; None if there is no such column.
        times: the times of the ratings, float64 [N]; None if there is no such column.
    """

    path: Path
    users: list[str]
    items: list[str]
    values: np.ndarray | None
    times: np.ndarray | None


def read(path: Path, columns: Columns) -> Table:
    """Reads the ratings in a file.

    Columns are separated by tabs (``u.data``), ``::`` (``ratings.dat``), commas, semicolons or
    bars. Without a header they are user, item, rating and time, in this order.

    Args:
        path: the file.
        columns: the columns of users, items, ratings and times.

    Raises:
        InputError: if the file cannot be read, a column is missing, or a cell is invalid; the
            message names the row and the column.
    """
    rows = list(_rows(path))
    if not rows:
        raise InputError(str(path), "ratings", "an empty file")
    width = len(rows[0][1])
    for line, cells in rows:
        if len(cells) != width:
            raise InputError(f"{path}, row {line}", f"{width} columns", f"{len(cells)}")
    header = _has_header(rows[0][1], columns)
    names = rows[0][1] if header else [str(number) for number in range(1, width + 1)]
    rows = rows[1:] if header else rows
    if not rows:
        raise InputError(str(path), "ratings", "only a header")
    places = _places(path, names, columns, header=header)
    found = {
        role: [cells[place] for _, cells in rows]
        for role, place in places.items()
        if place is not None
    }
    for role, place in places.items():
        for (line, _), cell in zip(rows, found.get(role, ()), strict=False):
            if not cell:
                complain(f"{path}, row {line}", names[place or 0], _CELLS[role], cell)
    values = _ratings(path, rows, found.get("label"), names[places["label"] or 0])
    times = _times(path, rows, found.get("time"), names[places["time"] or 0])
    return Table(path, found["user"], found["item"], values, times)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the number of each line that is not blank, and its cells without white space."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = next((line for line in file if line.strip()), "")
            delimiter = next((each for each in _DELIMITERS if each in first), ",")
            file.seek(0)
            if delimiter in ("::", "\t"):
                for line, text in enumerate(file, start=1):
                    if text.strip():
                        yield line, [cell.strip() for cell in text.split(delimiter)]
                return
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            for cells in reader:
                if len(cells) > 1 or (cells and cells[0].strip()):
                    yield reader.line_num, [cell.strip() for cell in cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(str(path), "a table as UTF-8 text", str(error)) from error
    except OSError as error:
        raise InputError(str(path), "a readable table", error.strerror) from error


def _has_header(first: Sequence[str], columns: Columns) -> bool:
    if columns.header is not None:
        return columns.header
    chosen = {name for name in vars(columns).values() if isinstance(name, str)}
    named = any(_plain(cell) in (*_NAMES["user"], *_NAMES["item"]) for cell in first)
    return named or bool(chosen & set(first)) or not any(map(is_number, first))


def _places(
    path: Path, names: Sequence[str], columns: Columns, *, header: bool
) -> dict[str, int | None]:
    """Returns the number of each column; None for ratings or times that the file lacks."""
    places: dict[str, int | None] = {}
    for order, role in enumerate(_NAMES):
        requested = getattr(columns, role)
        if requested is not None:
            places[role] = _place_of(names, role, requested)
        elif header:
            plain = [_plain(name) for name in names]
            known = (plain.index(name) for name in _NAMES[role] if name in plain)
            places[role] = next(known, None)
        else:
            places[role] = order if order < len(names) else None
    for role in ("user", "item"):
        if places[role] is None:
            expected = f"a column called {role}, or {role}= with the column's name or number"
            raise InputError(str(path), expected, f"the columns {listed(names)}")
    return places


def _place_of(names: Sequence[str], role: str, column: str | int) -> int:
    if isinstance(column, str) and column in names:
        return names.index(column)
    if isinstance(column, int) and -len(names) <= column < len(names):
        return column % len(names)
    raise InputError(role, f"a column of {listed(names)}, or its number from 0", column)


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.lower())


def _ratings(
    path: Path, rows: Sequence[tuple[int, list[str]]], cells: list[str] | None, name: str
) -> np.ndarray | None:
    if cells is None:
        return None
    numbers = as_numbers(cells)
    if numbers is None or not np.isfinite(numbers).all():
        for (line, _), cell in zip(rows, cells, strict=True):
            if not is_number(cell) or not np.isfinite(float(cell)):
                complain(f"{path}, row {line}", name, "a rating, a number", cell)
    return np.asarray(numbers, np.float32)


def _times(
    path: Path, rows: Sequence[tuple[int, list[str]]], cells: list[str] | None, name: str
) -> np.ndarray | None:
    if cells is None:
        return None
    numbers = as_numbers(cells)
    if numbers is not None:
        return numbers

    def place(row: int) -> str:
        return f"{path}, row {rows[row][0]}, column {shown(name)}"

    return np.array(dates.moments(cells, place, "numbers that grow with time"))


def read_titles(path: Path, items: Sequence[str]) -> tuple[str, ...] | None:
    """Reads the titles of items from MovieLens' file of movies in the folder of the ratings.

    Args:
        path: the file of the ratings.
        items: ids.

    Returns:
        The title of each item, or its id if it has none; None without such a file.
    """
    for name, delimiter in _MOVIES.items():
        file = path.parent / name
        if file.is_file():
            try:
                text = file.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                text = file.read_text(encoding="latin-1")
            lines = text.splitlines()
            rows = (
                csv.reader(lines) if delimiter == "," else (each.split(delimiter) for each in lines)
            )
            titles = {row[0].strip(): row[1].strip() for row in rows if len(row) > 1}
            return tuple(titles.get(item, item) for item in items)
    return None


def ids_in_order(tables: Mapping[str, Table], column: str) -> tuple[str, ...]:
    """Returns the sorted ids in a column of tables: numbers by value, others alphabetically.

    Args:
        tables: the parts of a data set.
        column: ``"users"`` or ``"items"``.
    """
    ids = {each for table in tables.values() for each in getattr(table, column)}
    numbers = all(each.isascii() and each.isdigit() for each in ids)
    return tuple(sorted(ids, key=(lambda each: (int(each), each)) if numbers else None))
