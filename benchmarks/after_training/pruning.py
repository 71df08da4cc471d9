"""Accuracy, size and time of pruned networks, and the figure of docs/pruning.md.

python benchmarks/after_training/pruning.py RUNS

RUNS contains the run directories mnist-mlp and mnist-lenet of ``jaxnets train``. The pruned runs
are stored next to them and reused the next time.
"""

import json
import subprocess
import sys
from pathlib import Path

import record

from jaxnets import recipes, runs
from jaxnets.commands.prune import size, timed

FIGURE = record.ROOT / "docs" / "images" / "pruning.png"
NETWORKS = "mnist-mlp", "mnist-lenet"
SHARES = 0.5, 0.8, 0.9, 0.95
#: By name in the table: the method, and the number of epochs of training afterwards.
WAYS = {
    "weights, untrained": ("global", 0),
    "weights": ("global", 2),
    "channels": ("channels", 2),
}


def pruned(top: Path, network: str, method: str, share: float, epochs: int) -> Path:
    folder = top / "pruned" / f"{network}-{method}-{share}-{epochs}"
    if not folder.exists():
        words = [top / network, "--method", method, "--amount", share, "--epochs", epochs]
        command = [sys.executable, "-m", "jaxnets", "prune", *words, "--out", folder, "--quiet"]
        subprocess.run(list(map(str, command)), check=True)
    return folder


def accuracy(folder: Path) -> float:
    return json.loads((folder / "run.json").read_text())["test_accuracy"]


def measured(top: Path, network: str) -> tuple[list, dict]:
    """The rows of the table, and the curves of the figure: share kept and accuracy."""
    folders = {("none", 0.0): top / network}
    for way, (method, epochs) in WAYS.items():
        for share in SHARES:
            folders[way, share] = pruned(top, network, method, share, epochs)
    saved = {case: runs.read(folder) for case, folder in folders.items()}
    first = saved["none", 0.0]
    data = recipes.load_data(first.recipe)
    times = timed([one.model for one in saved.values()], first.transform, data, seconds=6)
    rows, curves = [], {}
    for (case, folder), one, seconds in zip(folders.items(), saved.values(), times, strict=True):
        way, share = case
        found = size(one.model)
        left = found["nonzero"] * found["parameters"]
        curves.setdefault(way, []).append((left, accuracy(folder)))
        rows.append(
            [
                f"{network}, {way}" if share else network,
                f"{share:.0%}" if share else "0%",
                f"{accuracy(folder):.2%}",
                f"{found['parameters']:,}",
                f"{found['nonzero']:.0%}",
                f"{found['bytes'] / 1000:.1f}",
                f"{found['compressed'] / 1000:.1f}",
                f"{seconds * 1000:.2f}",
            ]
        )
        print(*rows[-1], sep="  ")
    return rows, curves


def draw(curves: dict) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    axes = figure.subplots(1, len(curves), sharey=True)
    for each, (network, ways) in zip(axes, curves.items(), strict=True):
        (whole, best), *_ = ways["none"]
        for (way, points), mark in zip(
            [item for item in ways.items() if item[0] != "none"], "os^", strict=True
        ):
            x, y = zip((whole, best), *points, strict=True)
            shares = [100 * (1 - left / whole) for left in x]
            each.plot(shares, [100 * value for value in y], marker=mark, label=way, markersize=4)
        each.set(title=network, xlabel="parameters that are gone or zero, %", ylim=(75, 100))
        each.grid(alpha=0.3)
    axes[0].set_ylabel("test accuracy, %")
    axes[0].legend(loc="lower left")
    figure.savefig(FIGURE, dpi=150)


def main() -> None:
    rows, curves = [], {}
    for network in NETWORKS:
        some, curves[network] = measured(Path(sys.argv[1]), network)
        rows += some
    about = {
        "title": "Pruning",
        "method": (
            "The weights of smallest magnitude in the whole network are set to zero (`--method "
            "global`), or a fraction of the units of each layer is removed from the arrays "
            "(`--method channels`). Then the network is trained for two more epochs with its "
            'recipe, except in rows with "untrained". kB is the size of the weights, '
            "uncompressed and compressed with zlib. Milliseconds are for 256 examples, measured "
            "alternately. Zeros do not make a dense network faster; smaller arrays do."
        ),
        "columns": [
            *["network", "pruned", "test accuracy", "parameters", "not zero"],
            *["kB", "compressed", "ms"],
        ],
        "rows": rows,
        "command": "python benchmarks/after_training/pruning.py RUNS",
    }
    record.write("pruning", about)
    draw(curves)


if __name__ == "__main__":
    main()
