"""Computations that keep their name in a traced function, so that a kernel can take their place."""

import functools
import hashlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax

P = ParamSpec("P")
R = TypeVar("R")


class Mark(NamedTuple):
    """What a marked computation is.

    Attributes:
        function: the computation as it is written, without its settings.
        settings: its keyword arguments.
        structure: of its arrays, given by position.
    """

    function: Callable[..., Any]
    settings: dict[str, Any]
    structure: Any

    @property
    def name(self) -> str:
        """The name of the function, such as ``"batch_norm"``."""
        return self.function.__name__

    def plain(self, *arrays: Any) -> Any:
        """The computation with its settings, as it is written."""
        return self.function(*arrays, **self.settings)

    def given(self, arrays: Iterable[Any]) -> Any:
        """The arrays that a traced call reads, as the function takes them."""
        return jax.tree.unflatten(self.structure, arrays)


_marks: dict[str, Mark] = {}


def marked(function: Callable[P, R]) -> Callable[P, R]:
    """Marks a function of arrays: a trace has one equation for a call of it.

    It is differentiated, mapped and exported as any function under ``jax.jit`` is. Outside of a
    trace its operations run one after the other, as they are written.

    Args:
        function: takes pytrees of arrays by position, and hashable settings by keyword.

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
        if not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return function(*arrays, **settings)
        made: R = _named(function, tuple(sorted(settings.items())), structure)(*leaves)
        return made

    return call


@functools.cache
def _named(
    function: Callable[..., Any], settings: tuple[tuple[str, Any], ...], structure: Any
) -> Any:
    mark = Mark(function, dict(settings), structure)

    def run(*leaves: Any) -> Any:
        return mark.plain(*mark.given(leaves))

    listed = [f"{name}={value!r}" for name, value in settings]
    if structure != jax.tree.structure((0,) * structure.num_leaves):
        # In short: JAX names files after functions, and the system limits the names of files.
        listed.append(hashlib.sha256(str(structure).encode()).hexdigest()[:12])
    run.__name__ = run.__qualname__ = f"{function.__name__}({', '.join(listed)})"
    _marks[run.__name__] = mark
    return jax.jit(run)


def mark_of(equation: Any) -> Mark | None:
    """The mark of a traced equation; None if it is no call of a marked function."""
    if equation.primitive.name != "jit":
        return None
    return _marks.get(equation.params["name"])
