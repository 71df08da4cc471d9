"""Programs compiled for the devices ahead of their first run, and the time that it took."""

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxnets.training.batches import Batches
from jaxnets.training.epoch import Program, train_members, train_steps
from jaxnets.training.placement import Placement


class Compiled:
    """Runs the functions of ``epoch``.

    Args:
        placement: where.
        ahead: whether to compile for new shapes ahead of a run, and take the time; otherwise JAX
            does when it must, and another object with the same program finds it again.

    Attributes:
        seconds: time spent tracing and compiling so far.
        watched: makes the context in which a program is compiled.
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
        """Calls a function of ``epoch`` with a program of ``run``."""
        jitted = _jitted(function, Program(run, self.placement))
        config: Any = jax.config  # with these JAX goes through a function step by step
        if not self.ahead or config.jax_disable_jit or config.jax_debug_nans:
            return jitted(state, batches, count)
        shapes = tuple((x.shape, x.dtype) for x in jax.tree.leaves(batches))
        key = (jitted, shapes, count is None)
        if key not in self._compiled:
            began = time.perf_counter()
            with self.watched():
                lowered = jitted.lower(state, batches, count)
                self._compiled[key] = lowered.compile(self.placement.compiler_options)
            self.seconds += time.perf_counter() - began
        return self._compiled[key](state, batches, count)


# Calls with the same model and settings find its program again.
@functools.lru_cache(maxsize=32)
def _jitted(function: Callable[..., Any], program: Program) -> Any:
    donated = 0 if function in (train_steps, train_members) else ()
    return jax.jit(functools.partial(function, program), donate_argnums=donated)
