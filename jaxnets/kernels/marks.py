"""Marked functions, which stay recognizable in a jaxpr, so that a kernel can replace them."""

import functools
import hashlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


class Mark(NamedTuple):
    """A call of a marked function.

    Attributes:
        function: the marked function.
        settings: the keyword arguments of the call.
        structure: the pytree structure of the positional arguments, which are arrays.
    """

    function: Callable[..., Any]
    settings: dict[str, Any]
    structure: Any

    @property
    def name(self) -> str:
        """The name of the function, such as ``"batch_norm"``."""
        return self.function.__name__

    def plain(self, *arrays: Any) -> Any:
        """Calls the function with its settings, in XLA's operations."""
        return self.function(*arrays, **self.settings)

    def given(self, arrays: Iterable[Any]) -> Any:
        """Restores the function's positional arguments from the inputs of the traced call."""
        return jax.tree.unflatten(self.structure, arrays)


_marks: dict[str, Mark] = {}


def marked(function: Callable[P, R]) -> Callable[P, R]:
    """Marks a function of arrays, so that a call of it is one equation in a jaxpr.

    In a trace the function is wrapped in ``jax.jit`` under a name that identifies the function and
    its settings; ``mark_of`` finds the mark by that name. It can be differentiated, vmapped and
    exported like any function under ``jax.jit``. Outside of a trace it runs op by op.

    Args:
        function: a function of pytrees of arrays by position, and hashable settings by keyword.

    Examples:
        >>> @marked
        ... def scaled(x, *, factor):
        ...     return x * factor
        >>> mark_of(jax.make_jaxpr(lambda x: scaled(x, factor=2.0))(1.0).eqns[0]).settings
        {'factor': 2.0}
    """

    @functools.wraps(function)
    def call(*arrays: P.args, **settings: P.kwargs) -> R:
        leaves, structure = jax.tree.flatten(arrays)
        # Under ``jax.jit``, an eager call would compile a program for each shape.
        if not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return function(*arrays, **settings)
        made: R = _named(function, tuple(sorted(settings.items())), structure)(*leaves)
        return made

    return call


# Cached, because ``jax.jit`` caches traces by the identity of the function.
@functools.cache
def _named(
    function: Callable[..., Any], settings: tuple[tuple[str, Any], ...], structure: Any
) -> Any:
    mark = Mark(function, dict(settings), structure)

    def run(*leaves: Any) -> Any:
        return mark.plain(*mark.given(leaves))

    listed = [f"{name}={value!r}" for name, value in settings]
    if structure != jax.tree.structure((0,) * structure.num_leaves):
        # Hashed, because JAX uses function names in file names, whose length is limited.
        listed.append(hashlib.sha256(str(structure).encode()).hexdigest()[:12])
    run.__name__ = run.__qualname__ = f"{function.__name__}({', '.join(listed)})"
    _marks[run.__name__] = mark
    return jax.jit(run)


def mark_of(equation: Any) -> Mark | None:
    """Returns the mark of an equation; None if it is not a call of a marked function."""
    if equation.primitive.name != "jit":
        return None
    return _marks.get(equation.params["name"])
