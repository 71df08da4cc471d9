"""Parsing of the dates of a series, in many formats."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from jaxnets.arrays import InputError
from jaxnets.data.table_files import as_numbers, is_number, shown

#: Formats other than ISO 8601. Dates that match several formats must have the same order in all.
_FORMATS = (
    "%Y-%m", "%Y/%m", "%Y.%m", "%YM%m", "%m/%Y", "%m-%Y", "%m.%Y",
    "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y",
    "%m/%d/%y", "%d/%m/%y", "%d.%m.%y", "%d-%b-%y", "%b-%y", "%b %y",
    "%d %b %Y", "%d-%b-%Y", "%b %d, %Y", "%b %d %Y", "%b %Y", "%b-%Y", "%Y-%b", "%Y %b",
    "%d %B %Y", "%B %d, %Y", "%B %d %Y", "%B %Y", "%Y %B",
)  # fmt: skip
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
_QUARTER = re.compile(r"(\d{4})[- ]?Q([1-4])", re.ASCII)

_Reader = Callable[[str], float]


def are_dates(cells: Sequence[str]) -> bool:
    """Whether all cells can be read as dates, and not all are plain numbers."""
    return as_numbers(cells) is None and bool(_readings(cells))


def moments(cells: Sequence[str], place: Callable[[int], str], remedy: str) -> list[float]:
    """Converts the dates of a series to numbers that increase with time.

    Args:
        cells: dates, or numbers such as years.
        place: a function that returns the name of a cell in error messages, from its number.
        remedy: an alternative for the user, for the error message.

    Raises:
        InputError: if a cell is not a date, or the order of the dates depends on their format.
    """
    numbers = as_numbers(cells)
    if numbers is not None:
        return numbers.tolist()
    readings = _readings(cells)
    if not readings:
        number = _first_strange(cells)
        expected = f"a date such as 2024-01-31, or {remedy}"
        raise InputError(place(number), expected, shown(cells[number]))
    orders = {tuple(sorted(range(len(cells)), key=times.__getitem__)) for times in readings}
    if len(orders) > 1:
        expected = f"unambiguous dates, such as 2024-01-31, or {remedy}"
        raise InputError(
            place(0), expected, f"{shown(cells[0])}, which may have the day or the month first"
        )
    return readings[0]


def _readings(cells: Sequence[str]) -> list[list[float]]:
    """Parses the cells in each format that fits all of them."""
    readings = []
    for reader in _readers(cells[0]):
        try:
            readings.append([reader(cell) for cell in cells])
        except (ValueError, OverflowError):
            continue
    return readings


def _first_strange(cells: Sequence[str]) -> int:
    """Returns the number of the first cell that no format of the earlier cells fits, or 0."""
    if is_number(cells[0]):
        return next(number for number, cell in enumerate(cells) if not is_number(cell))
    readers = _readers(cells[0])
    for number, cell in enumerate(cells):
        readers = [reader for reader in readers if _reads(reader, cell)]
        if not readers:
            return number
    return 0


def _readers(cell: str) -> list[_Reader]:
    """Returns the parsers that accept a cell."""
    formats = [f"{day}{time}" for day in _FORMATS for time in _TIMES]
    readers = [_iso, _quarter, *(_by(form) for form in formats)]
    return [reader for reader in readers if _reads(reader, cell)]


def _reads(reader: _Reader, cell: str) -> bool:
    try:
        reader(cell)
    except (ValueError, OverflowError):
        return False
    return True


def _by(form: str) -> _Reader:
    return lambda cell: _seconds(datetime.strptime(cell, form))


def _iso(cell: str) -> float:
    return _seconds(datetime.fromisoformat(cell))


def _quarter(cell: str) -> float:
    match = _QUARTER.fullmatch(cell)
    if match is None:
        raise ValueError(cell)
    return _seconds(datetime(int(match[1]), 3 * int(match[2]) - 2, 1))


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
