"""Figures of bars, to be read on a phone."""

import math
import statistics
from pathlib import Path


def draw(rows: list[dict], key: str, title: str, path: Path) -> None:
    """Draws medians in microseconds, with the ratio to jaxnets' time next to each bar.

    Args:
        rows: rows of a benchmark's results.
        key: field of a row by which seconds are divided: ``steps`` or ``calls``.
        title: title of the figure.
        path: path of the PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    batches = sorted({row["batch"] for row in rows})
    networks = list(dict.fromkeys(row["network"] for row in rows))
    size = 4.2 * len(batches), 2.1 * len(networks) + 0.8
    figure, axes = pyplot.subplots(len(networks), len(batches), figsize=size, squeeze=False)
    for row in rows:
        axis = axes[networks.index(row["network"])][batches.index(row["batch"])]
        panel(axis, row, key)
    figure.suptitle(title, fontsize=14)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def panel(axis, row: dict, key: str) -> None:
    """Bars of one network and batch, the first on top."""
    times = {
        name: 1e6 * statistics.median(of["seconds"]) / row[key]
        for name, of in row["competitors"].items()
        if "failed" not in of
    }
    colors = ["#d95f02" if name == "jaxnets" else "#8da0cb" for name in times]
    bars = axis.barh(list(times), list(times.values()), color=colors)
    labels = [
        f"{time:,.0f} µs, {time / times.get('jaxnets', math.nan):.2g}×" for time in times.values()
    ]
    axis.bar_label(bars, labels, padding=3, fontsize=11)
    axis.set_xlim(0, 2.1 * max(times.values()))
    axis.set_title(f"{row['network']}, batch {row['batch']}", fontsize=12)
    axis.set_xticks([])
    axis.tick_params(axis="y", labelsize=11)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.invert_yaxis()


def draw_ratios(rows: list[dict], what: str, path: Path) -> None:
    """Draws PyTorch eager's time divided by jaxnets' in float32, one group of bars per network.

    Args:
        rows: rows of the results of `own_networks.py`.
        what: ``train`` or ``inference``.
        path: path of the PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    title, batches = {
        "train": ("A training step", (64, 256)),
        "inference": ("Inference", (1, 256)),
    }[what]
    networks = list(dict.fromkeys(row["network"] for row in rows))
    own = [row for row in rows if (row["what"], row["dtype"]) == (what, "float32")]
    figure, axis = pyplot.subplots(figsize=(5.5, 0.5 * len(networks) + 1.8))
    for shift, batch, color in zip((-0.2, 0.2), batches, ("#8da0cb", "#d95f02"), strict=True):
        found = {row["network"]: eager_ratio(row) for row in own if row["batch"] == batch}
        values = [found.get(network, 0.0) for network in networks]
        places = [number + shift for number in range(len(networks))]
        bars = axis.barh(places, values, 0.4, color=color, label=f"batch {batch}")
        axis.bar_label(bars, [f"{value:.2f}" if value else "" for value in values], padding=3)
    axis.axvline(1, color="black", zorder=0)
    axis.set_xlim(0, 1.15 * max(1.0, axis.get_xlim()[1]))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.03), ncol=2)
    axis.set_yticks(range(len(networks)), networks, fontsize=12)
    axis.set_ylim(len(networks) - 0.5, -0.5)
    axis.set_title(f"{title}: PyTorch's time ÷ jaxnets'", fontsize=13)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def eager_ratio(row: dict) -> float:
    """PyTorch eager's median divided by jaxnets'; 0 where one of them failed or was left out."""
    of = [row["competitors"].get(name, {}).get("seconds") for name in ("torch eager", "jaxnets")]
    return statistics.median(of[0]) / statistics.median(of[1]) if all(of) else 0.0
