"""The scores that the recipes reached, as ``benchmarks/measure_recipes.py`` recorded them."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "measured.json"

#: The scores that are shares of the test data.
_SHARES = ("accuracy", "error_rate", "exact_match", "hit_rate_10", "map")
_NAMES = {"hit_rate_10": "hit rate@10", "map": "mAP@[.50:.95]", "rmse": "RMSE"}


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
    form, unit = (_percent, " %") if name in _SHARES else (_number, "")
    mean, least, most = map(form, (sum(values) / len(values), min(values), max(values)))
    seeds = "one seed" if len(values) == 1 else f"{len(values)} seeds"
    spread = seeds if least == most else f"{least} to {most}{unit} for {seeds}"
    return f"{_NAMES.get(name, name.replace('_', ' '))} {mean}{unit} ({spread})"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _number(value: float) -> str:
    return f"{value:.4g}"
