"""Measures the differences between jaxnets and PyTorch, and writes the table in docs/equality.md.

Runs the tests in tests/parity, which compare with torch, and records the largest difference in each
of them:

    python scripts/equality_table.py
"""

import argparse
import datetime
import json
import platform
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
Key = tuple[str, str]


def measure(tests: str) -> dict[Key, tuple[int, float]]:
    """Runs the tests; returns numbers of comparisons and largest differences by (test, dtype)."""
    found: dict[Key, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "-q", "-m", "", tests, f"--measured={folder}"]
        subprocess.run(command, cwd=ROOT, check=True)
        for path in Path(folder).iterdir():
            for test, dtype, count, largest in json.loads(path.read_text()):
                before = found[test, dtype]
                found[test, dtype] = (before[0] + count, max(before[1], largest))
    return dict(found)


def table(found: dict[Key, tuple[int, float]]) -> str:
    """Returns the measurements as a Markdown table with one row for each test."""
    lines = [
        "| what is compared | arrays compared | float64 | float32 |",
        "|---|---:|---:|---:|",
    ]
    for test in sorted({test for test, _ in found}):
        by_dtype = {dtype: found[name, dtype] for name, dtype in found if name == test}
        count = sum(count for count, _ in by_dtype.values())
        cells = [
            f"{by_dtype[dtype][1]:.1e}" if dtype in by_dtype else ""
            for dtype in ("float64", "float32")
        ]
        lines.append(f"| {describe(test)} | {count:,} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def describe(test: str) -> str:
    """Formats a test's name: tests/parity/test_pooling.py::test_max_pool → pooling: max pool."""
    file, _, name = test.partition("::")
    words = name.rpartition("::")[2].removeprefix("test_").replace("_", " ")
    return f"{Path(file).stem.removeprefix('test_').replace('_', ' ')}: {words}"


def main() -> None:
    """Runs the tests and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tests", default="tests/parity", help="the tests to run")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "equality.md")
    arguments = parser.parse_args()
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", "flax", "torch"))
    today = datetime.date.today()
    note = f"Measured on {today} with {versions}, Python {platform.python_version()}, on the CPU."
    measured = f"{BEGIN}\n{note}\n\n{table(measure(arguments.tests))}\n{END}"
    page = arguments.page.read_text()
    between = re.compile(f"{BEGIN}.*{END}", flags=re.DOTALL)
    arguments.page.write_text(between.sub(lambda _: measured, page))


if __name__ == "__main__":
    main()
