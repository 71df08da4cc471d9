"""Less to do for each of the many small programs that the tests compile.

XLA's older code generator for CPUs takes half the time, a module of code for each program instead
of several takes a fifth less, and a fifth of what remains is making the context of each program.
What is kept of them is packed quickly rather than well. Arrays of NumPy's go to the device as they
are, for which JAX compiles a program for each shape that does nothing.
"""

import functools
import itertools
import os
import threading
import zlib

import jax
import numpy as np
from jax._src import compilation_cache, compiler
from jax._src.interpreters import mlir
from jax._src.lax import lax

OPTIONS = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}


def environment() -> dict[str, str]:
    """Of a process that is to compile so."""
    made = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    if _known():
        flags = [f"--{name}={str(value).lower()}" for name, value in OPTIONS.items()]
        made["XLA_FLAGS"] = " ".join([made.get("XLA_FLAGS", ""), *flags])
    return made


def install() -> None:
    """Has this process compile so wherever most optimisations are off."""
    if hasattr(mlir, "make_ir_context"):
        mlir.make_ir_context = _shared(mlir.make_ir_context)
    if hasattr(lax, "stage_p"):
        lax.stage_p.def_impl(_put(lax.stage_p.impl))
    compress = getattr(compilation_cache, "compress_executable", None)
    if compress is not None and compress(b"") == zlib.compress(b""):
        compilation_cache.compress_executable = functools.partial(zlib.compress, level=1)
    if not _known():
        return
    as_ever = compiler.get_compile_options

    def quick(*arguments, **options):
        made = as_ever(*arguments, **options)
        if made.executable_build_options.debug_options.xla_backend_optimization_level == 0:
            made.env_option_overrides = [*made.env_option_overrides, *OPTIONS.items()]
        return made

    compiler.get_compile_options = quick


def _shared(make):
    """Has programs share contexts, each thread its own.

    A context keeps the constants of its programs, so none is kept for long.
    """
    uses, shared = itertools.count(), functools.lru_cache(maxsize=1)(lambda *_: make())
    return lambda: shared(threading.get_ident(), next(uses) // 100)


def _put(stage):
    """Has numbers of NumPy's copied, and what else there is made an array as ever."""

    def put(x):
        plain = isinstance(x, np.ndarray) and x.dtype.kind in "biufc"
        return jax.device_put(x, may_alias=False) if plain else stage(x)

    return put


@functools.cache
def _known() -> bool:
    """Whether this XLA has the older one, and these options."""
    try:
        jax.jit(lambda: 0).lower().compile(OPTIONS)
    except jax.errors.JaxRuntimeError:
        return False
    return hasattr(compiler, "get_compile_options")
