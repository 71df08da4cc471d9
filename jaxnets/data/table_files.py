"""Parsing of text tables as written by spreadsheets, pandas, NumPy and R."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxnets.arrays import InputError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_NOT_OF_NUMBERS = re.compile(r"[^0-9eE.+-]")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
_MISSING = frozenset(("", "?", "na", "n/a", "nan", "null"))
_BOOLEANS = ("false", "true")
_DELIMITERS = "\t;|,"
_STANDARD_INPUT = 0  # file descriptor
_LONG, _FEW = 30, 6  # numbers of characters and of names that a message shows
_LOOK = 50  # number of rows from which the delimiter is detected


@dataclass(frozen=True)
class Row:
    """A row of a file.

    Args:
        line: number of the line on which the row ends.
        cells: the text of each cell, without surrounding white space.
    """

    line: int
    cells: list[str]


@dataclass(frozen=True)
class Cells:
    """The rows of a file, without comments and blank lines.

    Args:
        path: the file.
        rows: at least one row; the first may be a header.
        heading: the cells of the last comment above the rows, which may be a header; or None.
    """

    path: Path
    rows: list[Row]
    heading: list[str] | None = None


def is_number(text: str) -> bool:
    """Whether a cell is a number: digits, one decimal point at most, perhaps an exponent."""
    return _NUMBER.fullmatch(text) is not None


def shown(text: str) -> str:
    """Formats a cell for a message: quoted, and shortened if it is long."""
    return repr(text if len(text) <= _LONG else f"{text[:_LONG]}…")


def listed(names: Sequence[str]) -> str:
    """Formats names of columns or categories for a message: the first few."""
    few = [name if len(name) <= _LONG else f"{name[:_LONG]}…" for name in names[:_FEW]]
    return ", ".join([*few, "…"] if len(names) > _FEW else few)


def as_numbers(cells: Sequence[str]) -> np.ndarray | None:
    """Converts the cells of a column to numbers, float64 [N]; None unless all are numbers."""
    if _NOT_OF_NUMBERS.search("".join(cells)):
        return None
    try:
        return np.array(cells, np.float64)
    except ValueError:
        return None


def plain_number(text: str) -> str:
    """Returns the canonical form of a number: 1, +1, 01 and 1.0 become 1."""
    if text.lstrip("+-").isdigit():
        return str(int(text))
    value = float(text)
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def plain(text: str) -> str:
    """Returns the canonical form of a category or class, if it is a number or a boolean."""
    if is_number(text):
        return plain_number(text)
    return text.capitalize() if text.lower() in _BOOLEANS else text


def are_booleans(texts: Iterable[str]) -> bool:
    """Whether all texts are true or false, in any case of letters."""
    return all(text.lower() in _BOOLEANS for text in texts)


def is_missing(text: str) -> bool:
    """Whether a cell is empty or a marker of a missing value."""
    return text.lower() in _MISSING


def read(path: Path) -> Cells:
    """Reads the cells of a file, or of standard input for ``-``.

    Columns are separated by commas, semicolons, tabs or bars. If the separator is not a comma,
    numbers may have decimal commas. A line that begins with # is a comment, unless the first column
    contains such texts.

    Args:
        path: the file.

    Raises:
        InputError: if the file cannot be read, is not UTF-8, is empty, or has an unclosed quote.
    """
    place: Path | int = path
    if str(path) == "-":
        place, path = _STANDARD_INPUT, Path("standard input")
    try:
        with open(place, encoding="utf-8-sig", newline="", closefd=place is path) as file:
            return _parse(file.read(), path)
    except UnicodeDecodeError as error:
        raise InputError(str(path), "a table as UTF-8 text", str(error)) from error
    except OSError as error:
        raise InputError(str(path), "a readable table", error.strerror) from error


def _parse(text: str, path: Path) -> Cells:
    """Parses the text of a file; see ``read``.

    Args:
        text: the whole text.
        path: the file, for error messages.

    Raises:
        InputError: see ``read``.
    """
    if "\0" in text:
        raise InputError(str(path), "a table as UTF-8 text", "a file with zero bytes")
    try:
        return _cells(path, list(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise InputError(str(path), "a table as UTF-8 text", str(error)) from error


def _cells(path: Path, lines: list[str]) -> Cells:
    stated, skipped = "", 0
    if lines and lines[0].lower().startswith("sep=") and len(lines[0].strip()) == len("sep=;"):
        stated, skipped = lines[0].strip()[-1], 1  # a line for Excel
    delimiter = stated or _delimiter(lines)
    rows, marked = [], []
    for line, cells, is_marked in _records(lines, delimiter, skipped):
        rows.append(Row(line, [cell.strip() for cell in cells]))
        marked.append(is_marked)
    rows, heading = _without_comments(rows, marked)
    while rows and not any(rows[-1].cells):
        rows.pop()
    if not rows:
        got = "comments alone" if heading else "an empty file"
        raise InputError(str(path), "a table", got)
    rows = _same_widths(rows)
    if delimiter != ",":
        _point_for_comma(path, rows)
    return Cells(path, rows, heading)


def _delimiter(lines: Sequence[str]) -> str:
    """Detects the separator of columns.

    It is the character that divides most rows into the same number of cells; of several such
    characters, the one for which most cells are numbers.
    """
    head = [line for line in lines if line.strip() and not line.lstrip().startswith("#")][:_LOOK]

    def merit(delimiter: str) -> tuple[float, float]:
        rows = list(csv.reader(head, delimiter=delimiter))
        width, count = Counter(map(len, rows)).most_common(1)[0]
        if width < 2:
            return 0, 0
        cells = [cell.strip() for row in rows for cell in row]
        numbers = sum(map(is_number, cells))
        if delimiter != ",":
            numbers += sum(_DECIMAL_COMMA.fullmatch(cell) is not None for cell in cells)
        return count / len(rows), numbers / len(cells)

    best = max(_DELIMITERS, key=merit) if head else ","
    if not head or merit(best) == (0, 0):
        return max(",;\t|", key=head[0].count) if head else ","
    return best


def _records(
    lines: list[str], delimiter: str, skipped: int
) -> Iterator[tuple[int, list[str], bool]]:
    """Yields the line number, the cells, and whether the row begins with #, of nonblank rows."""
    position = skipped

    def upcoming() -> Iterator[str]:
        nonlocal position
        while position < len(lines):
            position += 1
            yield lines[position - 1]

    reader = csv.reader(upcoming(), delimiter=delimiter, strict=True)
    while position < len(lines):
        if lines[position].lstrip().startswith("#"):
            position += 1  # parsed separately, because a comment may have unpaired quotes
            yield position, next(csv.reader([lines[position - 1]], delimiter=delimiter)), True
        else:
            cells = next(reader)
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield position, cells, False


def _without_comments(rows: list[Row], marked: list[bool]) -> tuple[list[Row], list[str] | None]:
    """Returns the rows without comments, and the cells of the last comment above them."""
    if True not in marked:
        return rows, None
    first = marked.index(False) if False in marked else len(rows)
    above, rows, marked = rows[:first], rows[first:], marked[first:]
    plain = [row.cells for row, mark in zip(rows, marked, strict=True) if not mark]
    width = Counter(map(len, plain)).most_common(1)[0][0] if plain else 0
    texts = not plain[1:] or not all(is_number(cells[0]) for cells in plain[1:])
    kept = [
        row
        for row, mark in zip(rows, marked, strict=True)
        if not mark or (texts and len(row.cells) == width)
    ]
    if not above:
        return kept, None
    first_name, *others = above[-1].cells
    return kept, [first_name.lstrip("#").strip() or "#", *others]


def _same_widths(rows: list[Row]) -> list[Row]:
    """Removes empty last columns, and adds an empty name for R's column of row names."""
    first, below = rows[0].cells, [row.cells for row in rows[1:]]
    widths = {len(cells) for cells in below}
    if len(widths) == 1:
        (width,) = widths
        if len(first) == width + 1 and not first[-1]:
            first.pop()
        if len(first) == width - 1 and not any(map(is_number, first)):
            if any(cells[-1] for cells in below):
                first.insert(0, "")
            else:
                first.append("")
    if len({len(row.cells) for row in rows}) == 1 and len(first) > 1:
        while len(first) > 1 and not any(row.cells[-1] for row in rows):
            for row in rows:
                row.cells.pop()
    return rows


def _point_for_comma(path: Path, rows: list[Row]) -> None:
    """Replaces decimal commas by points.

    Raises:
        InputError: if the commas may also be thousands separators.
    """
    found = [
        (row, place)
        for row in rows
        for place, cell in enumerate(row.cells)
        if "," in cell and _DECIMAL_COMMA.fullmatch(cell)
    ]
    if not found:
        return
    points = any("." in cell and is_number(cell) for row in rows for cell in row.cells)
    row, place = found[0]
    if points or all(_THOUSANDS.fullmatch(row.cells[place]) for row, place in found):
        expected = "numbers with one decimal sign and no thousands separators"
        raise InputError(f"{path}, row {row.line}", expected, shown(row.cells[place]))
    for row, place in found:
        row.cells[place] = row.cells[place].replace(",", ".")
