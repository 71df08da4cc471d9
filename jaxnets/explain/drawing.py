"""Draws attributions: over an image, behind the words of a text, or as bars."""

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

#: Color maps for attributions with and without negative values.
SIGNED, UNSIGNED = "RdBu_r", "Reds"
_CLIPPED = 99.5  # the percentile at which colors saturate, so that outliers do not hide the rest
_COLUMNS = 76  # characters in a line of a text


def draw_image(
    image: ArrayLike,
    attributions: ArrayLike,
    *,
    title: str = "",
    label: str = "attribution",
    path: Path | str | None = None,
) -> "Figure":
    """Draws an image, and its attributions over a pale copy.

    Red marks inputs that increase the explained output and blue those that decrease it; without
    negative attributions, red marks important inputs. Larger attributions are more opaque.

    Args:
        image: [H, W], [H, W, 1] or [H, W, 3], uint8 or numbers of any range.
        attributions: [H, W], or [H, W, channels], which are summed over the channels.
        title: the title of the figure.
        label: the label of the color bar.
        path: a file to save the figure to, which is replaced if it exists; None saves nothing.

    Returns:
        The Matplotlib figure.

    Raises:
        InputError: if the shapes are not those of an image, or differ.
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
    """Converts an image to what Matplotlib draws, floats [H, W] or [H, W, 3] from 0 to 1.

    Args:
        argument: the name of the argument, for the message.
        image: the image; other dtypes than uint8 are scaled from their range.

    Raises:
        InputError: if the shape is not that of an image.
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
    """Draws a text, with a background for each word in the color of its attribution.

    Args:
        words: the words, in order.
        attributions: one attribution for each word.
        title: the title of the figure.
        label: the label of the color bar.
        path: see ``draw_image``.

    Returns:
        The Matplotlib figure.

    Raises:
        InputError: if there are no words, or another number of attributions.
    """
    place = None if path is None else writable(path)
    found = as_host_array("attributions", attributions)
    _check_words("words", words)
    if found.shape != (len(words),):
        raise InputError(
            "attributions", f"one number for each of {len(words)} words", describe(found)
        )
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
    """Checks that ``words`` is a sequence of at least one string."""
    found = entries(words)
    if not found or not all(isinstance(word, str) for word in found):
        raise InputError(argument, "a sequence of strings", shown(words))


def _lines(words: Sequence[str]) -> list[list[tuple[float, int]]]:
    """Breaks a text into lines; returns, for each line, pairs of a word's column and its index."""
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
    """Draws a horizontal bar for each name, the largest value on top.

    Args:
        names: the names, such as the columns of a table.
        values: one value for each name.
        errors: the half-length of an error bar for each name; None for no error bars.
        title: the title of the figure.
        label: the label of the axis.
        most: the largest number of bars; the smallest values are omitted.
        path: see ``draw_image``.

    Returns:
        The Matplotlib figure.

    Raises:
        InputError: if there are no names, or another number of values.
    """
    place = None if path is None else writable(path)
    found = as_host_array("values", values)
    _check_words("names", names)
    check_positive("most", most)
    lengths = None if errors is None else as_host_array("errors", errors)
    for argument, array in {"values": found, "errors": lengths}.items():
        if array is not None and array.shape != (len(names),):
            raise InputError(
                argument, f"one number for each of {len(names)} names", describe(array)
            )
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
    """Returns the color of each attribution, as red, green and blue from 0 to 255.

    Args:
        attributions: the attributions, [N].
    """
    colours, _ = _colours(attributions)
    found = colours.to_rgba(attributions, bytes=True)[:, :3].tolist()
    return [(red, green, blue) for red, green, blue in found]


def _colours(found: np.ndarray) -> tuple[Any, float]:
    """Returns the color scale of attributions, and the absolute value at which it saturates."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    end = float(np.percentile(np.abs(found), _CLIPPED)) or float(np.abs(found).max()) or 1.0
    signed = bool((found < 0).any())
    scale = Normalize(-end if signed else 0, end)
    return ScalarMappable(scale, SIGNED if signed else UNSIGNED), end


def _extend(found: np.ndarray, end: float) -> str:
    """Returns the ends at which values exceed the color bar, for Matplotlib's ``extend``."""
    above, below = bool((found > end).any()), bool((found < -end).any())
    return "both" if above and below else "max" if above else "min" if below else "neither"


def _ink(shade: tuple[float, ...]) -> str:
    """Returns black or white, whichever is legible on a color."""
    light = float(np.dot(shade[:3], (0.299, 0.587, 0.114)))
    return "black" if light > 0.5 else "white"


def _finished(figure: Any, title: str, place: Path | None) -> Any:
    if not isinstance(title, str):
        raise InputError("title", "a string", title)
    figure.suptitle(printable(title, limit=None, lines=True), fontsize=11)
    if place is not None:
        save(figure, place)
    return figure
