"""Draws the figures at the top of README.md from recorded results: python scripts/draw_hero.py."""

import json
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
IMAGES = ROOT / "docs" / "images"
BATCH = 64
SHOWN = 250  # training steps
OURS, THEIRS = "#d95f02", "#4c6aa5"


def ratios(found: dict[str, Any]) -> list[tuple[str, float]]:
    """Returns the time of a training step in eager PyTorch divided by jaxnets', by network.

    Args:
        found: what ``benchmarks/own_networks.py`` wrote.
    """
    rows = [
        row
        for row in found["rows"]
        if (row["what"], row["dtype"], row["batch"]) == ("train", "float32", BATCH)
    ]
    times = [
        [
            statistics.median(row["competitors"][name]["seconds"])
            for name in ("torch eager", "jaxnets")
        ]
        for row in rows
    ]
    pairs = [(row["network"], a / b) for row, (a, b) in zip(rows, times, strict=True)]
    return sorted(pairs, key=lambda pair: pair[1])


def draw_losses(found: dict[str, Any], path: Path) -> None:
    """Draws the first losses of both frameworks in one plot.

    Args:
        found: the record of ``benchmarks/same_losses.py``.
        path: path of the PNG.
    """
    with _axes(path) as axes:
        theirs, ours = ([row[k] for row in found["rows"][:SHOWN]] for k in (1, 0))
        axes.plot(theirs, color=THEIRS, linewidth=4.5, alpha=0.45, label="PyTorch")
        axes.plot(ours, color=OURS, linewidth=1.1, label="jaxnets")
        axes.set(xlabel="training step of LeNet on MNIST", ylabel="loss")
        most, steps = found["largest_difference"], len(found["rows"])
        axes.set_title(
            f"The same numbers: {steps} losses\nwithin {most:.0e} of PyTorch's (float64)"
        )
        axes.legend(frameon=False)


def draw_ratios(found: dict[str, Any], path: Path) -> None:
    """Draws the time of PyTorch divided by the time of jaxnets.

    Args:
        found: what ``benchmarks/own_networks.py`` wrote.
        path: of the PNG.
    """
    with _axes(path) as axes:
        names, values = zip(*ratios(found), strict=True)
        bars = axes.barh(names, values, color=OURS)
        axes.bar_label(bars, [f"{value:.1f}×" for value in values], padding=3)
        axes.axvline(1, color=THEIRS, linestyle="--")
        axes.set(xlim=(0, 1.12 * max(values)), xlabel="PyTorch's time for a step ÷ jaxnets'")
        axes.set_title(f"Faster: training steps at batch {BATCH}\non 2 CPU cores")


@contextmanager
def _axes(path: Path) -> Iterator[Any]:
    """Yields the axes of a figure, and saves the figure at the end."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 13})
    figure, axes = pyplot.subplots(figsize=(5.4, 4.9))
    yield axes
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


if __name__ == "__main__":
    for name, file, drawn in (
        ("same_losses", "same-losses.png", draw_losses),
        ("own_networks", "faster-steps.png", draw_ratios),
    ):
        drawn(json.loads((RESULTS / f"{name}.json").read_text()), IMAGES / file)
