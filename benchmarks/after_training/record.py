"""Reads and writes the records from which docs/results/after-training.md is generated."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))


def read(name: str) -> dict:
    """Returns the record that ``write`` wrote, or an empty one."""
    path = _path(name)
    return json.loads(path.read_text()) if path.exists() else {}


def write(name: str, about: dict, more: tuple[str, ...] = ()) -> None:
    """Writes a record, after the date, the versions and the machine.

    Args:
        name: name of the file.
        about: the title, the method, the command, the columns and the rows.
        more: further packages whose versions are recorded.
    """
    from machine import PACKAGES, described

    path, content = _path(name), {**described((*PACKAGES, *more)), **about}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _path(name: str) -> Path:
    return ROOT / "benchmarks" / "results" / "after_training" / f"{name}.json"
