"""Measures CPU seconds, compilations and memory of test modules, and frees memory."""

import ctypes
import gc
import json
import os
import resource
from collections import defaultdict
from pathlib import Path

import jax
import pytest

from jaxnets.training import compiled
from jaxnets.training.epoch import one_step

#: Bytes of memory above which a process clears the caches of finished tests, and the growth after
#: which it does so again.
MOST, GROWTH = 1000 * 2**20, 80 * 2**20

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident() -> int:
    """The resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def spent() -> float:
    """CPU seconds of this process and of its finished child processes."""
    return sum(os.times()[:4])


def give_back() -> int:
    """Frees compiled programs and garbage; returns the resident memory in bytes."""
    for remembered in (compiled._KNOWN.clear, compiled._jitted.cache_clear, one_step.cache_clear):
        remembered()
    jax.clear_caches()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return resident()


def forget(module) -> None:
    """Clears the caches of functions in a test module, such as whole runs or data sets."""
    for value in vars(module).values():
        if hasattr(value, "cache_clear") and value.__module__ == module.__name__:
            value.cache_clear()


class Memory:
    """Limits the memory of a worker: compiled programs of finished tests would fill gigabytes."""

    def __init__(self):
        self.after = resident()

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item, nextitem):
        if nextitem is not None and nextitem.module is not item.module:
            forget(item.module)
        if resident() > max(MOST, self.after + GROWTH) and nextitem is not None:
            self.after = give_back()


class Recorder:
    """Writes a line for each test to the file of this worker, which ``table`` reads."""

    def __init__(self, folder):
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        self.path = Path(folder, f"{worker}.jsonl")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)  # of an earlier run
        self.compilations = 0
        jax.monitoring.register_event_duration_secs_listener(self.listen)

    def listen(self, event, duration, **_):
        self.compilations += event.endswith("backend_compile_duration")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        compilations, start = self.compilations, spent()
        try:
            return (yield)
        finally:
            row = {
                "test": item.nodeid,
                "seconds": spent() - start,
                "compilations": self.compilations - compilations,
                "resident": resident(),
                "most": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            }
            with self.path.open("a") as file:
                print(json.dumps(row), file=file)


def table(folder) -> str:
    """A Markdown table of the modules, sorted by descending CPU seconds."""
    files = [path.read_text() for path in Path(folder).glob("*.jsonl")]
    rows = [json.loads(line) for file in files for line in file.splitlines()]
    modules = defaultdict(list)
    for row in rows:
        modules[row["test"].partition("::")[0]].append(row)
    modules = dict(sorted(modules.items(), key=lambda m: -sum(r["seconds"] for r in m[1])))
    lines = [
        "| module | cases | CPU seconds | compilations | memory at most, MB |",
        "|---|---|---|---|---|",
    ]
    for name, group in {**modules, **({"all": rows} if rows else {})}.items():
        seconds = sum(row["seconds"] for row in group)
        compilations = sum(row["compilations"] for row in group)
        most = max(row["resident"] for row in group) / 2**20
        lines.append(f"| {name} | {len(group)} | {seconds:.1f} | {compilations} | {most:.0f} |")
    return "\n".join(lines)
