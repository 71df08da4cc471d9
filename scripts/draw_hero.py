"""Draws docs/images/equal-and-faster.png from recorded figures: python scripts/draw_hero.py."""

import json
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
FIGURE = ROOT / "docs" / "images" / "equal-and-faster.png"
BATCH = 64
SHOWN = 250  # training steps
OURS, THEIRS = "#d95f02", "#4c6aa5"


def ratios(found: dict[str, Any]) -> list[tuple[str, float]]:
    """PyTorch eager's time of a training step divided by jaxnets', by network.

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


def draw(losses: dict[str, Any], speed: dict[str, Any], path: Path) -> None:
    """Draws the losses of both frameworks on one panel, and the ratios of times on another."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 13})
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9.4, 4.9), width_ratios=(1, 1.15))
    theirs, ours = ([row[k] for row in losses["rows"][:SHOWN]] for k in (1, 0))
    left.plot(theirs, color=THEIRS, linewidth=4.5, alpha=0.45, label="PyTorch")
    left.plot(ours, color=OURS, linewidth=1.1, label="jaxnets")
    left.set(xlabel="training step of LeNet on MNIST", ylabel="loss")
    most, steps = losses["largest_difference"], len(losses["rows"])
    left.set_title(f"The same numbers: {steps} losses\nwithin {most:.0e} of PyTorch's (float64)")
    left.legend(frameon=False)
    names, values = zip(*ratios(speed), strict=True)
    bars = right.barh(names, values, color=OURS)
    right.bar_label(bars, [f"{value:.1f}×" for value in values], padding=3)
    right.axvline(1, color=THEIRS, linestyle="--")
    right.set(xlim=(0, 1.12 * max(values)), xlabel="PyTorch's time for a step ÷ jaxnets'")
    right.set_title(f"Faster: training steps at batch {BATCH}\non 2 CPU cores")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout(w_pad=3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


if __name__ == "__main__":
    records = [
        json.loads((RESULTS / f"{name}.json").read_text())
        for name in ("same_losses", "own_networks")
    ]
    draw(records[0], records[1], FIGURE)
