"""Programs compiled ahead of their first run, and the time that it took."""

import time
from collections.abc import Callable
from typing import Any

import jax

from jaxnets.training.state import Program


class Compiled:
    """Runs the jitted functions of one program, compiling each for new shapes ahead of its run.

    Attributes:
        seconds: time spent tracing and compiling so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._programs: dict[Any, Callable[..., Any]] = {}

    def run(self, function: Any, program: Program, *arguments: Any) -> Any:
        """Calls ``function(program, *arguments)``."""
        shapes = tuple((x.shape, x.dtype) for x in jax.tree.leaves(arguments))
        if (function, shapes) not in self._programs:
            began = time.perf_counter()
            compiled = function.lower(program, *arguments).compile()
            self.seconds += time.perf_counter() - began
            self._programs[function, shapes] = compiled
        return self._programs[function, shapes](*arguments)
