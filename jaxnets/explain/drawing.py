"""Attributions as pictures: over an image, behind the words of a text, as bars."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    as_host_array,
    check_positive,
    describe,
    entries,
    printable,
    shown,
)
from jaxnets.figures import new_figure, save, writable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Colours of attributions that have signs, and of those that have none.
SIGNED, UNSIGNED = "RdBu_r", "Reds"
_CLIPPED = 99.5  # the percentile at which colours end, so that one pixel does not pale all others
_COLUMNS = 76  # letters in a line of a text


def draw_image(
    image: ArrayLike,
    attributions: ArrayLike,
    *,
    title: str = "",
    label: str = "attribution",
    path: Path | str | None = None,
) -> "Figure":
    """Draws an image, and beside it the attributions over a pale copy.

    Red adds to the explained output and blue takes from it; without negative attributions, red is
    what matters. The more an attribution, the less of the image shines through.

    Args:
        image: [H, W], [H, W, 1] or [H, W, 3], of bytes or of any range.
        attributions: [H, W], or [H, W, channels], which are added up.
        title: what is written above.
        label: what the colours mean, below their bar.
        path: where to save the figure too, replacing what is there; None saves nothing.

    Returns:
        Matplotlib's figure.

    Raises:
        InputError: if the two are no image, or of different sizes.
    """
    place = None if path is None else writable(path)
    pixels = as_picture("image", image)
    found = as_host_array("attributions", attributions)
    if found.ndim == 3:
        found = found.sum(axis=-1)
    if found.shape != pixels.shape[:2]:
        height, width = pixels.shape[:2]
        raise InputError("attributions", f"[{height}, {width}]", describe(found))
    tall = np.clip(pixels.shape[0] / pixels.shape[1], 0.3, 2)
    figure = new_figure(7.6, 1.5 + 3.7 * float(tall))
    plain, over = figure.subplots(1, 2, width_ratios=(1, 1))
    plain.imshow(pixels, cmap="gray", vmin=0, vmax=1)
    plain.set_title("input", fontsize=10)
    over.imshow(0.65 + 0.35 * pixels, cmap="gray", vmin=0, vmax=1)
    colours, end = _colours(found)
    strength = np.clip(np.abs(found) / end, 0, 1) ** 0.75
    over.imshow(found, cmap=colours.cmap, norm=colours.norm, alpha=strength)
    over.set_title("attribution over the input", fontsize=10)
    bar = figure.colorbar(
        colours, ax=(plain, over), location="bottom", aspect=45, extend=_extend(found, end)
    )
    bar.set_label(label)
    for axes in (plain, over):
        axes.set(xticks=[], yticks=[])
    return _finished(figure, title, place)


def as_picture(argument: str, image: ArrayLike) -> np.ndarray:
    """An image as Matplotlib shows it, [H, W] or [H, W, 3] of numbers from 0 to 1.

    Raises:
        InputError: if it is no image.
    """
    pixels = as_host_array(argument, image)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if not fits or not pixels.size or pixels.dtype.kind not in "iuf":
        raise InputError(argument, "[H, W], [H, W, 1] or [H, W, 3]", describe(pixels))
    if pixels.dtype == np.uint8:
        return pixels / 255
    pixels = pixels.astype(np.float64)
    low, high = pixels.min(), pixels.max()
    return (pixels - low) / (high - low or 1)


def draw_text(
    words: Sequence[str],
    attributions: ArrayLike,
    *,
    title: str = "",
    label: str = "attribution",
    path: Path | str | None = None,
) -> "Figure":
    """Draws a text whose words have the colour of their attributions.

    Args:
        words: in their order.
        attributions: one for each word.
        title: what is written above.
        label: what the colours mean, below their bar.
        path: see ``draw_image``.

    Returns:
        Matplotlib's figure.

    Raises:
        InputError: if there is no word, or another number of attributions.
    """
    place = None if path is None else writable(path)
    found = as_host_array("attributions", attributions)
    _check_words("words", words)
    if found.shape != (len(words),):
        raise InputError("attributions", f"one for each of {len(words)} words", describe(found))
    lines = _lines(words)
    figure = new_figure(8.2, 1.5 + 0.34 * len(lines))
    text, scale = figure.subplots(2, 1, height_ratios=(0.34 * len(lines), 0.16))
    text.set(xlim=(0, _COLUMNS), ylim=(len(lines) - 0.4, -0.6))
    text.axis("off")
    colours, end = _colours(found)
    for number, line in enumerate(lines):
        for column, place_of_word in line:
            shade = colours.to_rgba(found[place_of_word])
            box = {"facecolor": shade, "edgecolor": "none", "boxstyle": "round,pad=0.18"}
            text.text(
                column, number, printable(words[place_of_word]),
                family="monospace", fontsize=11, va="center", bbox=box, color=_ink(shade),
            )  # fmt: skip
    figure.colorbar(colours, cax=scale, orientation="horizontal", extend=_extend(found, end))
    scale.set_xlabel(label)
    return _finished(figure, title, place)


def _check_words(argument: str, words: Any) -> None:
    """Raises unless words are a sequence of at least one string."""
    found = entries(words)
    if not found or not all(isinstance(word, str) for word in found):
        raise InputError(argument, "a sequence of strings", shown(words))


def _lines(words: Sequence[str]) -> list[list[tuple[float, int]]]:
    """For each line the columns in which words begin, and their numbers."""
    lines: list[list[tuple[float, int]]] = [[]]
    column = 0
    for number, word in enumerate(words):
        length = len(printable(word))
        if lines[-1] and column + length > _COLUMNS:
            lines.append([])
            column = 0
        lines[-1].append((float(column), number))
        column += length + 1
    return lines


def draw_bars(
    names: Sequence[str],
    values: ArrayLike,
    errors: ArrayLike | None = None,
    *,
    title: str = "",
    label: str = "importance",
    most: int = 30,
    path: Path | str | None = None,
) -> "Figure":
    """Draws a horizontal bar for each column of a table, the largest on top.

    Args:
        names: of the columns.
        values: one for each.
        errors: the lengths of error lines, one for each; None for none.
        title: what is written above.
        label: what the lengths mean.
        most: how many bars are drawn at most; the smallest are left out.
        path: see ``draw_image``.

    Returns:
        Matplotlib's figure.

    Raises:
        InputError: if there is no name, or another number of values.
    """
    place = None if path is None else writable(path)
    found = as_host_array("values", values)
    _check_words("names", names)
    check_positive("most", most)
    lengths = None if errors is None else as_host_array("errors", errors)
    for argument, array in {"values": found, "errors": lengths}.items():
        if array is not None and array.shape != (len(names),):
            raise InputError(argument, f"one for each of {len(names)} names", describe(array))
    order = np.argsort(-np.abs(found), kind="stable")[:most]
    order = order[np.argsort(-found[order], kind="stable")]
    figure = new_figure(6.4, 1.3 + 0.3 * len(order))
    axes = figure.subplots()
    lengths = None if lengths is None else lengths[order]
    colours = ["#b2182b" if value >= 0 else "#2166ac" for value in found[order]]
    axes.barh(range(len(order)), found[order], xerr=lengths, color=colours, height=0.65)
    wrapped = [textwrap.shorten(printable(names[k]), 40, placeholder="…") for k in order]
    axes.set_yticks(range(len(order)), wrapped)
    axes.invert_yaxis()
    axes.axvline(0, color="#424242", linewidth=0.8)
    axes.set_xlabel(label if len(order) == len(names) else f"{label} ({len(order)} largest)")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    return _finished(figure, title, place)


def shades(attributions: np.ndarray) -> list[tuple[int, int, int]]:
    """The colour of each attribution, red, green and blue from 0 to 255.

    Args:
        attributions: [N].
    """
    colours, _ = _colours(attributions)
    found = colours.to_rgba(attributions, bytes=True)[:, :3].tolist()
    return [(red, green, blue) for red, green, blue in found]


def _colours(found: np.ndarray) -> tuple[Any, float]:
    """The colours of attributions, and the size at which they end."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    end = float(np.percentile(np.abs(found), _CLIPPED)) or float(np.abs(found).max()) or 1.0
    signed = bool((found < 0).any())
    scale = Normalize(-end if signed else 0, end)
    return ScalarMappable(scale, SIGNED if signed else UNSIGNED), end


def _extend(found: np.ndarray, end: float) -> str:
    """At which ends of the bar there is more than its colours say."""
    above, below = bool((found > end).any()), bool((found < -end).any())
    return "both" if above and below else "max" if above else "min" if below else "neither"


def _ink(shade: tuple[float, ...]) -> str:
    """Black or white, whichever is read on a colour."""
    light = float(np.dot(shade[:3], (0.299, 0.587, 0.114)))
    return "black" if light > 0.5 else "white"


def _finished(figure: Any, title: str, place: Path | None) -> Any:
    if not isinstance(title, str):
        raise InputError("title", "a string", title)
    figure.suptitle(printable(title, limit=None, lines=True), fontsize=11)
    if place is not None:
        save(figure, place)
    return figure
