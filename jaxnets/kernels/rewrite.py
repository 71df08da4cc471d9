"""Functions that are computed by kernels, where kernels serve."""

from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import jax

from jaxnets.kernels import native
from jaxnets.kernels.graph import Graph, Node, around, inner
from jaxnets.kernels.patterns import matched

P = ParamSpec("P")
R = TypeVar("R")


def with_kernels(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, computed by kernels where the processor has some for its operations.

    The function is traced, and operations that belong together, such as a convolution, its bias and
    ReLU, become one call of a kernel with its own gradient. It does not matter which layers made
    them. Loops by ``jax.lax.scan`` and ``jax.checkpoint`` are looked into. On accelerators, and
    where nothing is recognized, it is the function itself.

    The kernels have gradients in reverse mode only, to any order.

    Args:
        function: a pure function of pytrees of arrays, which returns one.

    Returns:
        A function of the same arguments.

    Examples:
        >>> layer = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        >>> with_kernels(layer)(jnp.ones((64, 3))).shape
        (64, 2)
    """

    def run(*arguments: P.args, **keywords: P.kwargs) -> R:
        if not native.wanted():
            return function(*arguments, **keywords)
        arrays, structure = jax.tree.flatten((arguments, keywords))

        def flat(*arrays: Any) -> R:
            given, named = jax.tree.unflatten(structure, arrays)
            return function(*given, **named)

        traced, shapes = jax.make_jaxpr(flat, return_shape=True)(*arrays)
        made = _rewritten(traced)[0](*arrays)
        result: R = jax.tree.unflatten(jax.tree.structure(shapes), made)
        return result

    return run


def explain(function: Callable[..., Any], *arguments: Any) -> list[str]:
    """What kernels compute of a function, in words.

    Args:
        function: such as a model.
        arguments: of it, arrays or ``jax.ShapeDtypeStruct``.

    Returns:
        A line for each call of a kernel, in order; empty where there are none.

    Examples:
        >>> explain(nnx.Conv(3, 8, (3, 3), rngs=nnx.Rngs(0)), jnp.ones((64, 32, 32, 3)))
        ['convolution 3 × 3, 3 → 8 channels']
    """
    if not native.wanted():
        return []
    return [call.about for call in _rewritten(jax.make_jaxpr(function)(*arguments))[1]]


def _rewritten(traced: Any) -> tuple[Callable[..., list[Any]], list[Node]]:
    """A traced function with kernels, and the kernels' calls, those within loops included."""
    graph = Graph(traced)
    calls = matched(graph)
    named = list(calls)
    for node in graph.nodes:
        within = inner(node)
        if within is None:
            continue
        function, found = _rewritten(within)
        if found:
            run = around(node, function)
            calls.append(Node(node.kind, node.inputs, node.outputs, run, effects=node.effects))
            named += found
    return lambda *arrays: graph.run(calls, arrays), named


__all__: Sequence[str] = ["explain", "with_kernels"]
