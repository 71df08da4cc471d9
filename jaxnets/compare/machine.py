"""What a comparison runs on."""

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import jax

from jaxnets.compare.torch_side import visible_cores

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_PACKAGES = ("jaxnets", "jax", "jaxlib", "flax", "optax", "numpy")


def versions(other: str) -> dict[str, str | None]:
    """Of the packages that take part."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in dict.fromkeys((*_PACKAGES, other)):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def machine(threads: int | None) -> dict[str, Any]:
    """Processor, cores, device; and the other framework's threads, where they were chosen."""
    chosen = {} if threads is None else {"PyTorch's threads": threads}
    return {
        "processor": processor(),
        "cores": visible_cores(),
        "device": jax.local_devices()[0].device_kind,
        "system": platform.platform(),
        **chosen,
    }


def processor() -> str:
    """The processor's name, as far as the system tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


class Memory:
    """Measures what the process takes in addition to what it holds now; where /proc tells."""

    def __init__(self) -> None:
        self._before = _status("VmRSS")
        try:
            _CLEAR.write_text("5")  # has the peak begin anew
        except OSError:
            self._before = None

    def peak(self) -> float | None:
        """Megabytes at most so far; None if that cannot be known."""
        most = _status("VmHWM")
        return None if most is None or self._before is None else max(0.0, most - self._before)


def _status(name: str) -> float | None:
    if not _STATUS.exists():
        return None
    found = re.search(rf"{name}:\s+(\d+) kB", _STATUS.read_text())
    return int(found[1]) / 1024 if found else None
