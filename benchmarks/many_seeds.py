"""The time of many seeds at once, compared with the time of one seed.

    python benchmarks/many_seeds.py                        # 1, 4 and 16 seeds of the MLP
    python benchmarks/many_seeds.py --recipe mnist-lenet --seeds 1 64

Trains the network of a recipe with several seeds in one program, and with one seed by `fit` without
`seeds`, on the default device. Compares the time of training and evaluation, without compilation
and everything else before the first step. Prints a table and writes
`benchmarks/results/many_seeds.json`.
"""

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import machine

from jaxnets import recipes
from jaxnets.data import Dataset
from jaxnets.training import Timings

COLUMNS = "{:>7}{:>12}{:>12}{:>12}{:>10}{:>11}{:>10}"


def main() -> None:
    options = parsed()
    recipe = dataclasses.replace(recipes.recipe(options.recipe), epochs=options.epochs)
    data = recipes.load_data(recipe)
    if options.examples is not None:
        data = Dataset(data.name, data.train.take(options.examples), data.test)
    print(
        COLUMNS.format("seeds", "train s", "evaluate s", "compile s", "all s", "× one", "per seed")
    )
    one: float | None = None
    rows = []
    for count in [None, *options.seeds]:
        row = measured(recipe, data, count, options.repeat)
        seconds = row["train_seconds"] + row["evaluate_seconds"]
        one = seconds if one is None else one
        row["ratio"] = seconds / one
        rows.append(row)
        print(COLUMNS.format(*shown(row)), flush=True)
    about = {name: getattr(options, name) for name in ("recipe", "epochs", "examples")}
    machine.write(options.out, rows, **about)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipe", default="mnist-mlp")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 4, 16], help="numbers of seeds")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--examples", type=int, help="number of examples; all by default")
    parser.add_argument(
        "--repeat", type=int, default=1, help="number of measurements, of which the shortest counts"
    )
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "many_seeds.json")
    return parser.parse_args()


def measured(
    recipe: recipes.Recipe, data: Dataset, count: int | None, repeat: int
) -> dict[str, Any]:
    """Returns the times of several seeds at once; None is one run without ``seeds``."""
    every = []
    for _ in range(repeat):
        began = time.perf_counter()
        timings = trained(recipe, data, count)
        row = {"seeds": count, **dataclasses.asdict(timings)}
        every.append({**row, "seconds": time.perf_counter() - began})
    return min(every, key=lambda row: row["train_seconds"] + row["evaluate_seconds"])


def trained(recipe: recipes.Recipe, data: Dataset, count: int | None) -> Timings:
    if count is None:
        return recipes.train(recipe, data=data, progress="none").timings
    return recipes.train_many(recipe, seeds=count, data=data, progress="none").timings


def shown(row: dict[str, Any]) -> list[str]:
    names = ("train_seconds", "evaluate_seconds", "compile_seconds", "seconds")
    times = [f"{row[name]:.2f}" for name in names]
    each = row["ratio"] / (row["seeds"] or 1)
    return [str(row["seeds"] or "alone"), *times, f"{row['ratio']:.2f}", f"{each:.2f}"]


if __name__ == "__main__":
    main()
