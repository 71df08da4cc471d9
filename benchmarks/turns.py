"""Competitors in processes of their own, which take turns.

Each is started, prepared, and then computes only when it is its turn: the others wait for a line on
their standard input, which costs nothing. No library thus shares a process, a pool of threads or
memory with another, and yet what disturbs the machine for a while disturbs all of them. A first
turn of each, in which it compiles, is not counted among the rounds but told apart. In a round a
competitor has two turns, of which the second counts: a processor that has rested is slow at first,
and caches hold what is another's.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import machine

# Threads that spin a little after their work have gone to sleep by then.
PAUSE = 0.1
HEAD = "network    batch  competitor            µs a {}           quartiles   ratio  compile    MB"


class Competitor:
    """A process that runs the calling script again, as the competitor of this name.

    Args:
        name: which; the script is called with ``--competitor NAME`` and the arguments.
        arguments: that tell it what to time.
    """

    def __init__(self, name: str, arguments: list[str]) -> None:
        self.name = name
        command = [sys.executable, sys.argv[0], "--competitor", name, *arguments]
        # On a GPU the processes share its memory.
        environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.read()

    def turn(self) -> float:
        """Seconds that a turn took."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.read()

    def end(self) -> dict:
        """Ends the process; returns the most memory that it had, and its device."""
        self.process.stdin.close()
        last = self.read()
        if self.process.wait():
            raise SystemExit(f"{self.name} failed as it ended")
        return last

    def read(self):
        for line in self.process.stdout:
            if line.startswith("turn:"):
                return json.loads(line.removeprefix("turn:"))
        raise SystemExit(f"{self.name} ended before its time")


def take_turns(names: list[str], arguments: list[str], rounds: int) -> dict[str, dict]:
    """Times competitors; returns of each the seconds of its rounds, and what else is known."""
    competitors = [Competitor(name, arguments) for name in names]
    first = {one.name: one.turn() for one in competitors}
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for one in competitors[:: 1 if number % 2 else -1]:
            time.sleep(PAUSE)
            one.turn()
            times[one.name].append(one.turn())
    return {
        one.name: {
            "seconds": times[one.name],
            "compile_seconds": max(0.0, first[one.name] - statistics.median(times[one.name])),
            **one.end(),
        }
        for one in competitors
    }


def report(row: dict, key: str) -> None:
    """Prints a line for each competitor of a case.

    Args:
        row: as ``take_turns`` gives it, with the network and the batch.
        key: the row's number by which seconds are divided: steps, or calls.
    """
    ours = statistics.median(row["competitors"]["jaxnets"]["seconds"])
    for name, found in row["competitors"].items():
        middle = statistics.median(found["seconds"])
        low, _, high = statistics.quantiles(found["seconds"], method="inclusive")
        quartiles = f"{1e6 * low / row[key]:,.0f} to {1e6 * high / row[key]:,.0f}"
        print(
            f"{row['network']:<10}{row['batch']:>6}  {name:<20}{1e6 * middle / row[key]:>12,.0f}"
            f"{quartiles:>20}{middle / ours:>8.2f}{found['compile_seconds']:>7.1f} s"
            f"{found['memory']:>6,.0f}",
            flush=True,
        )


def wait() -> bool:
    """In a competitor: waits for its turn; False if there is none any more."""
    return bool(sys.stdin.readline())


def tell(what: object) -> None:
    """In a competitor: answers."""
    print(f"turn:{json.dumps(what)}", flush=True)


def serve(run: Callable[[], None]) -> None:
    """In a competitor: takes its turns, until there are no more."""
    tell("ready")
    while wait():
        began = time.perf_counter()
        run()
        tell(time.perf_counter() - began)
    tell({**machine.peak_memory(), "device": machine.device()})
