"""Computations that keep their name in a traced function, so that a kernel can take their place."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


class Mark(NamedTuple):
    """What a marked computation is.

    Attributes:
        name: of the function, such as ``"batch_norm"``.
        settings: its keyword arguments.
    """

    name: str
    settings: dict[str, Any]


_marks: dict[str, Mark] = {}


def marked(function: Callable[P, R]) -> Callable[P, R]:
    """Marks a function of arrays: a trace has one equation for a call of it.

    It is differentiated, mapped and exported as any function under ``jax.jit`` is.

    Args:
        function: takes pytrees of arrays by position, and hashable settings by keyword.

    Examples:
        >>> @marked
        ... def scaled(x, *, factor):
        ...     return x * factor
        >>> mark_of(jax.make_jaxpr(lambda x: scaled(x, factor=2.0))(1.0).eqns[0])
        Mark(name='scaled', settings={'factor': 2.0})
    """

    @functools.wraps(function)
    def call(*arrays: P.args, **settings: P.kwargs) -> R:
        made: R = _named(function, tuple(sorted(settings.items())))(*arrays)
        return made

    return call


@functools.cache
def _named(function: Callable[..., Any], settings: tuple[tuple[str, Any], ...]) -> Any:
    def run(*arrays: Any) -> Any:
        return function(*arrays, **dict(settings))

    listed = ", ".join(f"{name}={value!r}" for name, value in settings)
    run.__name__ = run.__qualname__ = f"{function.__name__}({listed})"
    _marks[run.__name__] = Mark(function.__name__, dict(settings))
    return jax.jit(run)


def mark_of(equation: Any) -> Mark | None:
    """The mark of a traced equation; None if it is no call of a marked function."""
    if equation.primitive.name != "jit":
        return None
    return _marks.get(equation.params["name"])
