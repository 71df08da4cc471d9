"""Writes a page as a single HTML file, which contains its style and images."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

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

_STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #fff; color: #1a1a1a;
  font: 17px/1.55 Charter, Georgia, "Times New Roman", serif; }
main { max-width: 44rem; margin: 0 auto; padding: 2.5rem 1.1rem 4rem; }
h1, h2, .byline, .notice strong, table, figcaption, caption, pre {
  font-family: system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }
h1 { font-size: 1.65rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .6rem; }
h1, p, td, figcaption, caption { overflow-wrap: anywhere; }
p { margin: .7rem 0; }
.lead { margin: 0; color: #333; }
.byline { margin: .4rem 0 1.6rem; font-size: .85rem; color: #555; }
.notice { margin: 1rem 0; padding: .75rem 1rem; border-left: 5px solid; background: #f6f7f8; }
.notice.good { border-color: #0072b2; }
.notice.open { border-color: #e69f00; }
.notice.bad { border-color: #d55e00; background: #fdf3ec; }
figure { margin: 1.6rem 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption, caption { font-size: .85rem; line-height: 1.45; color: #333; text-align: left; }
figcaption { margin-top: .5rem; }
figcaption b, caption b { color: #1a1a1a; }
.wide { overflow-x: auto; margin: 1.6rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; line-height: 1.4;
  border-bottom: 1.5px solid #1a1a1a; }
caption { padding-bottom: .5rem; }
th, td { padding: .28rem .45rem; text-align: left; vertical-align: top; }
th { font-weight: 600; }
thead th { border-top: 1.5px solid #1a1a1a; border-bottom: 1px solid #1a1a1a; }
thead tr.none th { padding: 0; border-bottom: 0; }
.r { text-align: right; font-variant-numeric: tabular-nums; }
td.r, td.w { white-space: nowrap; }
tbody th { font-weight: 400; white-space: nowrap; }
tr.sum > * { font-weight: 600; }
tr.sum:not(.sum + .sum) > * { border-top: 1px solid #1a1a1a; }
pre { padding: .7rem 1rem; background: #f6f7f8; font: .85rem/1.5 ui-monospace, Menlo, Consolas,
  monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 480px) {
  body { font-size: 16px; } main { padding: 1.4rem .9rem 3rem; }
  table { font-size: .8rem; } th, td { padding: .28rem .3rem; } }
@media print {
  body { font-size: 10.5pt; } main { max-width: none; padding: 0; }
  figure, table, .notice { break-inside: avoid; } h2 { break-after: avoid; }
  figure img { max-height: 9cm; } }
"""


def page(blocks: Sequence[Block], images: Mapping[str, bytes]) -> str:
    """Returns the page as HTML.

    Args:
        blocks: the content of the page.
        images: the PNG of each figure, by the figure's name.
    """
    titles = [block.text for block in blocks if isinstance(block, Title)]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(" ".join(titles))}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
{body(blocks, images)}
</main>
</body>
</html>
"""


def body(blocks: Sequence[Block], images: Mapping[str, bytes]) -> str:
    """Returns the content of the page without head and style; see ``page``."""
    return "\n".join(_block(block, label, images) for block, label in numbered(blocks))


def _block(block: Block, label: str, images: Mapping[str, bytes]) -> str:
    match block:
        case Title():
            lead = f'<p class="lead">{escape(block.lead)}</p>'
            byline = f'<p class="byline">{escape(block.byline)}</p>'
            return f"<h1>{escape(block.text)}</h1>\n{lead}\n{byline}"
        case Heading():
            return f"<h2>{escape(block.text)}</h2>"
        case Paragraph():
            return f"<p>{escape(block.text)}</p>"
        case Notice():
            text = f"<p><strong>{escape(block.head)}</strong> {escape(block.text)}</p>"
            return f'<div class="notice {block.tone}">{text}</div>'
        case Table():
            return _table(block, label)
        case Figure():
            image = _image(block, images[block.name])
            caption = f"<figcaption><b>{label}</b> {escape(block.caption)}</figcaption>"
            return f"<figure>{image}{caption}</figure>"
        case Command():
            return f"<pre>{escape(block.text)}</pre>"


def _image(figure: Figure, png: bytes) -> str:
    """Returns an image element, scaled so that the figure's text is as large as the page's."""
    width = int.from_bytes(png[16:20])  # the width in the header of a PNG file
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<img src="{source}" alt="{escape(figure.alt)}" width="{width * 3 // 5}">'


def _table(table: Table, label: str) -> str:
    sides = ["" if side == "l" else f' class="{side}"' for side in table.align]
    columns = "".join(
        f'<th scope="col"{side}>{escape(name)}</th>'
        for name, side in zip(table.columns, sides, strict=True)
    )
    kinds = [""] * (len(table.rows) - table.sums) + [' class="sum"'] * table.sums
    rows = "\n".join(
        f"<tr{kind}>{_cells(row, sides)}</tr>" for kind, row in zip(kinds, table.rows, strict=True)
    )
    head = "" if any(table.columns) else ' class="none"'
    return f"""<div class="wide"><table>
<caption><b>{label}</b> {escape(table.caption)}</caption>
<thead><tr{head}>{columns}</tr></thead>
<tbody>
{rows}
</tbody>
</table></div>"""


def _cells(row: Sequence[str], sides: Sequence[str]) -> str:
    head = f'<th scope="row"{sides[0]}>{escape(row[0])}</th>'
    return head + "".join(
        f"<td{side}>{escape(cell)}</td>" for cell, side in zip(row[1:], sides[1:], strict=True)
    )
