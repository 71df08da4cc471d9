"""Encoding of a table's rows as inputs: numbers unchanged, categories as one-hot vectors."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from jaxnets.arrays import InputError
from jaxnets.data.dataset import Dataset
from jaxnets.data.table_files import as_numbers, is_number, listed, plain, shown

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class TableColumn:
    """A column of a table that is part of a network's input.

    Args:
        name: the column's name in the header, or its number from 1 if there is no header.
        categories: the texts that the column may contain, in the order of their inputs; None for a
            column of numbers.

    Raises:
        InputError: if the name is not a string, or the categories are not different strings.
    """

    name: str
    categories: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Checks the arguments."""
        if not isinstance(self.name, str):
            raise InputError("name", "a string", self.name)
        names = self.categories
        if names is None:
            return
        strings = isinstance(names, tuple) and all(isinstance(name, str) for name in names)
        if not strings or not names or len(set(names)) < len(names):
            raise InputError("categories", "a tuple of different strings, or None", names)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the column's inputs: one for numbers, otherwise one for each category."""
        if self.categories is None:
            return (self.name,)
        return tuple(f"{self.name}={category}" for category in self.categories)


@dataclass(frozen=True)
class TableEncoder:
    """Encodes rows of a table as a network's inputs.

    A number is one input. A text is one-hot encoded: one input for each category of its column, 1
    for the text's own category and 0 for the others.

    Args:
        columns: the columns that the network uses, in the order of its inputs.

    Examples:
        >>> encode = TableEncoder((TableColumn("size"), TableColumn("colour", ("blue", "red"))))
        >>> encode.inputs
        ('size', 'colour=blue', 'colour=red')
        >>> encode([{"size": 3, "colour": "red"}, {"colour": "blue", "size": "0.5"}])
        array([[3. , 0. , 1. ],
               [0.5, 1. , 0. ]], dtype=float32)
    """

    columns: tuple[TableColumn, ...]

    def __post_init__(self) -> None:
        """Checks the columns."""
        columns = self.columns
        if not isinstance(columns, tuple) or not all(isinstance(c, TableColumn) for c in columns):
            raise InputError("columns", "a tuple of TableColumn", columns)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs."""
        return tuple(name for column in self.columns for name in column.inputs)

    def __call__(
        self, rows: Sequence[Mapping[str, Any] | Sequence[Any]] | np.ndarray
    ) -> np.ndarray:
        """Encodes rows as inputs, float32 [N, inputs].

        Args:
            rows: the values of each row, by column name or in the order of the columns: numbers, or
                texts as in the table.

        Raises:
            InputError: if there are no rows, a column is missing or unknown, a value in a column of
                numbers is not a number, or a text is not a category of its column.
        """
        if isinstance(rows, np.ndarray):
            rows = np.atleast_1d(rows).tolist()
        if isinstance(rows, str) or not isinstance(rows, Sequence):
            raise InputError("rows", "a list of rows", f"a {type(rows).__name__}")
        if not len(rows):
            raise InputError("rows", "at least one row", "none")
        cells = [self._cells(f"row {number}", row) for number, row in enumerate(rows)]
        places = [f"row {number}" for number in range(len(cells))]
        return self.encode(cells, places.__getitem__)

    def _cells(self, place: str, row: Any) -> list[str]:
        """Returns the cells of a row in the order of the columns."""
        if isinstance(row, Mapping):
            strange = [name for name in row if name not in self.names]
            missing = [name for name in self.names if name not in row]
            if strange or missing:
                got = f"no {shown(missing[0])}" if missing else f"{shown(str(strange[0]))} too"
                raise InputError(place, f"the columns {listed(self.names)}", got)
            row = [row[name] for name in self.names]
        row = row.tolist() if isinstance(row, np.ndarray) else row
        if isinstance(row, str) or not isinstance(row, Sequence):
            raise InputError(place, "values by the columns' names", f"a {type(row).__name__}")
        if len(row) != len(self.columns):
            expected = f"{len(self.columns)} values: {listed(self.names)}"
            raise InputError(place, expected, f"{len(row)}")
        return [cell.strip() if isinstance(cell, str) else str(cell) for cell in row]

    def encode(self, cells: Sequence[Sequence[str]], place: Callable[[int], str]) -> np.ndarray:
        """Encodes cells as inputs, float32 [N, inputs].

        Args:
            cells: the cells of each row, in the order of the columns.
            place: a function that returns the name of a row in error messages, from its number.

        Raises:
            InputError: see ``__call__``.
        """
        columns = list(zip(*cells, strict=True))
        parts = [
            _numbers(list(texts), column.name, place)
            if column.categories is None
            else _one_hot(list(texts), column.name, column.categories, place)
            for column, texts in zip(self.columns, columns, strict=True)
        ]
        return np.concatenate(parts, axis=1)

    def to_json(self) -> list[dict[str, Any]]:
        """Returns the encoder as JSON values, for ``from_json``."""
        return [dataclasses.asdict(column) for column in self.columns]

    @classmethod
    def from_json(cls, columns: Any) -> "TableEncoder":
        """Makes an encoder from what ``to_json`` returned.

        Raises:
            InputError: if the value is invalid.
        """
        try:
            found = [
                TableColumn(each["name"], None if names is None else tuple(names))
                for each in columns
                for names in [each["categories"]]
            ]
        except (TypeError, LookupError) as error:
            raise InputError("columns", "the columns of a table", str(error)) from error
        if not found:
            raise InputError("columns", "at least one column", "none")
        return cls(tuple(found))


@dataclass(frozen=True, eq=False)
class TableDataset(Dataset):
    """A ``Dataset`` of a table's rows, with the encoder for new rows.

    Args:
        encoder: the encoder of the rows.
    """

    encoder: TableEncoder = field(kw_only=True)

    def __post_init__(self) -> None:
        """Checks the data set and the encoder."""
        super().__post_init__()
        if not isinstance(self.encoder, TableEncoder):
            raise InputError("encoder", "a TableEncoder", self.encoder)


def _numbers(cells: list[str], column: str, place: Callable[[int], str]) -> np.ndarray:
    """Converts the cells of a column to numbers, float32 [N, 1]."""
    numbers = as_numbers(cells)
    if numbers is None or np.abs(numbers).max() > _LARGEST:
        for row, cell in enumerate(cells):
            if not is_number(cell) or abs(float(cell)) > _LARGEST:
                complain(place(row), column, "a number", cell)
    return np.asarray(numbers, np.float32)[:, None]


def _one_hot(
    cells: list[str], column: str, categories: tuple[str, ...], place: Callable[[int], str]
) -> np.ndarray:
    """Encodes the cells of a column as one-hot vectors, float32 [N, categories]."""
    numbers = {category: number for number, category in enumerate(categories)}
    cells = [cell if cell in numbers else plain(cell) for cell in cells]
    for row, cell in enumerate(cells):
        if cell not in numbers:
            expected = f"a category that was trained on ({listed(categories)})"
            complain(place(row), column, expected, cell)
    made = np.zeros((len(cells), len(categories)), np.float32)
    made[np.arange(len(cells)), [numbers[cell] for cell in cells]] = 1
    return made


def complain(place: str, column: str, expected: str, cell: str) -> NoReturn:
    """Raises an error about a cell.

    Args:
        place: name of the cell's row in the error message.
        column: name of the cell's column.
        expected: description of a valid cell.
        cell: the cell's text.

    Raises:
        InputError: always.
    """
    got = shown(cell) if cell else "an empty cell"
    raise InputError(f"{place}, column {shown(column)}", expected, got)
