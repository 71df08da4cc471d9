"""The sections on the training losses and on the growth of their differences."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from jaxnets.compare.records import Comparison
from jaxnets.compare.report import plots
from jaxnets.compare.report.wording import Scale, bands, names
from jaxnets.pages.blocks import Block, Figure, Heading, Paragraph, Table
from jaxnets.pages.wording import power, several


def losses(comparison: Comparison) -> Iterator[Block]:
    """Yields the section on the training losses; nothing for fewer than two steps."""
    steps = min(len(s.step_losses) for pair in comparison.pairs for s in (pair.ours, pair.theirs))
    if steps < 2:
        return
    ours, theirs = names(comparison)
    yield Heading("Training loss")
    group = f", averaged over {steps // 120:,} steps at a time" if steps >= 240 else ""
    caption = f"Training loss of {ours} and {theirs}{group}: {bands(comparison)}."
    alt = "Curves of the training loss over steps."
    yield Figure("losses", caption, alt, partial(plots.losses, comparison))


def rounding(comparison: Comparison) -> Iterator[Block]:
    """Yields the section on the differences of the losses at each step; nothing if not paired."""
    if not comparison.paired:
        return
    found = plots.differences([(pair.ours, pair.theirs) for pair in comparison.pairs])
    ours, theirs = names(comparison)
    yield Heading("Step by step")
    first = float(found[:, 0].max())
    apart = f"differ by at most {power(first)}" if first else "are equal"
    text = (
        f"At the first step, the losses of {ours} and {theirs} {apart}. The frameworks sum in "
        "different orders and therefore round differently; these differences grow in training."
    )
    control = None
    if comparison.control is not None:
        run = comparison.control
        control = plots.differences([(run.run, comparison.pairs[0].theirs)])
        text += (
            f" The control shows how much rounding alone changes: a second {theirs} run from seed "
            f"{run.run.seed}, with {several(run.threads[1], 'thread')} instead of "
            f"{run.threads[0]}. Its final score is {Scale.of(comparison).score(run.run.score)}."
        )
    yield Paragraph(text)
    yield _rounding_table(comparison, found, control)
    if found.shape[1] > 1:
        caption = (
            "Absolute difference of the training losses at each step: "
            f"{bands(comparison)}. Both axes are logarithmic; smaller values are drawn as 10⁻⁸."
        )
        if comparison.control is not None:
            caption += f" The control is only from seed {comparison.control.run.seed}."
        alt = "Curves of the difference of losses over steps, which grow."
        yield Figure("rounding", caption, alt, partial(plots.rounding, comparison))


def _rounding_table(comparison: Comparison, found: np.ndarray, control: np.ndarray | None) -> Table:
    ours, theirs = names(comparison)
    columns = ["steps", f"{ours} − {theirs}", "largest"]
    columns += [] if control is None else [f"{theirs} − {theirs}"]
    rows = []
    for first, last in _windows(found.shape[1]):
        means = found[:, first - 1 : last].mean(1)
        row = [f"{first:,}" if first == last else f"{first:,}–{last:,}"]
        row += [power(float(np.median(means))), power(float(means.max()))]
        row += [] if control is None else [power(float(control[0, first - 1 : last].mean()))]
        rows.append(row)
    caption = "Mean absolute difference of the training losses over these steps"
    caption += ": median over seeds, largest" if len(found) > 1 else ""
    caption += "." if control is None else ", and that of the control."
    if len(found) == 1:  # the median and the maximum are equal
        columns, rows = [*columns[:2], *columns[3:]], [[*row[:2], *row[3:]] for row in rows]
    return Table(caption, columns, "l" + "r" * (len(columns) - 1), rows)


def _windows(steps: int) -> list[tuple[int, int]]:
    """Splits the steps into decades; returns the first and last step of each, counted from 1."""
    ends = [10**power for power in range(len(str(steps))) if 10**power < steps] + [steps]
    return list(zip([1, *(end + 1 for end in ends[:-1])], ends, strict=True))
