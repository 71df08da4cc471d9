"""Peak memory and speed of streamed data, compared with data in memory.

    python benchmarks/streaming.py                     # sets of 50,000, 100,000 and 200,000
    python benchmarks/streaming.py --examples 2000     # of 2,000, 4,000 and 8,000: a quick test
    python benchmarks/streaming.py --fit               # training as well

Writes random images [32, 32, 3] and labels as `.npy` files into a temporary folder (614 MB for
200,000), and measures each way to read them in a separate process: the peak memory of the
process (without its workers), the time to the first batch, and the examples per second of a
second pass. The files are in the cache of the system by then, so the speed of the disk is not
measured. Prints a table and writes `benchmarks/results/streaming.json`.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
SHAPE = (32, 32, 3)
CLASSES = 10
CHUNK = 10_000
BATCH_SIZE = 128
PACKAGES = ("jaxnets", "jax", "flax", "numpy")
COLUMNS = "{:<22}{:>10}{:>12}{:>14}{:>14}"


def main() -> None:
    options = parsed()
    if options.measure is not None:
        print(json.dumps(measured(json.loads(options.measure))))
        return
    ways = [("in memory", None), ("threads", 0), (f"{options.workers} workers", options.workers)]
    tasks = ["read", *(["fit"] if options.fit else [])]
    print(COLUMNS.format("way", "examples", "peak MB", "first s", "examples/s"))
    rows = []
    for count in (options.examples * factor for factor in (1, 2, 4)):
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), count)
            for task in tasks:
                for way, workers in ways:
                    what = {"task": task, "folder": folder, "workers": workers}
                    row = {"task": task, "way": way, "examples": count, **alone(what)}
                    rows.append(row)
                    print(COLUMNS.format(f"{task}, {way}", count, *shown(row)), flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({**circumstances(options), "rows": rows}, indent=2) + "\n")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--examples", type=int, default=50_000, help="examples in the smallest set")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--fit", action="store_true", help="train a network as well")
    parser.add_argument("--out", type=Path, default=RESULTS / "streaming.json")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser.parse_args()


def write(folder: Path, count: int) -> None:
    """Writes the set piece by piece, so that this process stays small."""
    random = np.random.default_rng(0)
    for part, size in (("train", count), ("test", CHUNK // 10)):
        for name, shape in (("x", SHAPE), ("y", ())):
            with open(folder / f"{name}_{part}.npy", "wb") as file:
                kind = {"descr": "|u1", "fortran_order": False, "shape": (size, *shape)}
                np.lib.format.write_array_header_1_0(file, kind)
                for start in range(0, size, CHUNK):
                    piece = (min(CHUNK, size - start), *shape)
                    file.write(random.integers(CLASSES if name == "y" else 256, size=piece,
                                               dtype=np.uint8).tobytes())  # fmt: skip


def alone(what: dict) -> dict:
    """Runs one measurement in a separate process."""
    command = [sys.executable, __file__, "--measure", json.dumps(what)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(what: dict) -> dict:
    from jaxnets.data import load

    streamed = {} if what["workers"] is None else {"streaming": True, "workers": what["workers"]}
    began = time.perf_counter()
    data = load("spots", data_dir=what["folder"], **streamed)
    first, rate = (trained if what["task"] == "fit" else read)(data, began)
    return {"peak_bytes": peak(), "first_batch_s": first, "examples_per_s": rate}


def read(data, began: float) -> tuple[float, float]:
    """The time to the first batch, and the examples per second of the second pass."""
    from jaxnets.data import Split, epoch_plan

    first = None
    for epoch in range(2):
        plan = epoch_plan(len(data.train), BATCH_SIZE, seed=0, epoch=epoch)
        started = time.perf_counter()
        batches = (
            ((data.train.inputs[rows], data.train.labels[rows]) for rows in plan.full)
            if isinstance(data.train, Split)
            else data.train.batches(plan.full)
        )
        for _ in batches:
            first = first or time.perf_counter() - began
    return first, plan.full.size / (time.perf_counter() - started)


def trained(data, began: float) -> tuple[None, float]:
    """The examples per second of the second epoch."""
    from flax import nnx

    from jaxnets import MLP, fit, losses, optimizers
    from jaxnets.data import ToFloat

    model = MLP((int(np.prod(SHAPE)), 64, CLASSES), rngs=nnx.Rngs(0))
    run = fit(
        model, data, loss=losses.cross_entropy, optimizer=optimizers.sgd(0.01), epochs=2,
        batch_size=BATCH_SIZE, transform=ToFloat(), progress="none",
    )  # fmt: skip
    return None, len(data.train) / run.history[-1].seconds


def peak() -> int:
    """Returns the peak memory of this process in bytes."""
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in s)
    return int(line.split()[1]) * 1024


def shown(row: dict) -> tuple[str, str, str]:
    first = "" if row["first_batch_s"] is None else f"{row['first_batch_s']:.2f}"
    return f"{row['peak_bytes'] / 1e6:.0f}", first, f"{row['examples_per_s']:,.0f}"


def circumstances(options: argparse.Namespace) -> dict:
    names = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "command": f"python benchmarks/streaming.py {' '.join(sys.argv[1:])}".strip(),
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "cpu": names[0].partition(":")[2].strip() if names else platform.machine(),
        "cores": os.cpu_count(),
        "batch_size": BATCH_SIZE,
        "example": f"uint8{list(SHAPE)}",
    }


if __name__ == "__main__":
    main()
