"""A figure of bars, one panel a network and batch, to be read on a phone."""

import statistics
from pathlib import Path


def draw(rows: list[dict], key: str, title: str, path: Path) -> None:
    """Draws medians in microseconds, with the quotient to jaxnets' beside each bar.

    Args:
        rows: as the benchmarks write them.
        key: a row's number by which seconds are divided: steps, or calls.
        title: over all.
        path: of the PNG.
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
    }
    colors = ["#d95f02" if name == "jaxnets" else "#8da0cb" for name in times]
    bars = axis.barh(list(times), list(times.values()), color=colors)
    labels = [f"{time:,.0f} µs, {time / times['jaxnets']:.2g}×" for time in times.values()]
    axis.bar_label(bars, labels, padding=3, fontsize=11)
    axis.set_xlim(0, 2.1 * max(times.values()))
    axis.set_title(f"{row['network']}, batch {row['batch']}", fontsize=12)
    axis.set_xticks([])
    axis.tick_params(axis="y", labelsize=11)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.invert_yaxis()
