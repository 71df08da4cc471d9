"""Draws the table of modules in docs/architecture.md: python scripts/draw_architecture.py."""

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
FIGURE = DOCS / "images" / "architecture.svg"
WIDTH, LEFT, MARGIN = 920, 70, 20
ROW, GAP = 34, 14


def ranks(page: str) -> list[list[str]]:
    """Returns the modules of each rank, the lowest first, from the table of the page."""
    rows = re.findall(r"^\| *(\d*) *\| `(\w+)(?:\.py|/)` \|", page, re.M)
    found: list[list[str]] = []
    for rank, module in rows:
        if rank:
            found.append([])
        found[-1].append(module)
    return found


def drawn(page: str) -> str:
    """Returns the figure as SVG: a row of boxes for each rank, the highest on top."""
    rows = ranks(page)
    height = 2 * MARGIN + len(rows) * (ROW + GAP) - GAP
    boxes, words = [], []
    for rank, modules in enumerate(rows):
        top = height - MARGIN - ROW - rank * (ROW + GAP)
        words.append(f'<text x="52" y="{top + 22}" fill="#757575">{rank}</text>')
        width = (WIDTH - LEFT - MARGIN + 10) / len(modules) - 10
        for place, module in enumerate(modules):
            x = LEFT + place * (width + 10)
            boxes.append(f'<rect x="{x:g}" y="{top}" width="{width:g}" height="{ROW}" rx="4"/>')
            words.append(f'<text x="{x + width / 2:g}" y="{top + 22}">{module}</text>')
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="sans-serif" font-size="14" text-anchor="middle" fill="#212121">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        '<g fill="#e8eaf6" stroke="#3f51b5">',
        *boxes,
        "</g>",
        *words,
        f'<path d="M24 {MARGIN} V{height - MARGIN} l-5 -8 m10 0 l-5 8"'
        ' fill="none" stroke="#757575"/>',
        f'<text transform="translate(16 {height / 2:g}) rotate(-90)" fill="#757575">imports</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FIGURE.write_text(drawn((DOCS / "architecture.md").read_text("utf-8")), "utf-8")
