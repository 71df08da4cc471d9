"""The scores that the recipes reached, as ``benchmarks/measure_recipes.py`` recorded them."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "measured.json"


@cache
def records() -> dict[str, dict[str, Any]]:
    """The records by the recipes' names."""
    found: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def expectation(record: Mapping[str, Any]) -> str:
    """The score and the time of a recipe, in words.

    Args:
        record: the scores and seconds of a recipe, one for each seed, and the number of cores.

    Examples:
        >>> scores = {"accuracy": [0.9796, 0.9806, 0.9783]}
        >>> expectation({"scores": scores, "seconds": [9.5, 9.9, 11.2], "cores": 2})
        'accuracy 97.95 % (97.83 to 98.06 % for 3 seeds) in 10 s on 2 CPU cores'
    """
    scores = ", ".join(_score(name, values) for name, values in record["scores"].items())
    middle = sorted(record["seconds"])[len(record["seconds"]) // 2]
    time = f"{middle:.0f} s" if middle < 120 else f"{middle / 60:.0f} min"
    return f"{scores} in {time} on {record['cores']} CPU cores"


def _score(name: str, values: Sequence[float]) -> str:
    is_share = name in ("accuracy", "exact_match") or name.startswith("hit_rate")
    form, unit = (_percent, " %") if is_share else (_number, "")
    mean = form(sum(values) / len(values))
    spread = f"{form(min(values))} to {form(max(values))}{unit} for {len(values)} seeds"
    return f"{name.replace('_', ' ')} {mean}{unit} ({spread})"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _number(value: float) -> str:
    return f"{value:.4g}"
