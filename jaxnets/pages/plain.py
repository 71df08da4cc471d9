"""Values as JSON has words for them."""

import json
import math
from typing import Any

import numpy as np


def dumped(held: Any) -> str:
    """``plain`` values as one line of JSON."""
    return json.dumps(plain(held), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def plain(value: Any) -> Any:
    """What JSON has a word for; a float32 in as few digits as tell it from its neighbours."""
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
