"""Speeds up the compilation of the many small programs in the tests.

- XLA's older code generator for CPUs takes half as long.
- One code module per program, instead of several, saves a fifth of the time.
- Programs share MLIR contexts, whose creation would take a fifth of the remaining time.
- Programs in the cache on disk are compressed with zlib's fastest level.
- NumPy arrays are copied to the device directly. JAX would compile a program for each shape, which
  returns its input.
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
    """The environment variables of a child process that compiles in this way."""
    made = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    if _known():
        flags = [f"--{name}={str(value).lower()}" for name, value in OPTIONS.items()]
        made["XLA_FLAGS"] = " ".join([made.get("XLA_FLAGS", ""), *flags])
    return made


def install() -> None:
    """Applies these changes to this process.

    The options of XLA apply only to programs that are compiled with most optimizations disabled.
    """
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
    """Lets consecutive programs of a thread share an MLIR context.

    A context keeps the constants of its programs, so a new one is created after 100 programs.
    """
    uses, shared = itertools.count(), functools.lru_cache(maxsize=1)(lambda *_: make())
    return lambda: shared(threading.get_ident(), next(uses) // 100)


def _put(stage):
    """Copies NumPy arrays of numbers directly, and converts other values as before."""

    def put(x):
        plain = isinstance(x, np.ndarray) and x.dtype.kind in "biufc"
        return jax.device_put(x, may_alias=False) if plain else stage(x)

    return put


@functools.cache
def _known() -> bool:
    """Whether this XLA has the older code generator, and these options."""
    try:
        jax.jit(lambda: 0).lower().compile(OPTIONS)
    except jax.errors.JaxRuntimeError:
        return False
    return hasattr(compiler, "get_compile_options")
