"""JSON files that may have been damaged, or changed by somebody else."""

import json
from pathlib import Path
from typing import Any

#: What reading a file may raise whose values are not those that were written.
WRONG = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
#: The most levels of objects and lists in a file of ours.
MOST_NESTED = 100
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
    if is_nested(value, MOST_NESTED):
        raise ValueError("it is nested too deeply")
    return value


def is_nested(value: Any, most: int) -> bool:
    """Whether a value has more levels of objects and lists than so many."""
    layer = [value]
    for _ in range(most + 1):
        layer = [part for part in layer if isinstance(part, dict | list | tuple)]
        parts = (part.values() if isinstance(part, dict) else part for part in layer)
        layer = [inner for part in parts for inner in part]
        if not layer:
            return False
    return True


def reason(error: Exception) -> str:
    """The reason why a file was not understood, in a short line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    text = f"no {text}" if isinstance(error, KeyError) else text
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
