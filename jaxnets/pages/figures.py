"""The style of all figures, and the figures of several pages, legible on a phone."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnets.arrays import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# the colors of Okabe and Ito, which are distinct for color-blind readers too
BLUE, RED, GREY = "#0072B2", "#D55E00", "#555555"
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
}


def png(figure: "Figure") -> bytes:
    """Returns the figure as a PNG file with 128 colors, a third of the size of one with all."""
    from PIL import Image

    file, small = io.BytesIO(), io.BytesIO()
    figure.savefig(file, dpi=200, format="png")
    drawn = Image.open(file, formats=("PNG",)).convert("RGB")
    drawn.quantize(128, dither=Image.Dither.NONE).save(small, "png", optimize=True)
    return small.getvalue()


@contextmanager
def canvas(width: float, height: float) -> Iterator["Figure"]:
    """Makes a figure in the common style; to be drawn within the context.

    Args:
        width: the width in inches.
        height: the height in inches.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def confusion(
    counts: np.ndarray, names: Sequence[str], rows: str, columns: str, right: bool = False
) -> "Figure":
    """Draws a confusion matrix.

    Args:
        counts: the counts, integers [classes, classes].
        names: the names of the classes.
        rows: the label of the rows.
        columns: the label of the columns.
        right: whether the diagonal has a separate color, as it counts correct predictions.
    """
    size = 1.6 + 0.36 * len(names)
    with canvas(min(size, 4.8) if len(names) < 10 else 4.8, max(size - 0.6, 2)) as figure:
        axes = figure.subplots()
        same = np.eye(len(names), dtype=bool) & right
        for colours, hidden in (("Blues", same), ("Greens", ~same)):
            shown = np.ma.array(counts, mask=hidden)
            if shown.count():
                most = 1.6 * max(shown.max(), 1)
                axes.imshow(shown, cmap=colours, vmin=0, vmax=most, aspect="auto")
        for row, column in np.argwhere(counts):
            text = str(counts[row, column])
            axes.text(column, row, text, ha="center", va="center", fontsize=_fitting(text))
        labels = [short(name) for name in names]
        turned = 90 if max(map(len, labels)) > 2 else 0
        axes.set_xticks(range(len(names)), labels, rotation=turned, parse_math=False)
        axes.set_yticks(range(len(names)), labels, parse_math=False)
        axes.set(xlabel=columns, ylabel=rows)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    return figure


def _fitting(number: str) -> float:
    """Returns the font size at which a number fits into a cell."""
    return 8 if len(number) < 4 else 6.5


def pictures(
    images: Sequence[np.ndarray], captions: Sequence[Sequence[tuple[str, str]]]
) -> "Figure":
    """Draws images in rows, each with up to three lines of text below it.

    Args:
        images: the images, uint8 [H, W, 1 or 3].
        captions: for each image, pairs of a line and its color.
    """
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    with canvas(1.2 * columns, 1.75 * rows) as figure:
        figure.set_layout_engine("none")
        for number, (image, lines) in enumerate(zip(images, captions, strict=True)):
            place = (number % columns, rows - 1 - number // columns)
            left, bottom = place[0] / columns, (place[1] + 0.33) / rows
            axes = figure.add_axes((left, bottom, 0.93 / columns, 0.64 / rows))
            axes.axis("off")
            pixels = image[..., 0] if image.shape[2:] == (1,) else image
            axes.imshow(
                pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="equal"
            )
            for row, (text, colour) in enumerate(lines):
                below = bottom - (0.015 + 0.095 * row) / rows
                style: Any = {"color": colour, "fontsize": 8, "va": "top", "parse_math": False}
                figure.text(left, below, text, **style)
    return figure


def called(number: int, names: Sequence[str] | None) -> str:
    """Returns the name of a class, or its number if the figures' font cannot write the name.

    Args:
        number: the number of the class.
        names: the names of the classes; None if they have none.
    """
    known = names is not None and 0 <= number < len(names)
    name = printable(names[number]) if known and names is not None else ""
    return name if name and all(ord(letter) < 0x250 for letter in name) else str(number)


def short(name: str) -> str:
    """Shortens a name to fit next to an axis."""
    return name if len(name) <= 12 else f"{name[:11]}…"
