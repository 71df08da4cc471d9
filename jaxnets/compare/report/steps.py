"""The content of a report on training steps: a table of the metrics, and a figure of each."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from jaxnets.compare.report.content import settings
from jaxnets.compare.report.plots import FLOOR, OURS, THEIRS
from jaxnets.compare.report.wording import FRAMEWORKS
from jaxnets.compare.step_records import StepComparison
from jaxnets.pages.blocks import (
    Block,
    Figure,
    Heading,
    Notice,
    Paragraph,
    Table,
    Title,
)
from jaxnets.pages.figures import canvas
from jaxnets.pages.wording import minus, power, several

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


def content_of_steps(comparison: StepComparison) -> list[Block]:
    """Returns the blocks of the page in order."""
    return [block for section in (_opening, _metrics, _how) for block in section(comparison)]


def _opening(comparison: StepComparison) -> Iterator[Block]:
    course = comparison.theirs[0]
    epochs, steps = len(course.epochs["loss"]), len(course.steps["loss"])
    about = [comparison.date[:10], several(len(comparison.theirs), "seed")]
    about += [several(epochs, "epoch"), several(steps, "step")]
    title = f"{comparison.name}: jaxnets compared with PyTorch"
    yield Title(title, comparison.description, " · ".join(about))
    for finding in comparison.findings:
        where = "" if finding.step is None else f", step {finding.step:,}"
        where += "" if finding.layer is None else f", layer {finding.layer}"
        yield Notice("bad", f"Finding: {finding.statistic}{where}.", finding.text)
    if not comparison.findings:
        text = "No metric differs at any step by more than rounding explains."
        yield Notice("good", "The steps agree.", text)


def _metrics(comparison: StepComparison) -> Iterator[Block]:
    yield Heading("Metrics")
    columns = ["metric", "jaxnets", "PyTorch", "difference", "95 % CI", "largest", "diverges at"]
    rows = [_row(comparison, metric) for metric in comparison.metrics]
    caption = (
        "Means over the seeds in the last epoch, their difference and its confidence interval. "
        "Largest: the largest difference at a step, relative to PyTorch. Departs at: the first "
        "step whose difference rounding does not explain."
    )
    yield Table(caption, columns, "l" + "r" * (len(columns) - 1), rows)
    for metric in comparison.metrics:
        caption = (
            f"Top: {metric} at each step, for each seed. Bottom: the difference of the two, "
            "relative to PyTorch; dashed: the largest difference that rounding explains."
        )
        alt = f"Curves of {metric} over steps, and of the difference."
        yield Figure(f"metric-{metric}", caption, alt, partial(draw, comparison, metric))


def _row(comparison: StepComparison, metric: str) -> list[str]:
    found, divergence = comparison.equivalence(metric), comparison.divergence(metric)
    means = [
        np.mean(comparison.last(metric, side)) for side in (comparison.ours, comparison.theirs)
    ]
    apart = comparison.relative_differences(metric)
    interval = "–"
    if found.interval is not None:
        interval = " to ".join(minus(f"{end:.2g}") for end in found.interval)
    return [
        metric,
        *(minus(f"{mean:.6g}") for mean in means),
        minus(f"{found.difference:.2g}"),
        interval,
        "–" if np.isnan(apart).all() else power(float(np.nanmax(apart))),
        "–" if divergence is None else f"{divergence.step:,}",
    ]


def _how(comparison: StepComparison) -> Iterator[Block]:
    yield Heading("Settings")
    drawn = FRAMEWORKS[comparison.weights_from]
    yield Paragraph(
        f"For each seed, both networks start from the same weights, drawn by {drawn}, and train on "
        "the same batches in the same order."
    )
    yield settings(comparison, [("seeds", ", ".join(str(side.seed) for side in comparison.ours))])


def draw(comparison: StepComparison, metric: str) -> "Drawing":
    """Draws a metric of both frameworks over the steps, and the relative difference."""
    from matplotlib.ticker import MaxNLocator

    steps = np.arange(len(comparison.theirs[0].steps[metric]))
    with canvas(4.8, 4.2) as figure:
        above, below = figure.subplots(2, 1, sharex=True)
        looks = ({"color": THEIRS, "lw": 3.2, "alpha": 0.55}, {"color": OURS, "lw": 1.2})
        for side, look in zip((comparison.theirs, comparison.ours), looks, strict=True):
            for place, course in enumerate(side):
                name = None if place else FRAMEWORKS[course.framework]
                known = np.isfinite(course.steps[metric])
                above.plot(steps[known], course.steps[metric][known], label=name, **look)
        for apart in comparison.relative_differences(metric):
            known = np.isfinite(apart)
            below.plot(steps[known], np.maximum(apart[known], FLOOR), color=OURS, lw=1.2)
        explained = comparison.explained(metric)
        known = np.isfinite(explained)
        below.plot(steps[known], explained[known], "--", color="0.35", lw=1.2, label="rounding")
        above.set(ylabel=metric)
        below.set(xlabel="step", ylabel="relative difference", yscale="log")
        below.xaxis.set_major_locator(MaxNLocator(integer=True))
        for axes in (above, below):
            axes.legend()
    return figure
