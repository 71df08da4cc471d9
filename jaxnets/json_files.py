"""JSON files that may have been damaged, or changed by somebody else."""

import json
from pathlib import Path
from typing import Any

#: What reading a file may raise whose values are not those that were written.
WRONG = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
_MOST_NESTED = 50
_LONGEST = 200  # of a reason, in characters


def read_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it holds anything else, or is nested so deeply that no file of ours is it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"it holds {type(value).__name__} and no object")
    layer: list[Any] = [value]
    for _ in range(_MOST_NESTED):
        parts = [part.values() if isinstance(part, dict) else part for part in layer]
        layer = [x for part in parts for x in part if isinstance(x, dict | list)]
    if layer:
        raise ValueError("it is nested too deeply")
    return value


def reason(error: Exception) -> str:
    """Why something was not understood, in a line that is not long."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    text = f"no {text}" if isinstance(error, KeyError) else text
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
