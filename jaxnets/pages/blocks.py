"""What a page is made of, before it is Markdown or HTML. Every text is plain."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


@dataclass(frozen=True)
class Title:
    """The name of the page, what it is about in a line, and when and where it was made."""

    text: str
    lead: str
    byline: str


@dataclass(frozen=True)
class Heading:
    """Of a section."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Of prose."""

    text: str


@dataclass(frozen=True)
class Notice:
    """What a reader is to see first: a word or two, and the sentence."""

    tone: Literal["good", "open", "bad"]
    head: str
    text: str


@dataclass(frozen=True)
class Table:
    """Cells in words.

    Attributes:
        caption: what is in it, and in which units.
        columns: their names.
        align: for each column ``l``, ``r``, or ``w``: left, and in one line.
        rows: the cells.
        sums: how many rows at the end are about those above.
    """

    caption: str
    columns: Sequence[str]
    align: str
    rows: Sequence[Sequence[str]]
    sums: int = 0


@dataclass(frozen=True)
class Figure:
    """A drawing.

    Attributes:
        name: of its file, without the ending.
        caption: what is to be seen.
        alt: the same, for who cannot see it.
        draw: makes it.
    """

    name: str
    caption: str
    alt: str
    draw: "Callable[[], Drawing]"


@dataclass(frozen=True)
class Command:
    """What to type."""

    text: str


Block = Title | Heading | Paragraph | Notice | Table | Figure | Command


def numbered(blocks: Sequence[Block]) -> Iterator[tuple[Block, str]]:
    """Each block with its label, such as ``"Table 2."``; an empty one for what bears none."""
    counts = {Table: 0, Figure: 0}
    for block in blocks:
        label = ""
        if isinstance(block, Table | Figure):
            counts[type(block)] += 1
            label = f"{type(block).__name__} {counts[type(block)]}."
        yield block, label
