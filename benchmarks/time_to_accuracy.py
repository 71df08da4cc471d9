"""Time from the start of a process to a printed accuracy, in jaxnets and in a PyTorch script.

    python benchmarks/time_to_accuracy.py                    # mlp, lenet, lstm and gru
    python benchmarks/time_to_accuracy.py --model mlp --rounds 3 --epochs 2

Compares `examples/mnist.py` with `benchmarks/torch_mnist.py`, which has the same recipe: imports,
data, compilation, training, and evaluation after each epoch. Processes alternate, one at a time.
jaxnets runs with the compiled programs of an earlier run (warm), and without any (cold). The
results are medians over the rounds of the seconds until the line of an epoch has the target
accuracy, and until the last line. Writes `benchmarks/results/time_to_accuracy.json`.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine

ROOT = Path(__file__).parent.parent
#: Test accuracy in percent, by model.
TARGETS = {"mlp": 97.5, "lenet": 99.0, "lstm": 98.0, "gru": 98.0}
OURS, THEIRS = "examples/mnist.py", "benchmarks/torch_mnist.py"
ACCURACY = re.compile(r"test accuracy:? ([\d.]+)\s?%")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=TARGETS, action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="by default the number of the recipe")
    parser.add_argument("--out", type=Path, default=machine.RESULTS / "time_to_accuracy.json")
    options = parser.parse_args()
    rows = []
    for model in options.model or TARGETS:
        rows.append(
            {"model": model, "target": TARGETS[model], "competitors": times(model, options)}
        )
        report(rows[-1])
    machine.write(options.out, rows, epochs=options.epochs)


def times(model: str, options: argparse.Namespace) -> dict[str, list[dict]]:
    """Runs the processes in turn; returns the times of each round of each competitor."""
    more = [] if options.epochs is None else ["--epochs", str(options.epochs)]
    found: dict[str, list[dict]] = {"jaxnets warm": [], "jaxnets cold": [], "torch": []}
    with tempfile.TemporaryDirectory() as kept:
        run(OURS, ["--model", model, "--epochs", "1"], kept)
        for number in range(options.rounds):
            arguments = ["--model", model, *more]
            with tempfile.TemporaryDirectory() as empty:
                turns = [
                    ("jaxnets warm", OURS, kept),
                    ("jaxnets cold", OURS, empty),
                    ("torch", THEIRS, empty),
                ]
                for name, script, cache in turns[:: 1 if number % 2 else -1]:
                    found[name].append(run(script, arguments, cache, TARGETS[model]))
    return found


def run(script: str, arguments: list[str], cache: str, target: float = 100) -> dict:
    """Runs a process; returns seconds since its start and the last printed accuracy."""
    environment = {**os.environ, "JAXNETS_CACHE": cache}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has compiled bytecode
    reached, accuracy, printed = None, 0.0, 0.0
    began = time.perf_counter()
    command = [sys.executable, script, *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        for line in process.stdout:
            if said := ACCURACY.search(line):
                accuracy, printed = float(said[1]), time.perf_counter() - began
                reached = printed if reached is None and accuracy >= target else reached
    if process.returncode:
        raise SystemExit(f"{script} failed")
    ended = time.perf_counter() - began
    return {"reached": reached, "printed": printed, "ended": ended, "accuracy": accuracy}


def report(row: dict) -> None:
    ours = middle(row["competitors"]["jaxnets warm"], "printed")
    for name, rounds in row["competitors"].items():
        reached, printed = middle(rounds, "reached"), middle(rounds, "printed")
        said = "never" if reached is None else f"{reached:.1f} s"
        print(
            f"{row['model']:<6} {name:<13} to {row['target']} %: {said:>7}   to the end: "
            f"{printed:6.1f} s   ratio {printed / ours:5.2f}   "
            f"accuracy {middle(rounds, 'accuracy'):.2f} %",
            flush=True,
        )


def middle(rounds: list[dict], key: str) -> float | None:
    """The median; None if a round has no number."""
    values = [one[key] for one in rounds]
    return None if None in values else statistics.median(values)


if __name__ == "__main__":
    main()
