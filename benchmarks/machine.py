"""The description of the machine of a measurement, and its file of results."""

import datetime
import json
import os
import platform
import resource
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("jaxnets", "jax", "flax", "optax", "torch", "keras", "numpy")


def write(path: Path, rows: list, **about: object) -> None:
    """Writes rows, after the date, the versions and the machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {**described(PACKAGES), "load": os.getloadavg()[0], **about, "rows": rows}
    path.write_text(json.dumps(content, indent=1) + "\n")


def described(packages: Iterable[str]) -> dict:
    """Returns the first fields of a file of results."""
    return {
        "date": datetime.date.today().isoformat(),
        "versions": {package: installed(package) for package in packages},
        "python": platform.python_version(),
        "device": device(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
    }


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def has_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16 (AVX512_BF16)."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "avx512_bf16" in cpuinfo.read_text()


def peak_memory() -> dict:
    """Returns the peak megabytes of this process, in memory and on its GPU."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"memory": own, "device_memory": device_memory()}


def device_memory() -> float | None:
    """Returns the peak megabytes of arrays on the GPU, from the library that is loaded."""
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        return sys.modules["torch"].cuda.max_memory_reserved() / 1e6
    if "jax" in sys.modules:
        stats = sys.modules["jax"].devices()[0].memory_stats() or {}
        return stats["peak_bytes_in_use"] / 1e6 if "peak_bytes_in_use" in stats else None
    return None


def device() -> str | None:
    """Returns the device of this process, from the library that is loaded."""
    if "jax" in sys.modules:
        return sys.modules["jax"].devices()[0].device_kind
    if "torch" not in sys.modules:
        return None
    cuda = sys.modules["torch"].cuda
    return cuda.get_device_name() if cuda.is_available() else "cpu"
