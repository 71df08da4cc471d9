"""Writes a page as Markdown."""

import re
from collections.abc import Sequence

from jaxnets.pages.blocks import (
    Block,
    Command,
    Figure,
    Heading,
    Notice,
    Paragraph,
    Table,
    Title,
    numbered,
)


def markdown(blocks: Sequence[Block], images: str = "") -> str:
    """Returns the page as Markdown.

    Args:
        blocks: the content of the page.
        images: a prefix for the names of image files, such as ``"folder/"``.
    """
    return "\n\n".join(_block(block, label, images) for block, label in numbered(blocks)) + "\n"


def _block(block: Block, label: str, images: str) -> str:
    match block:
        case Title():
            return f"# {_text(block.text)}\n\n{_text(block.lead)}\n\n*{_text(block.byline)}*"
        case Heading():
            return f"## {_text(block.text)}"
        case Paragraph():
            return _text(block.text)
        case Notice():
            return f"> **{_text(block.head)}** {_text(block.text)}"
        case Table():
            return f"{_table(block)}\n\n*{label} {_text(block.caption)}*"
        case Figure():
            source = f"![{_text(block.alt)}]({images}{block.name}.png)"
            return f"{source}\n\n*{label} {_text(block.caption)}*"
        case Command():
            return "\n".join(f"    {line}" for line in block.text.splitlines())


def _table(table: Table) -> str:
    rows = [[_text(cell) for cell in row] for row in table.rows]
    first = len(rows) - table.sums
    rows[first:] = [[cell and f"**{cell}**" for cell in row] for row in rows[first:]]
    marks = ["---:" if side == "r" else "---" for side in table.align]
    lines = [[_text(name) for name in table.columns], marks, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(text: str) -> str:
    """Joins a text to one line, and escapes all characters that Markdown or HTML interprets."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|~>]|^[#+-](?= )|^\d+(?=[.)] ))", r"\\\1", plain)
