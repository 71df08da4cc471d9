"""C++ kernels for CPUs, compiled at first use if the machine has a C++ compiler.

XLA calls them through its foreign function interface (FFI). Each source file is a separate library,
compiled when a layer first needs it. Without a compiler, on unsupported processors and with
``JAXNETS_NATIVE=off``, layers use XLA's operations.
"""

import contextlib
import functools
import hashlib
import os
import platform
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import compilation
from jaxnets.arrays import InputError
from jaxnets.kernels.borrowed import Borrowed
from jaxnets.kernels.geometry import Shaped
from jaxnets.kernels.library import Failed, Missing, compiler, identity, open_library
from jaxnets.kernels.shard import vary_like

R = TypeVar("R")

VARIABLE = "JAXNETS_NATIVE"

#: The functions of each library that XLA can call.
LIBRARIES = {
    "activation": ("gelu_forward", "gelu_backward", "sine", "cosine", "sine_and_cosine"),
    "attention": ("attention_forward", "attention_backward"),
    "conv_pool": ("conv_pool_forward", "conv_pool_backward_kernel", "conv_pool_backward_input"),
    "convolution": (
        "convolution_forward",
        "convolution_backward_input",
        "convolution_backward_kernel",
    ),
    "cross_entropy": ("cross_entropy_forward", "cross_entropy_backward"),
    "depthwise": (
        "depthwise_forward",
        "depthwise_backward_kernel",
        "depthwise_backward_input",
    ),
    "dropout": ("dropout",),
    "gates": ("gates_forward", "gates_backward"),
    "int8": ("int8_linear",),
    "linear": ("linear_forward", "linear_backward"),
    "linear_layer": (
        "linear_layer_forward",
        "linear_layer_input_gradient",
        "linear_layer_kernel_gradient",
    ),
    "materialize": ("materialize",),
    "normalization": (
        "group_norm_forward",
        "group_norm_backward",
        "layer_norm_forward",
        "layer_norm_backward",
    ),
    "pooling": (
        "max_pool_forward",
        "max_pool_backward",
        "wide_max_pool_forward",
        "wide_max_pool_backward",
        "avg_pool_forward",
        "avg_pool_backward",
    ),
    "recurrence": (
        "lstm_forward",
        "lstm_backward",
        "gru_forward",
        "gru_backward",
        "tanh_forward",
        "tanh_backward",
        "relu_forward",
        "relu_backward",
    ),
}

# Elementwise functions whose result may be in the memory of the argument.
_IN_PLACE = {"materialize"}
_SOURCES = Path(__file__).parent / "sources"
# No -ffast-math: GCC would link code that sets the whole process to flush subnormals to zero.
_FLAGS = (
    "-std=c++17 -O2 -march=native -ffp-contract=fast -fno-math-errno -fno-exceptions -fno-rtti "
    "-shared -fPIC -fvisibility=hidden -w"
)
_NEEDED = {"avx2", "fma"}  # processor flags that the kernels require
_VECTORS = ("avx", "fma", "amx")  # prefixes of the flags on which rounding may depend

# Suffix of the name of a float64 library; a float32 library has no suffix.
_DOUBLE = "64"

_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
_requested: set[str] = set()  # libraries requested in this process
_aside: ContextVar[bool] = ContextVar("native kernels aside", default=False)
_planned: ContextVar[set[str] | None] = ContextVar(
    "libraries that are about to be used", default=None
)


@dataclass(frozen=True)
class _Kernels:
    """A loaded library whose functions are registered with XLA.

    Attributes:
        digest: hash of the source, the compiler and the flags. It is part of the names of the FFI
            targets, because a name can be registered only once in a process.
        sha256: hash of the compiled library.
    """

    digest: str
    sha256: str


def ready(name: str, *arrays: Shaped) -> bool:
    """Whether a library can be called with these arrays; the first call compiles it.

    Raises:
        InputError: if the variable ``JAXNETS_NATIVE`` is neither on nor off.
    """
    dtypes = {array.dtype for array in arrays}
    known = any(dtypes <= {np.dtype(one)} for one in (np.float32, np.float64, jnp.bfloat16))
    if not known or _aside.get():
        return False
    name = _of_dtype(name, arrays[0].dtype)
    planned = _planned.get()
    if planned is not None:  # within ``at_once``, which loads the libraries afterwards
        planned.add(name)
        return True
    _requested.add(name)
    return isinstance(_loaded(name), _Kernels)


def at_once(find: Callable[[], R]) -> R:
    """Calls a function that uses ``ready``, and compiles the libraries it needs concurrently.

    The function first runs as if all libraries were ready, which records the names it requests. It
    runs again only if one of them cannot be loaded.
    """
    planned: set[str] = set()
    token = _planned.set(planned)
    try:
        found = find()
    finally:
        _planned.reset(token)
    if check_switch() and all(isinstance(one, _Kernels) for one in _loaded_at_once(planned)):
        _requested.update(planned)
        return found
    return find()


def _of_dtype(name: str, dtype: Any) -> str:
    return name + _DOUBLE if dtype == np.float64 else name


def status() -> str:
    """Returns "in use", or "not in use: " and the reason."""
    found = _loaded_at_once(LIBRARIES)
    missing = sorted(str(one) for one in found if isinstance(one, Missing))
    return f"not in use: {missing[0]}" if missing else "in use"


def asked_for(more: Iterable[str] = ()) -> dict[str, str | None]:
    """Returns the abbreviated SHA-256 of each library that this process has requested.

    Args:
        more: names of further libraries, which are loaded by this call.

    Returns:
        The hashes by name; None for a library that is not available, so that layers use XLA's
        operations.
    """
    _requested.update(name for name in more if name.removesuffix(_DOUBLE) in LIBRARIES)
    found = {name: _loaded(name) for name in sorted(_requested)}
    return {
        name: each.sha256[:16] if isinstance(each, _Kernels) else None
        for name, each in found.items()
    }


def check_switch() -> bool:
    """Whether the variable ``JAXNETS_NATIVE`` enables kernels.

    Raises:
        InputError: if it is neither on nor off.
    """
    given = os.environ.get(VARIABLE, "")
    if (wanted := compilation.switched(given)) is None:
        raise InputError(VARIABLE, "on or off", repr(given[:40]))
    return wanted


def wanted() -> bool:
    """Whether functions are traced with kernels, that is, not within ``aside``."""
    return not _aside.get()


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """A context in which functions are traced without kernels."""
    token = _aside.set(True)
    try:
        yield
    finally:
        _aside.reset(token)


def call(
    of: str,
    name: str,
    results: Sequence[jax.ShapeDtypeStruct],
    *arguments: jax.Array,
    **attributes: Any,
) -> list[jax.Array]:
    """Calls a function of a library that is ``ready``.

    Args:
        of: the library, one of ``LIBRARIES``.
        name: the name of the function; its arguments and results are documented in the source.
        results: the shapes and dtypes of the results.
        arguments: arrays. The floating-point ones have the dtype of the first: float32, float64 or
            bfloat16, for which the kernel computes in float32. The first may be ``Borrowed`` if the
            kernel accepts addresses.
        attributes: NumPy scalars or arrays, constant in the compiled program.

    Returns:
        The results, which vary over the same mesh axes as the first argument in ``jax.shard_map``.
    """
    kernels = _loaded(_of_dtype(of, arguments[0].dtype))
    assert isinstance(kernels, _Kernels)
    target = f"jaxnets_{name}_{kernels.digest}"
    wide = [jax.ShapeDtypeStruct(each.shape, _widened(each.dtype)) for each in results]
    # XLA cannot vectorize a foreign call, so under ``vmap`` it runs once for each element.
    options: dict[str, Any] = {"vmap_method": "sequential"}
    if name in _IN_PLACE:
        options = {"vmap_method": "broadcast_all", "input_output_aliases": {0: 0}}
    run = jax.ffi.ffi_call(target, wide, **options)
    made = run(*(each.astype(_widened(each.dtype)) for each in arguments), **attributes)
    made = [each.astype(of.dtype) for each, of in zip(made, results, strict=True)]
    return made if isinstance(arguments[0], Borrowed) else vary_like(arguments[0], made)


def _widened(dtype: Any) -> Any:
    """Returns the dtype in which kernels compute: float32 for bfloat16, otherwise the same."""
    return np.dtype(np.float32) if dtype == jnp.bfloat16 else dtype


def _loaded(name: str) -> _Kernels | Missing:
    with _locks[name]:  # ``functools.cache`` alone would let two threads compile the same library
        return _load(name)


def _loaded_at_once(names: Iterable[str]) -> list[_Kernels | Missing]:
    """Loads several libraries; compilers run concurrently."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(_loaded, sorted(names)))


@functools.cache
def _load(name: str) -> _Kernels | Missing:
    try:
        _check_machine()
        functions = LIBRARIES[name.removesuffix(_DOUBLE)]
        command, source = compiler(), _SOURCES / f"{name.removesuffix(_DOUBLE)}.cc"
        of_dtype = ["-DDOUBLE"] if name.endswith(_DOUBLE) else []
        flags = [*_FLAGS.split(), *of_dtype, f"-I{_SOURCES}", f"-I{jax.ffi.include_dir()}"]
        digest = _digest(command, source, *of_dtype)
        made = open_library(command, [*flags, str(source)], f"native-{name}-{digest}.so", functions)
    except OSError as error:  # for example a full disk, or no such compiler
        return _reported(Failed(str(error)))
    except Missing as missing:
        return _reported(missing)
    for function in functions:
        handler = jax.ffi.pycapsule(getattr(made.opened, function))
        jax.ffi.register_ffi_target(f"jaxnets_{function}_{digest}", handler, platform="cpu")
    return _Kernels(digest, made.sha256)


def _reported(missing: Missing) -> Missing:
    """Logs the reason once if kernels are missing because of an error; returns the reason."""
    if isinstance(missing, Failed):
        compilation.say_once(f"native kernels are not in use: {missing}")
    return missing


def _check_machine() -> None:
    if not check_switch():
        raise Missing(f"{VARIABLE} is off")
    if jax.default_backend() != "cpu":
        raise Missing(f"they are for CPUs, and JAX computes on {jax.default_backend()}")
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise Missing("they are for Linux on x86-64")
    missing = sorted(_NEEDED - set(_processor().split()))
    if missing:
        raise Missing(f"the processor has no {' and no '.join(missing)}")


def processor() -> str:
    """Returns the processor's name and the vector extensions on which rounding may depend."""
    about = _described()
    known = [flag for flag in about.get("flags", "").split() if flag.startswith(_VECTORS)]
    name = about.get("model name") or platform.processor() or platform.machine()
    return f"{name} with {' '.join(sorted(known))}" if known else name


@functools.cache
def processor_has(*instructions: str) -> bool:
    """Whether the processor has instructions, named as in ``/proc/cpuinfo``."""
    return {*instructions} <= {*_described().get("flags", "").split()}


def _processor() -> str:
    """Returns the processor's model and flags; ``-march=native`` depends on them."""
    about = _described()
    wanted = ("vendor_id", "cpu family", "model", "flags")
    return " ".join(about.get(name, "") for name in wanted)


def _described() -> dict[str, str]:
    """Returns the first entry of ``/proc/cpuinfo``; an empty dictionary on other systems."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return {}
    lines = [line.partition(":") for line in text.partition("\n\n")[0].splitlines()]
    return {name.strip(): value.strip() for name, _, value in lines}


def _digest(command: list[str], source: Path, *more: str) -> str:
    """Hashes everything that a compiled library depends on.

    These are the source, the headers, the FFI header of XLA, the flags, the processor and the
    compiler.
    """
    interface = Path(jax.ffi.include_dir()) / "xla" / "ffi" / "api" / "c_api.h"
    digest = hashlib.sha256()
    for file in (source, *sorted(_SOURCES.glob("*.h")), interface):
        digest.update(file.read_bytes())
    digest.update("\n".join([_FLAGS, *more, _processor(), identity(command)]).encode())
    return digest.hexdigest()[:16]
