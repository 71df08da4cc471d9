"""The figures of a report, narrow enough to be legible on a phone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnets.compare.records import Comparison, Control, Disagreement, Side
from jaxnets.compare.report.wording import FRAMEWORKS, Scale, measured
from jaxnets.pages.figures import BLUE, GREY, RED, called, canvas, pictures, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, THEIRS, CONTROL = BLUE, RED, GREY
FLOOR = 1e-8  # about half the spacing of float32 numbers near 0.1


def scores(comparison: Comparison) -> "Figure":
    """Draws the score of each seed, and the difference of the means with the margin."""
    scale, equivalence = Scale.of(comparison), comparison.equivalence
    names = [FRAMEWORKS[name] for name in comparison.frameworks]
    points = scale.factor * np.array([[p.ours.score, p.theirs.score] for p in comparison.pairs])
    with canvas(4.8, 3.3) as figure:
        above, below = figure.subplots(2, 1, height_ratios=(1.25, 1))
        if comparison.paired:
            above.plot(points.T, [[1] * len(points), [0] * len(points)], color="0.8", lw=0.8)
        for row, colour in ((0, OURS), (1, THEIRS)):
            above.plot(points[:, row], [1 - row] * len(points), "o", color=colour, ms=5, alpha=0.7)
            above.plot(points[:, row].mean(), 1 - row, "|", color="black", ms=18, mew=1.6)
        above.set(yticks=[1, 0], yticklabels=names, ylim=(-0.5, 1.5))
        above.set_xlabel(_axis(comparison))
        if comparison.paired:
            each = points[:, 0] - points[:, 1]
            below.plot(each, [0.25] * len(each), "o", color="0.45", ms=5, alpha=0.6)
        margin = scale.factor * equivalence.margin
        below.axvspan(-margin, margin, color=OURS, alpha=0.12, lw=0)
        below.axvline(0, color="black", lw=0.8)
        if equivalence.interval is not None:
            below.plot([scale.factor * end for end in equivalence.interval], [-0.25] * 2, "k", lw=2)
        below.plot(scale.factor * equivalence.difference, -0.25, "kD", ms=5)
        rows = {0.25: "each seed"} if comparison.paired else {}
        rows |= {-0.25: "mean, 95 % CI"}
        below.set(yticks=list(rows), yticklabels=list(rows.values()), ylim=(-0.6, 0.6))
        below.set_xlabel(" − ".join(names) + (", percentage points" if scale.unit else ""))
        for axes in (above, below):
            axes.grid(axis="y", visible=False)
            axes.margins(x=0.08)
    return figure


def epochs(comparison: Comparison) -> "Figure":
    """Draws the score after each epoch."""
    from matplotlib.ticker import MaxNLocator

    with canvas(4.8, 3.1) as figure:
        axes = figure.subplots()
        for which in (1, 0):
            sides = _sides(comparison, which)
            values = Scale.of(comparison).factor * _stacked(
                [one.test_loss if one.test_accuracy is None else one.test_accuracy for one in sides]
            )
            _laid_over(axes, np.arange(1, values.shape[1] + 1), values, comparison, which)
        axes.set(xlabel="epoch", ylabel=_axis(comparison))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(axes)
    return figure


def losses(comparison: Comparison) -> "Figure":
    """Draws the training losses of both frameworks, averaged over groups of steps."""
    with canvas(4.8, 3.1) as figure:
        axes = figure.subplots()
        drawn = []
        for which in (1, 0):
            values = _stacked([side.step_losses for side in _sides(comparison, which)])
            edges = np.unique(np.linspace(0, values.shape[1], 121).astype(int))
            values = _binned(values, edges)
            _laid_over(axes, (edges[:-1] + edges[1:] + 1) / 2, values, comparison, which)
            drawn.append(values)
        finite = np.ma.masked_invalid(np.hstack(drawn)).compressed()
        axes.set(xlabel="step", ylabel="training loss")
        if finite.size and 0 < 10 * finite.min() < finite.max():
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        _legend(axes)
    return figure


def rounding(comparison: Comparison) -> "Figure":
    """Draws the absolute difference of the losses at each step, and that of the control."""
    pairs = [(pair.ours, pair.theirs) for pair in comparison.pairs]
    shown = [(" − ".join(FRAMEWORKS[name] for name in comparison.frameworks), OURS, pairs)]
    if comparison.control is not None:
        control = [(comparison.control.run, pairs[0][1])]
        shown.append((f"{beside(comparison.control)}", CONTROL, control))
    with canvas(4.8, 3.3) as figure:
        axes = figure.subplots()
        for label, colour, sides in shown:
            values = differences(sides)
            edges = np.unique(np.geomspace(1, values.shape[1] + 1, 91).astype(int)) - 1
            middle = np.sqrt((edges[:-1] + 1.0) * edges[1:])
            values = np.maximum(_binned(values, edges), FLOOR)
            low, median, high = _spread(values)
            axes.fill_between(middle, low, high, color=colour, alpha=0.2, lw=0)
            dashes = "--" if colour == CONTROL else "-"
            axes.plot(middle, median, dashes, color=colour, lw=1.6, label=label)
            if comparison.control is not None and len(values) > 1:
                same = f"the same, only seed {comparison.control.run.seed}"
                axes.plot(middle, values[0], ":", color=colour, lw=1.1, label=same)
        axes.set(xscale="log", yscale="log", xlabel="step", ylabel="|Δ training loss|")
        axes.set_ylim(bottom=FLOOR / 1.5)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    return figure


def examples(
    shown: Sequence[Disagreement], names: Sequence[str] | None, frameworks: Sequence[str]
) -> "Figure":
    """Draws images with different predictions, with their labels and both predictions.

    Args:
        shown: the disagreements, all with images.
        names: the names of the classes; None for their numbers.
        frameworks: the names of the two frameworks.
    """
    colours = ("black", OURS, THEIRS)
    captions = [
        [
            (f"{who}: {short(called(what, names))}", colour)
            for who, what, colour in zip(
                ("label", *frameworks), (one.label, one.ours, one.theirs), colours, strict=True
            )
        ]
        for one in shown
    ]
    return pictures([np.asarray(one.image) for one in shown], captions)


def differences(pairs: Sequence[tuple[Side, Side]]) -> np.ndarray:
    """Returns the absolute difference of the losses, [pairs, steps], up to the shortest run."""
    first, second = (_stacked([pair[which].step_losses for pair in pairs]) for which in (0, 1))
    steps = min(first.shape[1], second.shape[1])
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN
        return np.abs(first[:, :steps] - second[:, :steps])


def beside(control: Control) -> str:
    """Returns the label of the control's difference."""
    name = FRAMEWORKS[control.run.framework]
    return f"{name} − {name}, {control.threads[1]} and {control.threads[0]} threads"


def _axis(comparison: Comparison) -> str:
    return f"test {measured(comparison)}" + (", %" if comparison.measure == "accuracy" else "")


def _sides(comparison: Comparison, which: int) -> list[Side]:
    return [(pair.ours, pair.theirs)[which] for pair in comparison.pairs]


def _stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks rows, cut to the length of the shortest."""
    shortest = min(map(len, rows))
    return np.array([row[:shortest] for row in rows], np.float64)


def _binned(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Returns the means of the groups of columns between edges; the last edge is the width."""
    return np.add.reduceat(values, edges[:-1], axis=1) / np.diff(edges)


def _spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return values.min(0), np.median(values, 0), values.max(0)


def _laid_over(
    axes: "Axes", x: np.ndarray, values: np.ndarray, comparison: Comparison, which: int
) -> None:
    """Draws the curve of one framework.

    The other framework's curve is wide and pale, that of jaxnets thin and on top of it, so that
    both are visible where they are equal.
    """
    low, median, high = _spread(values)
    colour = (OURS, THEIRS)[which]
    axes.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
    look: dict[str, Any] = {"lw": 1.2} if which == 0 else {"lw": 3.2, "alpha": 0.55}
    label = FRAMEWORKS[comparison.frameworks[which]]
    axes.plot(x, median, color=colour, label=label, **look)


def _legend(axes: "Axes") -> None:
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1])
