"""The content of a report: sentences, tables and figures, for all formats."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxnets.compare.records import Comparison
from jaxnets.compare.report import plots
from jaxnets.compare.report.growth import losses, rounding
from jaxnets.compare.report.predictions import agreement_of, predictions
from jaxnets.compare.report.timing import timing
from jaxnets.compare.report.verdict import verdict
from jaxnets.compare.report.wording import (
    FRAMEWORKS,
    Scale,
    bands,
    measured,
    names,
)
from jaxnets.pages.blocks import (
    Block,
    Command,
    Figure,
    Heading,
    Notice,
    Paragraph,
    Table,
    Title,
)
from jaxnets.pages.settings import settings_table
from jaxnets.pages.wording import several


def content(comparison: Comparison) -> list[Block]:
    """Returns the blocks of the page in order; sections without data are omitted.

    Args:
        comparison: the comparison, with at least one pair.
    """
    return [
        block
        for section in (_opening, _scores, losses, rounding, predictions, timing, _how)
        for block in section(comparison)
    ]


def _opening(comparison: Comparison) -> Iterator[Block]:
    ours, theirs = names(comparison)
    about = [comparison.date[:10], several(len(comparison.pairs), "seed")]
    about += [several(len(comparison.pairs[0].ours.test_loss), "epoch")]
    about += [str(comparison.machine[part]) for part in ("device",) if part in comparison.machine]
    title = f"{comparison.name}: {ours} compared with {theirs}"
    yield Title(title, comparison.description, " · ".join(about))
    for finding in comparison.findings:
        where = "" if finding.step is None else f", step {finding.step:,}"
        where += "" if finding.layer is None else f", layer {finding.layer}"
        yield Notice("bad", f"Finding: {finding.statistic}{where}.", finding.text)
    yield verdict(comparison)
    if comparison.reference is not None:
        text = comparison.reference.strip().removesuffix(".")
        off = "dropout" in comparison.settings  # added by the engine if dropout is off
        note = " That result is with dropout, which is off in this comparison." if off else ""
        yield Paragraph(f"{text[:1].upper()}{text[1:]}.{note}")


def _scores(comparison: Comparison) -> Iterator[Block]:
    yield Heading(f"Test {measured(comparison)}")
    yield _score_table(comparison)
    ours, theirs = names(comparison)
    if len(comparison.pairs) > 1:
        lines = ", with a line for each seed" if comparison.paired else ""
        caption = (
            f"Top: the test {measured(comparison)} from each seed{lines}; vertical bars are means. "
            "Bottom: the difference; the shaded band is the margin of equivalence."
        )
        alt = f"Dots: {measured(comparison)} of {ours} and of {theirs} for each seed."
        yield Figure("scores", caption, alt, partial(plots.scores, comparison))
    if len(comparison.pairs[0].ours.test_loss) > 1:
        caption = f"Test {measured(comparison)} after each epoch: {bands(comparison)}."
        alt = f"Curves of the test {measured(comparison)} over epochs."
        yield Figure("epochs", caption, alt, partial(plots.epochs, comparison))


def _score_table(comparison: Comparison) -> Table:
    scale, found = Scale.of(comparison), comparison.equivalence
    pairs, agreement = comparison.pairs, agreement_of(comparison)
    apart = [scale.signed(pair.ours.score - pair.theirs.score) for pair in pairs]
    low, high = map(scale.signed, found.interval or (0, 0))
    about = [scale.signed(found.difference), scale.bare(found.std or 0), f"{low} to {high}"]
    columns = [
        ["seed", *(str(pair.seed) for pair in pairs), "mean", "± SD", "95 % CI"],
        [names(comparison)[0], *_summed([pair.ours.score for pair in pairs], scale.bare)],
        [names(comparison)[1], *_summed([pair.theirs.score for pair in pairs], scale.bare)],
        ["difference", *(apart if found.paired else ["–"] * len(pairs)), *about],
    ]
    unit = " in percent, differences in percentage points" if scale.unit else ""
    caption = f"Test {measured(comparison)} after the last epoch{unit}."
    if agreement is not None:
        columns.append(["same", *_summed(agreement, lambda share: f"{100 * share:.2f}")])
        caption += " Same: percentage of test examples with the same predicted class."
    sums = 0 if found.interval is None else 3
    head, *rows = zip(*columns, strict=True)
    align = "l" + "r" * (len(head) - 1)
    return Table(caption, head, align, rows[: len(pairs) + sums], sums)


def _summed(values: Sequence[float], written: Callable[[float], str]) -> list[str]:
    """Returns the cells of a column: each value, the mean, the standard deviation, no interval."""
    std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return [*map(written, values), written(float(np.mean(values))), written(std), ""]


def _how(comparison: Comparison) -> Iterator[Block]:
    yield Heading("Settings")
    ours, theirs = names(comparison)
    if comparison.paired:
        drawn = comparison.weights_from
        by = f", drawn by {FRAMEWORKS.get(drawn, drawn)}" if drawn is not None else ""
        text = (
            f"For each seed, both networks start from the same weights{by}, and train on the same "
            "batches."
        )
    else:
        text = (
            f"{ours} and {theirs} each drew their own weights and order of examples, from the same "
            "distributions. Only the distributions of the scores can be compared."
        )
    yield Paragraph(text)
    rows = [("seeds", ", ".join(str(pair.seed) for pair in comparison.pairs))]
    rows += [("margin", Scale.of(comparison).within(comparison.margin))]
    yield settings(comparison, rows)
    if comparison.command is not None:
        yield Command(comparison.command)


def settings(comparison: Any, rows: Sequence[tuple[str, str]]) -> Table:
    """Returns a table of the settings, versions and machine of a comparison.

    Args:
        comparison: a ``Comparison`` or ``StepComparison``.
        rows: further rows, as (name, value).
    """
    about = [*rows, ("date", comparison.date)]
    return settings_table(comparison.settings, about, comparison.versions, comparison.machine)
