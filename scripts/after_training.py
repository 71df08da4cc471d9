"""Writes docs/results/after-training.md from the files that the benchmarks wrote.

    python scripts/after_training.py

Each file of benchmarks/results/after_training/ is a section of the page: its title, a paragraph on
the method, and a table. The numbers in the files are formatted text.
"""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RECORDS = ROOT / "benchmarks" / "results" / "after_training"
PAGE = ROOT / "docs" / "results" / "after-training.md"
_HEAD = """# After training

This page lists costs and benefits of pruning, quantization, distillation and other operations on a
trained network, on the included data sets. `scripts/after_training.py` writes it from recorded
results.
"""


def section(found: dict[str, Any]) -> str:
    """Returns a section: a title, the method, a table, and the machine.

    Args:
        found: a file of results: ``title``, ``method``, ``columns``, ``rows`` of text, ``command``
            that writes it, and the fields that ``benchmarks/machine.py`` adds.
    """
    numeric = [all(row[k][:1] in "0123456789−+" for row in found["rows"])
               for k in range(len(found["columns"]))]  # fmt: skip
    lines = [
        f"## {found['title']}",
        "",
        found["method"],
        "",
        f"| {' | '.join(found['columns'])} |",
        "|" + "|".join("---:" if right else "---" for right in numeric) + "|",
        *(f"| {' | '.join(row)} |" for row in found["rows"]),
        "",
        f"`{found['command']}`, {found['date']}, {found['processor']}, {found['cores']} cores, "
        f"jax {found['versions']['jax']}.",
    ]
    return "\n".join(lines)


def page() -> str:
    """Returns the whole page."""
    records = [json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))]
    return "\n\n".join([_HEAD.strip(), *map(section, records)]) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
