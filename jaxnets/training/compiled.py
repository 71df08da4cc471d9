"""Compilation of the functions of ``epoch``, with a cache keyed by what they compute."""

import collections
import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxnets.training.batches import Batches
from jaxnets.training.computation import digest_of, primitives
from jaxnets.training.epoch import Program, train_members, train_steps
from jaxnets.training.placement import Placement


class _Computation:
    """A traced program and its devices, as a dictionary key that compares computations.

    Functions cannot be compared, so their jaxprs are. The digest of a jaxpr is slow to compute, so
    it is computed only for programs whose shapes and placement are equal.
    """

    def __init__(self, traced: Any, placement: Placement) -> None:
        config: Any = jax.config
        quick = config.values["jax_disable_most_optimizations"]
        # A jaxpr is flat: programs with the same one may differ in the structure of their results.
        structures = tuple(map(jax.tree.structure, (traced.args_info, traced.out_info)))
        self._jaxpr = traced.jaxpr
        self._seen = structures, placement, quick, tuple(self._jaxpr.in_avals)

    def __hash__(self) -> int:
        return hash(self._seen)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Computation) or self._seen != other._seen:
            return False
        return self is other or self._digest == other._digest

    @functools.cached_property
    def _digest(self) -> str:
        return digest_of(self._jaxpr)


# The most recently used programs of this process, the least recently used first.
_KNOWN: collections.OrderedDict[_Computation, Callable[..., Any]] = collections.OrderedDict()
_MOST_KNOWN = 16


class Compiled:
    """Compiles and runs the functions of ``epoch``.

    Args:
        placement: the devices.
        ahead: whether to compile ahead of time and measure the time; otherwise ``jax.jit`` compiles
            at the first call.

    Attributes:
        seconds: time spent tracing and compiling so far.
        watched: a function that makes the context in which a program is compiled.
    """

    def __init__(self, placement: Placement, *, ahead: bool = True) -> None:
        self.placement, self.ahead = placement, ahead
        self.seconds = 0.0
        self.watched: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
        self._compiled: dict[Any, Callable[..., Any]] = {}

    def run(
        self,
        function: Callable[..., Any],
        run: Any,
        state: Any,
        batches: Batches,
        count: np.int32 | None = None,
    ) -> Any:
        """Calls a function of ``epoch``; see ``Program`` for ``run``."""
        program = Program(run, self.placement)
        config: Any = jax.config  # these debugging modes of JAX do not run compiled programs
        if not self.ahead or config.jax_disable_jit or config.jax_debug_nans:
            return _jitted(function, program)(state, batches, count)
        # The state's shapes do not change during a run, so only those of the batches are compared.
        shapes = tuple((x.shape, x.dtype) for x in jax.tree.leaves(batches))
        key = (function, run, shapes, count is None)
        if key not in self._compiled:
            began = time.perf_counter()
            with self.watched():
                traced = _to_be_jitted(function, program).trace(state, batches, count)
                self._compiled[key] = _compiled(traced, self.placement)
            self.seconds += time.perf_counter() - began
        return self._compiled[key](state, batches, count)


def _compiled(traced: Any, placement: Placement) -> Callable[..., Any]:
    """Compiles a traced program, or returns a program that computes the same."""
    options = placement.compiler_options
    if any("callback" in name for name in primitives(traced.jaxpr)):
        return traced.lower().compile(options)  # not cached: the callback is a different function
    key = _Computation(traced, placement)
    if key not in _KNOWN:
        _KNOWN[key] = traced.lower().compile(options)
    _KNOWN.move_to_end(key)
    while len(_KNOWN) > _MOST_KNOWN:
        _KNOWN.popitem(last=False)
    return _KNOWN[key]


# The same object must be returned for equal arguments: ``jax.jit`` caches by function identity.
@functools.lru_cache(maxsize=32)
def _jitted(function: Callable[..., Any], program: Program) -> Any:
    return _to_be_jitted(function, program)


def _to_be_jitted(function: Callable[..., Any], program: Program) -> Any:
    # Training overwrites the buffers of the old state, which halves its memory.
    donated = 0 if function in (train_steps, train_members) else ()
    return jax.jit(functools.partial(function, program), donate_argnums=donated)
