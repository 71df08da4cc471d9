"""The machine and the versions that a benchmark ran with."""

import datetime
import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import jax


def described(packages: Iterable[str]) -> dict:
    """What a file of results begins with."""
    return {
        "date": datetime.date.today().isoformat(),
        "versions": {package: version(package) for package in packages},
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        "cores": len(os.sched_getaffinity(0)),
        "processor": processor(),
    }


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
