"""Kernels in C++ for CPUs, compiled when they are first needed, where the machine has a compiler.

XLA calls them by its foreign function interface. Each source file is a library of its own, compiled
when a layer first asks for it. Where there is no compiler, on other processors and with
``JAXNETS_NATIVE=off``, layers compute by XLA's own operations.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets import compilation
from jaxnets.layers.shard import vary_like

VARIABLE = "JAXNETS_NATIVE"

#: What each library has for XLA to call.
LIBRARIES = {
    "conv_pool": ("conv_pool_forward", "conv_pool_backward_kernel", "conv_pool_backward_input"),
    "linear": ("linear_forward", "linear_backward"),
    "recurrence": ("lstm_forward", "lstm_backward", "gru_forward", "gru_backward"),
}

_SOURCES = Path(__file__).parent
# No fast-math: linking that in would have the whole process flush small numbers to zero.
_FLAGS = (
    "-std=c++17 -O2 -march=native -ffp-contract=fast -fno-math-errno -fno-exceptions -fno-rtti "
    "-shared -fPIC -fvisibility=hidden -w"
)
_NEEDED = {"avx2", "fma"}  # of the processor

_lock = threading.Lock()
_aside: ContextVar[bool] = ContextVar("native kernels aside", default=False)


class _Missing(Exception):
    """Why there are no kernels."""


def ready(library: str, *arrays: jax.Array) -> bool:
    """Whether kernels can be called with these arrays; compiles them at the first question."""
    dtypes = {array.dtype for array in arrays}
    known = any(dtypes <= {np.dtype(one)} for one in (np.float32, np.float64))
    return known and not _aside.get() and isinstance(_loaded(library), str)


def status() -> str:
    """In words, for people: whether the kernels are used, or why not."""
    found = {_loaded(library) for library in LIBRARIES}
    missing = sorted(str(one) for one in found if isinstance(one, _Missing))
    return f"not in use: {missing[0]}" if missing else "in use"


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Within it layers are traced as they are where there are no kernels."""
    token = _aside.set(True)
    try:
        yield
    finally:
        _aside.reset(token)


def call(
    library: str,
    name: str,
    results: Sequence[jax.ShapeDtypeStruct],
    *arguments: jax.Array,
    **attributes: Any,
) -> list[jax.Array]:
    """Calls a kernel, if its library is ``ready``.

    Args:
        library: one of ``LIBRARIES``.
        name: of a handler in its source, which says what it takes and gives.
        results: their shapes and dtypes.
        arguments: arrays, of which the first is of float32 or float64, as are all floating ones.
        attributes: NumPy scalars.

    Returns:
        The results, which under ``jax.shard_map`` differ by device as the first argument does.
    """
    digest = _loaded(library)
    assert isinstance(digest, str)
    target = f"jaxnets_{name}_{digest}"
    run = jax.ffi.ffi_call(target, list(results), vmap_method="sequential")
    return vary_like(arguments[0], list(run(*arguments, **attributes)))


def _loaded(library: str) -> str | _Missing:
    with _lock:
        return _load(library)


@functools.cache
def _load(library: str) -> str | _Missing:
    """What tells these kernels from others, in hexadecimal digits."""
    try:
        _check_machine()
        compiler, source = _compiler(), _SOURCES / f"{library}.cc"
        flags = [*_FLAGS.split(), f"-I{_SOURCES}", f"-I{jax.ffi.include_dir()}"]
        digest = _digest(compiler, source)
        opened = _open([*compiler, *flags, str(source)], f"native-{library}-{digest}.so")
    except _Missing as missing:
        return missing
    except OSError as error:  # no room to write to, a library that cannot be opened
        return _Missing(str(error))
    for name in LIBRARIES[library]:
        handler = jax.ffi.pycapsule(getattr(opened, name))
        jax.ffi.register_ffi_target(f"jaxnets_{name}_{digest}", handler, platform="cpu")
    return digest


def _check_machine() -> None:
    if os.environ.get(VARIABLE) == "off":
        raise _Missing(f"{VARIABLE} is off")
    if jax.default_backend() != "cpu":
        raise _Missing(f"they are for CPUs, and JAX computes on {jax.default_backend()}")
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise _Missing("they are for Linux on x86-64")
    missing = sorted(_NEEDED - set(_processor().split()))
    if missing:
        raise _Missing(f"the processor has no {' and no '.join(missing)}")


def _processor() -> str:
    """What this processor is and can do, in Linux' words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    wanted = ("vendor_id", "cpu family", "model\t", "flags")
    first = lines[: lines.index("")] if "" in lines else lines
    return " ".join(line.partition(":")[2] for line in first if line.startswith(wanted))


def _compiler() -> list[str]:
    if given := shlex.split(os.environ.get("CXX", "")):
        return given
    for name in ("g++", "clang++", "c++"):
        if found := shutil.which(name):
            return [found]
    raise _Missing("there is no C++ compiler: g++, clang++ or what CXX names")


def _digest(compiler: list[str], source: Path) -> str:
    """Another one for another source, compiler, processor or interface of XLA."""
    interface = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    digest = hashlib.sha256()
    for file in (source, *sorted(_SOURCES.glob("*.h")), interface):
        digest.update(file.read_bytes())
    binary = os.path.realpath(shutil.which(compiler[0]) or compiler[0])
    described = [_FLAGS, _processor(), *compiler, binary, str(os.path.getmtime(binary))]
    digest.update("\n".join(described).encode())
    return digest.hexdigest()[:16]


def _open(command: list[str], name: str) -> ctypes.CDLL:
    """The compiled kernels, which are kept in the cache folder if there is one."""
    folder = compilation.folder()
    if folder is not None:
        with contextlib.suppress(OSError):  # not there, or spoilt
            return ctypes.CDLL(str(folder / name))
    with tempfile.TemporaryDirectory(prefix="jaxnets-") as scratch:
        fresh = Path(scratch) / name
        _run([*command, "-o", str(fresh)])
        library = ctypes.CDLL(str(fresh))  # stays open when its file is gone
        if folder is not None:
            partial = folder / f"{name}.{os.getpid()}"
            shutil.copy(fresh, partial)
            partial.replace(folder / name)  # at once, as other processes may look
    return library


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        raise _Missing(f"{command[0]} took more than two minutes") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        raise _Missing(f"{command[0]} failed: {' '.join(lines[:1]) or done.returncode}")
