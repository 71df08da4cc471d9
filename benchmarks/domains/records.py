"""Reads and writes the records of these programs: the measurements of recipes by seed."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parent.parent
FOLDER = BENCHMARKS / "results" / "domains"
sys.path.insert(0, str(BENCHMARKS))


def recorded(path: Path) -> dict[str, Any]:
    """Returns the settings and seeds of a record, by recipe."""
    found: dict[str, Any] = json.loads(path.read_text())["recipes"] if path.exists() else {}
    return found


def add(
    path: Path, recipe: str, row: Mapping[str, Any], settings: Mapping[str, Any], **about: Any
) -> None:
    """Adds the measurements of a seed to a record.

    Values of the same seed that are not measured again stay. Seeds with other settings are removed.

    Args:
        path: the record.
        recipe: the name of the recipe.
        row: ``seed``, ``score`` and other values; those of PyTorch begin with ``torch_``.
        settings: the settings that affect the scores.
        **about: further fields of the record, such as the title and the command.
    """
    from machine import PACKAGES, described

    known, current = recorded(path), json.loads(json.dumps(settings))
    before = known.get(recipe, {})
    rows = before["seeds"] if before.get("settings") == current else []
    seeds = {each["seed"]: each for each in rows}
    seeds[row["seed"]] = {**seeds.get(row["seed"], {}), **row}
    known[recipe] = {"settings": current, "seeds": [seeds[each] for each in sorted(seeds)]}
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {**described(PACKAGES), **about, "recipes": known}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
