"""What training takes."""

from collections.abc import Iterator

import numpy as np

from jaxnets.compare.records import Comparison, Timing
from jaxnets.compare.report.wording import FRAMEWORKS
from jaxnets.pages.blocks import Block, Heading, Paragraph, Table
from jaxnets.pages.wording import seconds


def timing(comparison: Comparison) -> Iterator[Block]:
    """Seconds and megabytes, if they were taken."""
    timings = [each for each in comparison.timings if each.epoch_seconds]
    if not timings:
        return
    yield Heading("Time and memory")
    if len(timings) == 2:
        first, second = (FRAMEWORKS[each.framework] for each in timings)
        ratio = np.median(timings[1].epoch_seconds) / np.median(timings[0].epoch_seconds)
        yield Paragraph(f"An epoch takes {second} {ratio:.2f} times as long as {first}.")
    yield Table(
        "Time of training, one run alone on the machine: the median epoch, its shortest and "
        "longest, without evaluation; compilation, spent once, apart. Memory: the most at a time.",
        ["", "epoch,\xa0s", "range,\xa0s", "compiling,\xa0s", "memory, MB"],
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
