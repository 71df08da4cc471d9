"""The blocks of a page, which are written as Markdown or HTML. All texts are plain, unescaped."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


@dataclass(frozen=True)
class Title:
    """The title of the page, a line about its content, and a line with date and machine."""

    text: str
    lead: str
    byline: str


@dataclass(frozen=True)
class Heading:
    """The heading of a section."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of text."""

    text: str


@dataclass(frozen=True)
class Notice:
    """A highlighted message: a short head and a text."""

    tone: Literal["good", "open", "bad"]
    head: str
    text: str


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: a description of the content, with units.
        columns: the names of the columns.
        align: a letter for each column: ``l`` left, ``r`` right, ``w`` left without line breaks.
        rows: the cells of each row.
        sums: the number of summary rows at the end, such as means.
    """

    caption: str
    columns: Sequence[str]
    align: str
    rows: Sequence[Sequence[str]]
    sums: int = 0


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        name: the name of its file, without the suffix.
        caption: a description of the content.
        alt: the alternative text for screen readers.
        draw: a function that makes the Matplotlib figure.
    """

    name: str
    caption: str
    alt: str
    draw: "Callable[[], Drawing]"


@dataclass(frozen=True)
class Command:
    """A command line."""

    text: str


Block = Title | Heading | Paragraph | Notice | Table | Figure | Command


def numbered(blocks: Sequence[Block]) -> Iterator[tuple[Block, str]]:
    """Yields each block with its label, such as ``"Table 2."``.

    The label of blocks other than tables and figures is empty.
    """
    counts = {Table: 0, Figure: 0}
    for block in blocks:
        label = ""
        if isinstance(block, Table | Figure):
            counts[type(block)] += 1
            label = f"{type(block).__name__} {counts[type(block)]}."
        yield block, label
