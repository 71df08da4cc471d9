"""Writes the tables of docs/performance.md from the files that the benchmarks wrote.

    python scripts/performance_table.py

Each table is between two marks of the page. If its file is missing, a note replaces the table.
"""

import argparse
import json
import math
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


def documented(found: dict[str, Any], title: str, name: str, key: str) -> str:
    """Returns a chart, and a table with one row for each network and batch size.

    Args:
        found: a file of results.
        title: title of the table.
        name: name of the chart's file.
        key: field of a row by which seconds are divided: ``steps`` or ``calls``.
    """
    chart = f"![{title}: times by network and library](../benchmarks/results/{name}.png)"
    return f"{chart}\n\n{_titled(title, found['rows'], key)}"


def _seconds(of: dict[str, Any]) -> float:
    """Returns the median time of a competitor's rounds; NaN if it failed."""
    return statistics.median(of.get("seconds", [math.nan]))


def own_networks(found: dict[str, Any]) -> str:
    """Returns the chart, and tables of training steps and of inference."""
    kinds = [
        ("A training step", "train", "float32", "steps"),
        ("A training step in bfloat16", "train", "bfloat16", "steps"),
        ("Inference", "inference", "float32", "calls"),
    ]
    parts = [
        " ".join(_half(*each) for each in (("train", "training step"), ("inference", "inference")))
    ]
    for title, what, dtype, key in kinds:
        rows = [row for row in found["rows"] if (row["what"], row["dtype"]) == (what, dtype)]
        if rows:
            parts.append(_titled(title, rows, key))
    return "\n\n".join(parts)


def _half(name: str, what: str) -> str:
    """Returns a chart of half the page's width, which is as wide as a phone's page."""
    source = f"../benchmarks/results/own_networks_{name}.png"
    return f'<img src="{source}" width="49%" alt="PyTorch\'s time ÷ jaxnets\', by network: {what}">'


def batch_sizes(found: dict[str, Any]) -> str:
    """Returns a table of the time per example, one row per network."""
    costs: dict[str, dict[int, float]] = {}
    for row in found["rows"]:
        step = _seconds(row["competitors"]["jaxnets"]) / row["steps"]
        costs.setdefault(row["network"], {})[row["batch"]] = 1e6 * step / row["batch"]
    sizes = sorted({batch for of in costs.values() for batch in of})
    lines = [
        f"| network | {' | '.join(f'{size:,}' for size in sizes)} |",
        "|---|" + "---:|" * len(sizes),
    ]
    for network, of in costs.items():
        cells = [f"{of[size]:,.3g}" if of[size] < 100 else f"{of[size]:,.0f}" for size in sizes]
        lines.append(f"| {network} | {' | '.join(cells)} |")
    return "**Time per example of a training step**, in µs, by batch size.\n\n" + "\n".join(lines)


def _titled(title: str, rows: list[dict[str, Any]], key: str) -> str:
    return f"**{title}**: jaxnets' µs, and the others' time ÷ jaxnets'.\n\n{_ratios(rows, key)}"


def _ratios(rows: list[dict[str, Any]], key: str) -> str:
    fullest = sorted(
        rows, key=lambda row: -len(row["competitors"])
    )  # defines the order of the columns
    names = dict.fromkeys(name for row in fullest for name in row["competitors"])
    names.pop("jaxnets", None)
    lines = [
        f"| network | batch | jaxnets, µs | {' | '.join(names)} |",
        "|---|---:|---:|" + "---:|" * len(names),
    ]
    for row in rows:
        ours = _seconds(row["competitors"].get("jaxnets", {}))
        cells = [row["network"], f"{row['batch']:,}", _cell(1e6 * ours / row[key], ",.0f")]
        for name in names:
            of = row["competitors"].get(name)
            cells.append("" if of is None else _cell(_seconds(of) / ours, ".2f"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: float, how: str) -> str:
    return "failed" if math.isnan(value) else f"{value:{how}}"


def to_accuracy(found: dict[str, Any]) -> str:
    """Returns a table of median seconds since the start of a process, one row per competitor."""
    lines = [
        "| network | competitor | target | s to the target | s to the end | ÷ jaxnets warm "
        "| accuracy |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in found["rows"]:
        ours = _median(row["competitors"]["jaxnets warm"], "printed")
        for name, rounds in row["competitors"].items():
            missed = any(one["reached"] is None for one in rounds)
            reached = "not in all runs" if missed else f"{_median(rounds, 'reached'):.1f}"
            printed = _median(rounds, "printed")
            lines.append(
                f"| {row['model']} | {name} | {row['target']} % | {reached} | {printed:.1f} "
                f"| {printed / ours:.2f} | {_median(rounds, 'accuracy'):.2f} % |"
            )
    return "\n".join(lines)


def _median(rounds: list[dict[str, Any]], key: str) -> float:
    return statistics.median(one[key] for one in rounds)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "train_step": lambda found: documented(found, "A training step", "train_step", "steps"),
    "inference": lambda found: documented(found, "Inference", "inference", "calls"),
    "own_networks": own_networks,
    "own_networks_avx2": lambda found: _titled("A training step", found["rows"], "steps"),
    "ported_networks": lambda found: _titled("A training step", found["rows"], "steps"),
    "batch_sizes": batch_sizes,
    "time_to_accuracy": to_accuracy,
}


def section(name: str, results: Path) -> str:
    """Returns a table with the machine and the versions, or a note that there are no results."""
    path = results / f"{name}.json"
    if not path.exists():
        return "Not recorded yet."
    found = json.loads(path.read_text())
    versions = ", ".join(f"{name} {of}" for name, of in found["versions"].items() if of)
    where = f"{found['processor']}, {found['cores']} cores"
    if found["device"] not in (None, "cpu"):
        where += f", {found['device']}"
    days = sorted({row.get("date", found["date"]) for row in found["rows"]}) or [found["date"]]
    date = " to ".join(dict.fromkeys((days[0], days[-1])))
    return f"Measured on {date}: {where}; {versions}.\n\n{TABLES[name](found)}"


def filled(page: str, results: Path) -> str:
    """Returns the page with each table between its marks."""
    for name in TABLES:
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        text = f"{begin}\n{section(name, results)}\n{end}"
        page, times = re.subn(f"{begin}.*?{end}", lambda _, t=text: t, page, flags=re.DOTALL)  # type: ignore[misc]
        if times != 1:
            raise SystemExit(f"the page has {times} places for {name}, expected one")
    return page


def main() -> None:
    """Reads the results and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "performance.md")
    arguments = parser.parse_args()
    arguments.page.write_text(filled(arguments.page.read_text(), arguments.results))


if __name__ == "__main__":
    main()
