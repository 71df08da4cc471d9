"""Runs competitors in separate processes that take turns.

Each competitor is started and prepared, and then computes only in its turns; the others wait for
a line on their standard input, which uses no processor time. The libraries therefore share no
process, thread pool or memory, while a disturbance of the machine affects all of them. The first
turn of each, in which it compiles, is not counted among the rounds but recorded separately. In a
round, a competitor has two turns, of which the second counts: after a pause the processor is
slow, and its caches contain another competitor's data. If a competitor fails, its error is
printed and the others continue.
"""

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import chart
import machine
import numpy as np
from networks import DOCUMENTED, NETWORKS

# Long enough for threads that spin after their work to go to sleep.
PAUSE = 0.1
# The columns of ``report``.
HEAD = (
    f"{'network':<15}batch  {'competitor':<20}  µs a {{}}{'quartiles':>24}   ratio  compile    MB"
)


def parser(
    about: str,
    rounds: int,
    seconds: float | None,
    out: str,
    networks: Iterable[str] = NETWORKS,
) -> argparse.ArgumentParser:
    """The options of a script that times competitors.

    Args:
        about: the docstring of the script.
        rounds: default number of rounds.
        seconds: default approximate duration of a round; None if the script fixes its steps.
        out: name of the file of results, without extension.
        networks: the names of the networks.
    """
    made = argparse.ArgumentParser(description=about.splitlines()[0])
    listed = f"one of {', '.join(networks)}; may be repeated"
    made.add_argument("--network", choices=networks, action="append", metavar="NAME", help=listed)
    made.add_argument("--batch", type=int, action="append")
    made.add_argument("--rounds", type=int, default=rounds)
    if seconds is not None:
        about_time = "about how long a round takes"
        made.add_argument("--seconds", type=float, default=seconds, help=about_time)
    made.add_argument("--without", action="append", default=[], help="leave a competitor out")
    made.add_argument("--out", type=Path, default=machine.RESULTS / f"{out}.json")
    made.add_argument("--competitor", help=argparse.SUPPRESS)
    made.add_argument("--times", type=int, help=argparse.SUPPRESS)  # steps or calls in a round
    return made


def compete(
    options: argparse.Namespace, measured: Callable, batches: tuple[int, ...], key: str, title: str
) -> None:
    """Times all cases, and prints and writes the results.

    Args:
        options: the options that ``parser`` returned.
        measured: a function of a network's name, a batch and the options that returns a row.
        batches: by default.
        key: the row's number by which seconds are divided: steps, or calls.
        title: of the chart.
    """
    rows = []
    print(HEAD.format(key.removesuffix("s")))
    for network in options.network or DOCUMENTED:
        for batch in options.batch or batches:
            rows.append(measured(network, batch, options))
            report(rows[-1], key)
    machine.write(options.out, rows)
    chart.draw(rows, key, title, options.out.with_suffix(".png"))


class Competitor:
    """A process that runs a script as one competitor.

    Args:
        script: its path; it is called with ``--competitor NAME`` and the arguments.
        name: name of the competitor.
        arguments: arguments that select what to time.

    Attributes:
        failure: reason why it ended early, or None.
    """

    def __init__(self, script: str, name: str, arguments: list[str]) -> None:
        self.name, self.failure = name, None
        command = [sys.executable, script, "--competitor", name, *arguments]
        # On a GPU the processes share its memory.
        environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.read()

    def turn(self) -> float:
        """Runs a turn and returns its seconds; NaN if it failed."""
        if self.failure:
            return math.nan
        with contextlib.suppress(BrokenPipeError):  # read() reports that it has ended
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        return self.read()

    def end(self) -> dict:
        """Ends the process; returns its peak memory and its device."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        last = {} if self.failure else self.read()
        if self.process.wait() and not self.failure:
            self.failure = "failed as it ended"
        return {"failed": self.failure} if self.failure else last

    def read(self):
        for line in self.process.stdout:
            if line.startswith("turn:"):
                return json.loads(line.removeprefix("turn:"))
            if line.startswith("failed:"):
                self.failure = line.removeprefix("failed:").strip()
                return math.nan
        self.failure = f"ended with exit status {self.process.wait()}"
        return math.nan


def take_turns(script: str, names: list[str], arguments: list[str], rounds: int) -> dict[str, dict]:
    """Times competitors.

    Returns:
        For each competitor the seconds of its rounds and further values, or its error.
    """
    competitors = [Competitor(script, name, arguments) for name in names]
    first = {one.name: one.turn() for one in competitors}
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for one in competitors[:: 1 if number % 2 else -1]:
            time.sleep(PAUSE)
            one.turn()
            times[one.name].append(one.turn())
    found = {}
    for one in competitors:
        last = one.end()
        compiling = max(0.0, first[one.name] - statistics.median(times[one.name]))
        known = {"seconds": times[one.name], "compile_seconds": compiling, **last}
        found[one.name] = last if one.failure else known
    return found


def report(row: dict, key: str) -> None:
    """Prints a line for each competitor of a case.

    Args:
        row: a result of ``take_turns``, with the network and the batch size.
        key: the row's number by which seconds are divided: steps, or calls.
    """
    ours = statistics.median(row["competitors"].get("jaxnets", {}).get("seconds", [math.nan]))
    for name, found in row["competitors"].items():
        if "failed" in found:
            print(f"{row['network']:<14}{row['batch']:>6}  {name:<20}{found['failed']}", flush=True)
            continue
        low, middle, high = np.quantile(found["seconds"], (0.25, 0.5, 0.75))
        quartiles = f"{1e6 * low / row[key]:,.0f} to {1e6 * high / row[key]:,.0f}"
        print(
            f"{row['network']:<14}{row['batch']:>6}  {name:<20}{1e6 * middle / row[key]:>12,.0f}"
            f"{quartiles:>24}{middle / ours:>8.2f}{found['compile_seconds']:>7.1f} s"
            f"{found['memory']:>6,.0f}",
            flush=True,
        )


def wait() -> bool:
    """In a competitor: waits for its turn; returns False after the last one."""
    return bool(sys.stdin.readline())


def tell(what: object) -> None:
    """In a competitor: sends a reply."""
    print(f"turn:{json.dumps(what)}", flush=True)


@contextlib.contextmanager
def failures_printed() -> Iterator[None]:
    """In a competitor: sends errors to the parent instead of raising them."""
    try:
        yield
    except Exception as error:
        traceback.print_exc()
        reason = str(error).strip().partition("\n")[0][:200]
        print(f"failed:{type(error).__name__}: {reason}", flush=True)


def serve(run: Callable[[], None]) -> None:
    """In a competitor: runs all turns."""
    tell("ready")
    while wait():
        began = time.perf_counter()
        run()
        tell(time.perf_counter() - began)
    tell({**machine.peak_memory(), "device": machine.device()})
