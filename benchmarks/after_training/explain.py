"""The completeness error of integrated gradients on the documented networks.

    python benchmarks/after_training/explain.py RUNS

RUNS is a folder with what `jaxnets train NAME --out RUNS/NAME` wrote, for each NAME below.
"""

import sys
from pathlib import Path

import numpy as np
import record

import jaxnets
from jaxnets import explain, recipes, runs

NAMES = ("mnist-mlp", "mnist-lenet", "mnist-lstm", "sentiment-lstm")
EXAMPLES = 100
SETTINGS = (
    ("50 points", 50, "gausslegendre"),
    ("100 points", 100, "gausslegendre"),
    ("200 points", 200, "gausslegendre"),
    ("100 points, trapezoids", 100, "riemann_trapezoid"),
)


def main() -> None:
    folder = Path(sys.argv[1])
    found = {name: errors(runs.read(folder / name)) for name in NAMES}
    rows = [[name, *map(written, each)] for name, each in found.items()]
    about = {
        "title": "Completeness error of integrated gradients",
        "method": (
            f"Attributions of the predicted class for {EXAMPLES} test examples, spread over the "
            "test set. The baseline is a black image or a text of padding. The error of an "
            "example is the sum of its attributions minus the difference of the two outputs. "
            "The table shows the mean error divided by the mean difference, and in brackets the "
            "median of the relative errors. The default is Gauss-Legendre quadrature with 100 "
            "points. The weights of Captum's trapezoidal rule add up to 1 - 1/n."
        ),
        "columns": ["recipe", *(name for name, _, _ in SETTINGS)],
        "rows": rows,
        "command": "python benchmarks/after_training/explain.py RUNS",
    }
    record.write("explain", about)
    print("\n".join(map(str, rows)))


def errors(saved: jaxnets.SavedRun) -> list[tuple[float, float]]:
    """For each setting the mean error over the mean difference, and the median relative error."""
    test = recipes.load_data(saved.recipe).test
    rows = np.linspace(0, len(test) - 1, EXAMPLES).astype(np.int32)
    inputs, _ = test.gather(rows)
    return [error(saved, inputs, n_steps, method) for _, n_steps, method in SETTINGS]


def error(saved: jaxnets.SavedRun, inputs, n_steps: int, method: str) -> tuple[float, float]:
    options = {"n_steps": n_steps, "method": method}
    if saved.encoder is not None:
        made = explain.token_attributions(saved.model, inputs, **options)
    else:
        black = np.asarray(saved.transform(np.zeros_like(inputs[:1])))
        made = explain.integrated_gradients(
            saved.model, inputs, baselines=black, transform=saved.transform, **options
        )
    delta = np.asarray(made.delta, np.float64)
    total = np.asarray(made.attributions, np.float64).reshape(len(delta), -1).sum(axis=1)
    difference = np.abs(total - delta)
    return np.abs(delta).mean() / difference.mean(), float(np.median(np.abs(delta) / difference))


def written(found: tuple[float, float]) -> str:
    return "{:.2%} ({:.2%})".format(*found)


if __name__ == "__main__":
    main()
