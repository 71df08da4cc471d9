"""The time of a training step on 1, 2, 4, … devices.

    python benchmarks/scaling.py                            # all networks
    python benchmarks/scaling.py --network mlp --rounds 5   # one; keeps the other results
    python benchmarks/scaling.py --plot                     # draw the recorded results again

With weak scaling each device computes 64 examples; with strong scaling the devices divide a batch
of 512. A step is the forward pass, the backward pass and the update of SGD with momentum in
float32, on random data on the devices, with the programs that `fit` runs. Each number of devices
has a separate process that may use the whole machine. In each round every process computes once,
alone, for about the same time; the first round, in which programs are compiled, is not counted.
The table has medians over the rounds, quartiles, the number of cores that a process kept busy,
and the efficiency: the work of n devices divided by n times the work of one device in the same
time.

The devices of a CPU are virtual and share its cores, and a single such device already uses all of
them: with an efficiency of 1/n, n devices are as fast as one.

Writes `benchmarks/results/scaling.json`, which keeps the other networks of the same day and
machine, and `scaling.png`.
"""

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from machine import described

from jaxnets import losses, optimizers
from jaxnets.data import Split
from jaxnets.data.batching import epoch_plan
from jaxnets.models import MLP, LeNet, RecurrentClassifier
from jaxnets.training import initialize, minimize, supervised
from jaxnets.training.batches import cut
from jaxnets.training.compiled import Compiled
from jaxnets.training.epoch import train_steps
from jaxnets.training.evaluation import checked_feed
from jaxnets.training.placement import Placement, place

RESULTS = Path(__file__).parent / "results" / "scaling.json"
PACKAGES = ("jaxnets", "jax", "flax", "optax", "numpy")
OPTIMIZER = optimizers.sgd(0.01, momentum=0.9)
PART, WHOLE = 64, 512
#: How to build a network, the shape of its inputs, and the steps of a run.
NETWORKS = {
    "mlp": (lambda rngs: MLP((784, 128, 64, 10), rngs=rngs), (784,), 16),
    "lenet": (lambda rngs: LeNet(rngs=rngs), (28, 28, 1), 8),
    "lstm": (
        lambda rngs: RecurrentClassifier(28, 128, 2, output_dim=10, cell="lstm", rngs=rngs),
        (28, 28),
        4,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=NETWORKS, action="append")
    parser.add_argument("--devices", type=int, help="largest number of devices; 8 on a CPU, or all")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="approximate duration of a run")
    parser.add_argument("--plot", action="store_true", help="only draw the recorded results")
    options = parser.parse_args()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several processes, one GPU
    if not options.plot:
        measure_all(options)
    plot(json.loads(RESULTS.read_text()), RESULTS.with_suffix(".png"))


def measure_all(options: argparse.Namespace) -> None:
    there = described(PACKAGES)
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    same = {**before, "rows": None} == {**there, "rows": None}
    measured = options.network or list(NETWORKS)
    rows = [row for row in before["rows"] if row["network"] not in measured] if same else []
    most = options.devices or (8 if there["device"] == "cpu" else jax.device_count())
    workers = {2**power: Worker(2**power) for power in range(most.bit_length())}
    print(
        "network  scaling    batch  devices      ms a step           quartiles  cores  efficiency"
    )
    for network in measured:
        for scaling in ("weak", "strong"):
            made = measure(network, scaling, workers, options)
            report(made)
            rows += made
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({**there, "rows": rows}, indent=1) + "\n")


class Worker:
    """A process with a number of devices."""

    def __init__(self, devices: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        context.Process(target=work, args=(devices, other), daemon=True).start()
        other.close()  # so that the end of the process is seen

    def ask(self, *question: Any) -> tuple[float, float]:
        """Elapsed and CPU seconds per run: of a network and batch, or of a number of repeats."""
        self._pipe.send(question)
        return self._pipe.recv()


def work(devices: int, pipe: Any) -> None:
    """Runs the requests of a ``Worker``."""
    jax.config.update("jax_num_cpu_devices", devices)
    placement = place(devices)
    with contextlib.suppress(EOFError):  # the parent has closed the pipe
        while True:
            question = pipe.recv()
            if len(question) == 2:
                run = prepared(*question, placement)
                run()  # compiles
                question = (1,)
            pipe.send(timed(run, *question))


def measure(
    network: str, scaling: str, workers: dict[int, Worker], options: argparse.Namespace
) -> list[dict]:
    """The time of a step by number of devices and round."""
    rows, repeats = [], []
    for devices, worker in workers.items():
        batch = PART * devices if scaling == "weak" else WHOLE
        row = {"network": network, "scaling": scaling, "batch": batch, "devices": devices}
        rows.append({**row, "milliseconds": [], "cores": []})
        repeats.append(math.ceil(options.seconds / worker.ask(network, batch)[0]))
    for _ in range(options.rounds):
        for row, worker, repeat in zip(rows, workers.values(), repeats, strict=True):
            seconds, of_cores = worker.ask(repeat)
            row["milliseconds"].append(1000 * seconds / NETWORKS[network][2])
            row["cores"].append(of_cores / seconds)
    return with_efficiency(rows)


def prepared(network: str, batch: int, placement: Placement) -> Callable[[], None]:
    """A function that takes the network's number of steps."""
    build, shape, steps = NETWORKS[network]
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(steps * batch, *shape)).astype(np.float32)
    split = Split(inputs, draw.integers(10, size=len(inputs)).astype(np.int32))
    step = minimize(supervised(losses.cross_entropy), OPTIMIZER)
    state = initialize(build(nnx.Rngs(0)), step)
    feed = checked_feed("data", split, step.evaluation, state, placement)
    plan = epoch_plan(len(split), batch, seed=0, epoch=0)
    pieces = cut(plan, room=feed.room(plan.steps, batch))
    compiled, states = Compiled(placement), [placement.place(state)]

    def run() -> None:
        for piece, batches in zip(pieces, feed.batches(pieces), strict=True):
            after, measured = compiled.run(train_steps, step, states.pop(), batches, piece.count)
            states.append(after)
        jax.block_until_ready(measured)

    return run


def timed(run: Callable[[], None], repeats: int) -> tuple[float, float]:
    """Elapsed and CPU seconds per call."""
    began, used = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        run()
    seconds, of_cores = time.perf_counter() - began, time.process_time() - used
    return seconds / repeats, of_cores / repeats


def with_efficiency(rows: list[dict]) -> list[dict]:
    """Adds the efficiency relative to the first row, which is one device."""
    rates = [row["batch"] / np.median(row["milliseconds"]) for row in rows]
    for row, rate in zip(rows, rates, strict=True):
        row["efficiency"] = float(rate / rates[0] / row["devices"])
        row["cores"] = float(np.median(row["cores"]))
    return rows


def report(rows: list[dict]) -> None:
    for row in rows:
        low, middle, high = np.percentile(row["milliseconds"], (25, 50, 75))
        quartiles = f"{low:,.2f} to {high:,.2f}"
        print(
            f"{row['network']:<9}{row['scaling']:<8}{row['batch']:>8}{row['devices']:>9}"
            f"{middle:>15,.2f}{quartiles:>20}{row['cores']:>7.1f}{row['efficiency']:>11.2f}",
            flush=True,
        )


def plot(results: dict, path: Path) -> None:
    """Draws the efficiency by the number of devices."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axes, scaling in zip(figure.subplots(1, 2, sharey=True), ("weak", "strong"), strict=True):
        rows = [row for row in results["rows"] if row["scaling"] == scaling]
        for network in dict.fromkeys(row["network"] for row in rows):
            own = [row for row in rows if row["network"] == network]
            counts = [row["devices"] for row in own]
            axes.plot(counts, [row["efficiency"] for row in own], marker="o", label=network)
        axes.plot(counts, [1 / count for count in counts], "k--", label="as fast as one")
        axes.set(xscale="log", xticks=counts, xticklabels=counts, xlabel="devices")
        axes.minorticks_off()
        title = f"{PART} examples a device" if scaling == "weak" else f"{WHOLE} examples"
        axes.set(title=f"{scaling}: {title}", ylim=(0, None))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("efficiency")
    figure.axes[1].legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
