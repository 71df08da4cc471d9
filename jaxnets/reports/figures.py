"""The figures of an evaluation; figures of several reports are in ``jaxnets.pages.figures``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnets.pages.figures import BLUE, GREY, RED, called, canvas, pictures, short
from jaxnets.reports.records import Mistake, Regression
from jaxnets.scores import Calibration
from jaxnets.training import EpochRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS = 5000  # largest number of points in a figure
_VALUES = 4  # largest number of columns, each with its own axes


def reliability(found: Calibration) -> "Figure":
    """Draws a reliability diagram, and the number of predictions in each bin below."""
    with canvas(4.2, 4) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        known, width = found.count > 0, np.diff(found.edges)
        centres = found.edges[:-1] + width / 2
        bars: dict[str, Any] = {"color": BLUE, "alpha": 0.75, "edgecolor": "white"}
        above.bar(centres[known], found.accuracy[known], width[known], label="accuracy", **bars)
        above.plot([0, 1], [0, 1], "--", color=GREY, lw=1, label="perfect calibration")
        above.plot(
            found.confidence[known],
            found.accuracy[known],
            "o-",
            color=RED,
            ms=3.5,
            lw=1.2,
            label="at the mean confidence",
        )
        above.set(ylabel="share of correct", ylim=(0, 1.02), xlim=(0, 1))
        above.legend(loc="upper left")
        below.bar(centres[known], found.count[known], width[known], **bars)
        below.set(xlabel="confidence", ylabel="predictions", yscale="log", ylim=(0.7, None))
        below.yaxis.set_major_formatter("{x:,.0f}")
    return figure


def mistakes(shown: Sequence[Mistake], names: Sequence[str]) -> "Figure":
    """Draws images with wrong predictions, with the true and the predicted class."""
    drawn = {name: short(called(number, names)) for number, name in enumerate(names)}
    captions = [
        [
            (f"true: {drawn[each.label]}", "black"),
            (f"predicted: {drawn[each.predicted]}", RED),
            (f"at {100 * each.probability:.1f} %", GREY),
        ]
        for each in shown
    ]
    return pictures([each.image for each in shown if each.image is not None], captions)


def predicted_and_true(found: Regression) -> "Figure":
    """Draws predicted against true values, and the diagonal."""
    names = found.names[:_VALUES]
    chosen = slice(None, None, -(-len(found.true) // _POINTS))
    with canvas(4.6, 3.4 * len(names)) as figure:
        for column, axes in enumerate(figure.subplots(len(names), 1, squeeze=False)[:, 0]):
            true, predicted = found.true[chosen, column], found.predicted[chosen, column]
            ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
            axes.plot(ends, ends, "--", color=GREY, lw=1)
            axes.plot(true, predicted, "o", color=BLUE, ms=3, alpha=0.5, mew=0)
            axes.set(xlabel=_of("true", names, column), ylabel=_of("predicted", names, column))
    return figure


def residuals(found: Regression) -> "Figure":
    """Draws a histogram of the errors."""
    names = found.names[:_VALUES]
    with canvas(4.6, 2.6 * len(names)) as figure:
        for column, axes in enumerate(figure.subplots(len(names), 1, squeeze=False)[:, 0]):
            errors = found.residuals[:, column]
            bins = int(np.clip(np.sqrt(len(errors)), 5, 40))
            axes.hist(errors, bins, color=BLUE, alpha=0.75, edgecolor="white")
            axes.axvline(0, color=GREY, lw=1, ls="--")
            axes.set(xlabel=_of("predicted minus true", names, column), ylabel="examples")
    return figure


def _of(what: str, names: Sequence[str], column: int) -> str:
    return what if len(names) == 1 else f"{what}, {names[column]}"


def training(history: Sequence[EpochRecord], rates: np.ndarray | None) -> "Figure":
    """Draws loss, accuracy if known, and learning rate over the epochs.

    Args:
        history: a record for each epoch.
        rates: epochs and learning rates, [2, points]; None if unknown.
    """
    from matplotlib.ticker import MaxNLocator

    drawn = [name for name in ("loss", "accuracy") if history and _known(history, name)]
    rows = len(drawn) + (rates is not None)
    with canvas(4.6, 0.5 + 1.8 * rows) as figure:
        every = list(figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0])
        for axes, name in zip(every, drawn, strict=False):
            _curves(axes, history, name)
        if rates is not None:
            every[-1].plot(*rates, color=BLUE, lw=1.4, drawstyle="steps-post")
            every[-1].set(ylabel="learning rate")
            every[-1].set_ylim(bottom=0)
        every[-1].set(xlabel="epoch")
        every[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.align_ylabels()
    return figure


def _known(history: Sequence[EpochRecord], name: str) -> bool:
    return any(name in each for record in history for each in (record.train, record.test))


def _curves(axes: "Axes", history: Sequence[EpochRecord], name: str) -> None:
    scale = 100 if name == "accuracy" else 1
    for part, colour, mark in (("train", BLUE, "o"), ("test", RED, "s")):
        points = [(record.epoch, record.value(f"{part}_{name}")) for record in history]
        known = [(epoch, scale * value) for epoch, value in points if value is not None]
        if known:
            epochs, values = zip(*known, strict=True)
            axes.plot(epochs, values, f"{mark}-", color=colour, ms=3, lw=1.3, label=part)
    axes.set(ylabel=name if scale == 1 else f"{name}, %")
    axes.legend()
