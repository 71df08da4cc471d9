"""Trains recipes and records the scores to expect, which `jaxnets recipes` lists.

    python benchmarks/measure_recipes.py                       # every recipe: an hour on 2 cores
    python benchmarks/measure_recipes.py mnist-mlp --seeds 3   # only this recipe

Each run is a separate process, timed from its start to its end. Measure on an idle machine, so that
the recorded times are realistic. Writes `jaxnets/recipes/measured.json`.
"""

import argparse
import json
import subprocess
import sys
import time

from machine import PACKAGES, described

from jaxnets.recipes import RECIPES
from jaxnets.recipes.measured import FILE, expectation


def main() -> int:
    """Measures, and returns the number of recipes that could not be trained."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=list(RECIPES), metavar="RECIPE")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", help="the path of a recipe's data")
    options = parser.parse_args()
    failed = 0
    for name in options.recipes:
        record = measured(name, options.seeds, options.data)
        if record is None:
            print(f"{name}: not trained", file=sys.stderr)
            failed += 1
            continue
        found = json.loads(FILE.read_text()) if FILE.exists() else {}
        found = {known: found.get(known) for known in RECIPES} | {name: record}
        found = {known: value for known, value in found.items() if value}
        FILE.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name}: {expectation(record)}")
    return failed


def measured(name: str, seeds: int, data: str | None) -> dict | None:
    """Trains a recipe from several seeds; None if a run fails."""
    runs, seconds = [], []
    for seed in range(seeds):
        words = [sys.executable, "-m", "jaxnets", "train", name, "--seed", str(seed)]
        words += ["--json", "--quiet", *(["--data", data] if data else [])]
        start = time.perf_counter()
        run = subprocess.run(words, stdout=subprocess.PIPE, check=False)
        if run.returncode:
            return None
        seconds.append(round(time.perf_counter() - start, 1))
        runs.append(json.loads(run.stdout))
    names = scores_of(name, runs[0])
    scores = {score: [run[f"test_{score}"] for run in runs] for score in names}
    about = described(PACKAGES)
    machine = {key: about[key] for key in ("date", "versions", "processor", "cores")}
    return {**machine, "scores": scores, "seconds": seconds}


def scores_of(name: str, run: dict) -> list[str]:
    """The names of the scores that a recipe is judged by."""
    if (score := RECIPES[name].score) is not None:
        return [score]
    if run.get("test_rmse") is not None:
        return ["loss", "rmse"]
    if run.get("test_accuracy") is None:
        return ["loss"]
    return ["loss", "accuracy"] if RECIPES[name].model == "language-model" else ["accuracy"]


if __name__ == "__main__":
    sys.exit(main())
