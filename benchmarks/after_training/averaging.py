"""Averages of weights along a run: none, exponential, and of the last epochs.

python benchmarks/after_training/averaging.py
"""

import dataclasses

import record

from jaxnets import recipes

RECIPE = recipes.recipe("mnist-mlp")
SEEDS = 3
FAST = {"optimizer_options": {"lr": 0.1, "momentum": 0.9}}
#: The averages, as flags of ``jaxnets train``.
CASES = {
    "--ema 0.999": {"ema": 0.999},
    "--swa 5": {"swa": 5},
    "--lr 0.1 --ema 0.999": {**FAST, "ema": 0.999},
    "--lr 0.1 --swa 5": {**FAST, "swa": 5},
}


def main() -> None:
    data, rows = recipes.load_data(RECIPE), []
    for flags, changes in CASES.items():
        recipe = dataclasses.replace(RECIPE, **changes)
        runs = recipes.train_many(recipe, seeds=SEEDS, data=data, progress="none")
        last = runs.summary("test_accuracy")
        found = (f"{one.mean:.2%} ± {one.std:.2%}" for one in (last, runs.accuracy))
        before, after = (text.replace("%", " %") for text in found)
        rows.append([f"`mnist-mlp {flags}`", before, after])
        print(*rows[-1], sep="  ")
    about = {
        "title": "Averages of weights along a run",
        "method": (
            f"mnist-mlp, 10 epochs: mean ± standard deviation over {SEEDS} seeds of the accuracy "
            "of the last weights and of their average. The average is exponential, or the mean "
            "of the weights after each of the last five epochs. Averaging works best with a "
            "learning rate that stays high."
        ),
        "columns": ["`jaxnets train`", "last weights", "averaged"],
        "rows": rows,
        "command": "python benchmarks/after_training/averaging.py",
    }
    record.write("averaging", about)


if __name__ == "__main__":
    main()
