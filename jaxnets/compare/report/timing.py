"""The section on time and memory."""

from collections.abc import Iterator

import numpy as np

from jaxnets.compare.records import Comparison, Timing
from jaxnets.compare.report.wording import FRAMEWORKS
from jaxnets.pages.blocks import Block, Heading, Paragraph, Table
from jaxnets.pages.wording import seconds


def timing(comparison: Comparison) -> Iterator[Block]:
    """Yields the section on time and memory; nothing without timings."""
    timings = [each for each in comparison.timings if each.epoch_seconds]
    if not timings:
        return
    yield Heading("Time and memory")
    if len(timings) == 2:
        first, second = (FRAMEWORKS[each.framework] for each in timings)
        ratio = np.median(timings[1].epoch_seconds) / np.median(timings[0].epoch_seconds)
        yield Paragraph(f"An epoch in {second} takes {ratio:.2f} times as long as in {first}.")
    yield Table(
        "Training time of one separate run: the median epoch, and the shortest and longest, "
        "without evaluation and compilation, which takes place once. Memory: the peak.",
        ["", "epoch,\xa0s", "range,\xa0s", "compilation,\xa0s", "memory, MB"],
        "lrrrr",
        [_row(each) for each in timings],
    )


def _row(timing: Timing) -> list[str]:
    all_seconds = timing.epoch_seconds
    return [
        FRAMEWORKS[timing.framework],
        seconds(float(np.median(all_seconds))),
        f"{seconds(min(all_seconds))}–{seconds(max(all_seconds))}",
        seconds(timing.compile_seconds) if timing.compile_seconds else "–",
        "–" if timing.peak_memory is None else f"{timing.peak_memory:,.0f}",
    ]
