"""Describes the software and the machine of a comparison, and measures memory."""

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
    """Returns the versions of Python and of the packages in use.

    Args:
        other: the package of the other framework.
    """
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in dict.fromkeys((*_PACKAGES, other)):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def machine(threads: int | None) -> dict[str, Any]:
    """Describes the processor, the number of cores, the device and the system.

    Args:
        threads: the number of PyTorch's threads; None if it was not chosen.
    """
    chosen = {} if threads is None else {"PyTorch's threads": threads}
    return {
        "processor": processor(),
        "cores": visible_cores(),
        "device": jax.local_devices()[0].device_kind,
        "system": platform.platform(),
        **chosen,
    }


def processor() -> str:
    """Returns the processor's name, from ``/proc/cpuinfo`` or ``platform``."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


class Memory:
    """Measures the peak memory of the process above its use at construction; needs ``/proc``."""

    def __init__(self) -> None:
        self._before = _status("VmRSS")
        try:
            _CLEAR.write_text("5")  # resets VmHWM, the peak of resident memory
        except OSError:
            self._before = None

    def peak(self) -> float | None:
        """Returns the peak so far in megabytes; None if the system does not report it."""
        most = _status("VmHWM")
        return None if most is None or self._before is None else max(0.0, most - self._before)


def _status(name: str) -> float | None:
    if not _STATUS.exists():
        return None
    found = re.search(rf"{name}:\s+(\d+) kB", _STATUS.read_text())
    return int(found[1]) / 1024 if found else None
