"""Converts values to JSON."""

import json
import math
from typing import Any

import numpy as np


def dumped(value: Any) -> str:
    """Returns a value as one line of JSON, converted by ``plain``."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def plain(value: Any) -> Any:
    """Converts a value to types of JSON.

    Numbers that are not finite become None. A float32 keeps only the digits that distinguish it
    from its neighbors.
    """
    match value:
        case dict():
            return {str(name): plain(each) for name, each in value.items()}
        case list() | tuple():
            return [plain(each) for each in value]
        case np.ndarray() if value.dtype == np.float32:
            return [plain(float(str(each))) for each in value]
        case np.ndarray() | np.generic():
            return plain(value.tolist())
        case float():
            return value if math.isfinite(value) else None
        case None | bool() | int() | str():
            return value
    return str(value)
