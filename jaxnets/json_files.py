"""Reads JSON files that may be damaged or edited, with readable errors."""

import json
from pathlib import Path
from typing import Any

#: Exceptions that invalid values in a file can raise while they are read.
WRONG = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
#: The largest number of nested levels of objects and lists that jaxnets writes to a file.
MOST_NESTED = 100
_LONGEST = 200  # characters of a reason


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON file whose top level is an object.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if the file is not JSON, its top level is not an object, or it is nested more
            deeply than ``MOST_NESTED``.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"its top level is of type {type(value).__name__}, not an object")
    if is_nested(value, MOST_NESTED):
        raise ValueError("it is nested too deeply")
    return value


def is_nested(value: Any, most: int) -> bool:
    """Whether a value has more than ``most`` nested levels of objects and lists."""
    layer = [value]
    for _ in range(most + 1):
        layer = [part for part in layer if isinstance(part, dict | list | tuple)]
        parts = (part.values() if isinstance(part, dict) else part for part in layer)
        layer = [inner for part in parts for inner in part]
        if not layer:
            return False
    return True


def reason(error: Exception) -> str:
    """Returns the reason for an error as one line of at most 200 characters."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    text = f"no {text}" if isinstance(error, KeyError) else text
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
