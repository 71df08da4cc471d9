"""Formats numbers and settings for pages."""

import math
from collections.abc import Mapping
from typing import Any


def minus(text: str) -> str:
    """Replaces hyphens by minus signs."""
    return text.replace("-", "−")


def power(value: float) -> str:
    """Formats a number such as ``3.1 × 10⁻⁷``, or ``0``."""
    if not math.isfinite(value):
        return "not finite"
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.1e}".split("e")
    digits = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa} × 10{digits}"


def seconds(value: float) -> str:
    """Formats seconds with three significant digits."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def percent(share: float) -> str:
    """Formats a share in percent, such as ``97.91 %``."""
    return f"{100 * share:.2f} %"


def several(count: int, what: str) -> str:
    """Formats a count with a noun, such as ``1 seed`` or ``5 seeds``."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def listed(value: Any) -> str:
    """Formats a setting, such as ``yes``, ``none``, ``1, 2`` or ``lr 0.1``."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {listed(one)}" for name, one in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(listed, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
