"""The time of training steps and inference for ordinary networks.

    python benchmarks/own_networks.py                     # all networks, training and inference
    python benchmarks/own_networks.py --network resnet-20 --batch 64 --what train
    python benchmarks/own_networks.py --dtype bfloat16    # steps on a processor with AVX512_BF16
    python benchmarks/own_networks.py --rounds 3 --seconds 0.2 --without torch.compile  # quickly

The networks are those of `networks.ORDINARY`, written with `jaxnets.layers` and in the same way in
the other libraries. Method and competitors are those of `train_step.py` and `inference.py`, which
support these networks too; the other modes of jaxnets and the floor are omitted.

Writes `benchmarks/results/own_networks.json` after each case and keeps other cases of the same
machine and versions. Also writes a chart of PyTorch eager's time divided by jaxnets'.
"""

import datetime
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import chart
import inference
import machine
import train_step
import turns
from networks import NETWORKS, ORDINARY


class What(NamedTuple):
    """A kind of measurement: its function, batch sizes and unit."""

    measured: Callable
    batches: tuple[int, ...]
    key: str


WHAT = {
    "train": What(train_step.measured, (16, 64, 256), "steps"),
    "inference": What(inference.measured, (1, 256), "calls"),
}
LEFT_OUT = ["jaxnets, devices", "jaxnets, on device", "jaxnets, sync", "floor"]


def main() -> None:
    parser = turns.parser(__doc__, rounds=7, seconds=0.3, out="own_networks")
    parser.add_argument("--what", choices=WHAT, action="append")
    parser.add_argument("--dtype", choices=train_step.DTYPES, default="float32")
    options = parser.parse_args()
    options.without += LEFT_OUT
    if options.dtype != "float32":
        options.what = ["train"]
    cases = [
        (what, network, batch)
        for what in options.what or WHAT
        for network in options.network or ORDINARY
        for batch in options.batch or WHAT[what].batches
    ]
    rows = recorded(options.out)
    began, before = time.monotonic(), None
    for number, (what, network, batch) in enumerate(cases, 1):
        minutes = (time.monotonic() - began) / 60
        progress = f"case {number} of {len(cases)}, {minutes:.1f} minutes after the start"
        print(f"{progress}: {what}, {network}, batch {batch}", file=sys.stderr, flush=True)
        if what != before:
            print(turns.HEAD.format(WHAT[what].key.removesuffix("s")), flush=True)
            before = what
        row = {"what": what, "dtype": options.dtype, "date": datetime.date.today().isoformat()}
        row |= WHAT[what].measured(network, batch, options)
        turns.report(row, WHAT[what].key)
        rows = sorted([*(one for one in rows if place(one) != place(row)), row], key=place)
        machine.write(options.out, rows)
    for what in ("train", "inference"):
        path = options.out.with_name(f"{options.out.stem}_{what}.png")
        chart.draw_ratios(rows, what, path)


def recorded(path: Path) -> list[dict]:
    """Returns the rows of a file that are from this machine and these versions."""
    if not path.exists():
        return []
    here, found = machine.described(machine.PACKAGES), json.loads(path.read_text())
    same = all(found[key] == here[key] for key in ("versions", "python", "processor", "cores"))
    return found["rows"] if same else []


def place(row: dict) -> tuple:
    """Returns the key of a row; the file is sorted by it."""
    network = list(NETWORKS).index(row["network"])
    return row["what"] != "train", row["dtype"] != "float32", network, row["batch"]


if __name__ == "__main__":
    main()
