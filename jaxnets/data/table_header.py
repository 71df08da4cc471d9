"""Detection of headers: whether the first row of a table has column names or is an example."""

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from jaxnets.arrays import InputError
from jaxnets.data.table_files import Cells, Row, as_numbers, is_missing, is_number, listed

_LOOK = 10_000  # number of rows that are compared with the first
_ENOUGH = 5  # number of rows below which a pattern may be chance
_UNNAMED = re.compile(r"(Unnamed: \d+(_level_\d+)?(\.\d+)*)?")


def is_unnamed(name: str) -> bool:
    """Whether a column has no name, or the one that pandas writes for such a column."""
    return _UNNAMED.fullmatch(name) is not None


def has_header(tables: Mapping[str, Cells], header: bool | None) -> bool:
    """Whether the first row of each file of a data set is a header.

    Args:
        tables: the files by split; one is ``train``.
        header: the user's choice; None detects it.

    Raises:
        InputError: if it is unclear whether the row is a header or an example.
    """
    if header is not None:
        return header
    first, *below = (row.cells for row in tables["train"].rows[:_LOOK])
    others = [table.rows for name, table in tables.items() if name != "train"]
    found = _decide(first, below)
    if not found and heading(tables["train"]):
        found = False
    elif not found and others:
        found = _by_others(first, below, others)
    if found is None:
        path = tables["train"].path
        expected = "header=True or header=False, as the row may be a header or an example"
        raise InputError(f"{path}, row {tables['train'].rows[0].line}", expected, listed(first))
    return found


def _by_others(first: list[str], below: list[list[str]], others: list[list[Row]]) -> bool | None:
    """Decides by the other files if the row itself does not: a header is the same in all files."""
    if any(rows[0].cells != first for rows in others):
        return False
    if len(set(first)) < len(first) or first in below:
        return False
    copied = any(row.cells in below[:1] for rows in others for row in rows[1:2])
    return True if len(first) > 2 and not copied else None


def heading(table: Cells) -> list[str] | None:
    """Returns the column names in a comment above the first row, as NumPy writes them, or None."""
    names, width = table.heading, len(table.rows[0].cells)
    fits = names is not None and len(names) == width > 1 and not _numbers(names)
    return names if fits else None


def _decide(first: list[str], below: list[list[str]]) -> bool | None:
    """Whether a row is a header, by the rows below it; None if it may be either."""
    numbers = _numbers(first)
    if not below:
        return not numbers
    others = [row for row in below if row != first]  # a header may be repeated in the middle
    columns = [[row[k] for row in others if k < len(row)] for k in range(len(first))]
    pairs = list(zip(first, columns, strict=True))
    texts = [(cell, column) for cell, column in pairs if not (is_number(cell) or is_missing(cell))]
    names = any(_all_numbers(column) or _recur(column, cell) for cell, column in texts)
    values = any(cell in column for cell, column in texts)
    if names or values:
        return None if names and values else names
    if not numbers:
        return len(set(first)) == len(first) and first not in below
    if len(set(first)) < len(first):
        return False
    return _by_numbers(pairs, bool(texts))


def _by_numbers(pairs: Sequence[tuple[str, list[str]]], texts: bool) -> bool | None:
    """Decides about a row with numbers, if its texts do not."""
    numbers = [(cell, column) for cell, column in pairs if is_number(cell)]
    steps = _equal_steps([cell for cell, _ in numbers])
    unnamed = any(not cell and _is_index(column) for cell, column in pairs)
    # whole numbers above numbers that all have a decimal point
    differ = sum(cell.isdigit() and all(map(_has_point, column)) for cell, column in numbers)
    enough = all(len(column) >= _ENOUGH for _, column in numbers)
    alone = len(pairs) == 1 and numbers[0][0] == "0"  # a pandas series
    if unnamed and (steps or len(numbers) == 1):
        return True
    if differ and (steps or texts or alone or differ > 1):
        return True if enough or steps == 3 or texts else None
    if steps and texts:
        return True
    return None if steps or texts else False


def _numbers(cells: list[str]) -> list[str]:
    return [cell for cell in cells if is_number(cell)]


def _all_numbers(column: list[str]) -> bool:
    there = [cell for cell in column if not is_missing(cell)]
    return bool(there) and as_numbers(there) is not None


def _recur(column: list[str], cell: str) -> bool:
    """Whether each text of a column is repeated in it, but the cell above does not occur."""
    counts = Counter(column)
    return len(column) >= _ENOUGH and len(counts) > 1 and min(counts.values()) > 1 > counts[cell]


def _has_point(cell: str) -> bool:
    return is_number(cell) and not cell.lstrip("+-").isdigit()


def _is_index(column: list[str]) -> bool:
    return len(set(column)) == len(column) and not any(map(is_missing, column))


def _equal_steps(cells: list[str]) -> int:
    """Returns 3 for three or more numbers in equal steps, 2 for 0, 1 or 1, 2; otherwise 0."""
    if len(cells) == 2:
        return 2 if cells in (["0", "1"], ["1", "2"]) else 0
    steps = {float(b) - float(a) for a, b in itertools.pairwise(cells)}
    return 3 if len(cells) > 2 and len(steps) == 1 else 0
