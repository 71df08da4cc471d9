"""Rewrites traced functions so that kernels compute parts of them."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np
from flax import nnx
from jax.extend import core
from jax.sharding import Mesh, PartitionSpec

from jaxnets.arrays import called, check_function
from jaxnets.kernels import chains, native
from jaxnets.kernels.borrowed import Borrowed, CannotBorrowError
from jaxnets.kernels.graph import Graph, Node, around, inner
from jaxnets.kernels.patterns import matched

P = ParamSpec("P")
R = TypeVar("R")


def with_kernels(function: Callable[P, R]) -> Callable[P, R]:
    """Replaces operations of a function by C++ kernels that compute the same.

    The function is traced, and operations that belong together, such as a convolution, its bias and
    ReLU, become one call of a kernel with its own gradient. The patterns match operations, not
    layers, so they apply to any network. They also apply within ``jax.lax.scan`` and
    ``jax.checkpoint``. Recurrent layers without a kernel get a hand-written gradient, on
    accelerators too. Other operations are not changed.

    The kernels have gradients in reverse mode only, to any order.

    Args:
        function: a pure function of pytrees of arrays that returns a pytree of arrays.

    Returns:
        A function of the same arguments.

    Raises:
        InputError: if ``function`` is not callable.

    Examples:
        >>> import jax.numpy as jnp
        >>> layer = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        >>> with_kernels(layer)(jnp.ones((64, 3))).shape
        (64, 2)
    """
    check_function("function", function, "a pure function of arrays")

    def run(*arguments: P.args, **keywords: P.kwargs) -> R:
        if not native.wanted():
            return function(*arguments, **keywords)
        arrays, structure = jax.tree.flatten((arguments, keywords))

        # A jaxpr has flat inputs and outputs, so the function is traced on the leaves.
        def flat(*arrays: Any) -> R:
            given, named = jax.tree.unflatten(structure, arrays)
            return function(*given, **named)

        traced, shapes = jax.make_jaxpr(flat, return_shape=True)(*arrays)
        made = _rewritten(traced, _between.get())[0](*arrays)
        result: R = jax.tree.unflatten(jax.tree.structure(shapes), made)
        return result

    return run


def explain(function: Callable[..., Any], *arguments: Any) -> list[str]:
    """Lists the parts of a function that kernels compute.

    Args:
        function: a model, or a pure function.
        arguments: the arguments of the function, arrays or ``jax.ShapeDtypeStruct``.

    Returns:
        A description of each kernel's call, in order.

    Raises:
        InputError: if ``function`` is not callable, or fails with the arguments.

    Examples:
        >>> import jax.numpy as jnp
        >>> explain(nnx.Conv(3, 8, (3, 3), rngs=nnx.Rngs(0)), jnp.ones((64, 32, 32, 3)))
        ['convolution 3 × 3, 3 → 8 channels']
    """
    check_function("function", function, "a model, or a function of arrays")
    if not native.wanted():
        return []
    if isinstance(function, nnx.Module):
        graphdef, state = nnx.split(function)

        def pure(state: Any, *given: Any) -> Any:
            return nnx.merge(graphdef, state)(*given)

        return explain(pure, state, *arguments)
    expected = "a model, or a pure function, that takes these arguments"
    traced = called("function", expected, jax.make_jaxpr(function), *arguments)
    calls = _rewritten(traced, None)[1]
    return [call.about for call in calls if call.about]


def by_address(function: Callable[[jax.Array], R], x: jax.ShapeDtypeStruct) -> Callable | None:
    """Converts a function of an array to one of the array's address, which avoids a copy.

    Args:
        function: a pure function of one array.
        x: the shape and dtype of the array.

    Returns:
        A function of ``borrowed.address_of(array)``, ready for ``jax.jit``. The array must not
        change until the results are available. None if an operation other than a kernel's call
        reads the array.
    """
    if not native.wanted():
        return None
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(x)
    run, calls = _rewritten(traced, None)
    if not calls:
        return None

    def of_address(address: jax.Array) -> R:
        made = run(Borrowed(address, x.shape, x.dtype))
        result: R = jax.tree.unflatten(jax.tree.structure(shapes), made)
        return result

    # Only running the graph shows whether each operation that reads the array can borrow it.
    try:
        jax.eval_shape(of_address, jax.ShapeDtypeStruct((2,), np.uint32))
    except CannotBorrowError:
        return None
    return of_address


_between: ContextVar[Mesh | None] = ContextVar("devices that share a batch", default=None)


@contextlib.contextmanager
def divided(mesh: Mesh | None) -> Iterator[None]:
    """A context in which each device of a mesh calls kernels for its own examples of a batch.

    XLA cannot partition a foreign call: without this, every device would compute the whole batch.

    Args:
        mesh: a mesh of devices, along whose first axis batches are divided; None for one device.
    """
    token = _between.set(mesh)
    try:
        yield
    finally:
        _between.reset(token)


def _divided(call: Node, mesh: Mesh) -> Node | None:
    """Wraps a kernel's call in ``shard_map`` over the batch; None if it cannot be divided."""
    if call.examples is None:
        return None
    axes = list(zip((*call.inputs, *call.outputs), itertools.chain(*call.examples), strict=True))
    sizes = [value.shape[axis] for value, axis in axes if axis is not None]
    name = mesh.axis_names[0]
    if any(size % mesh.shape[name] for size in sizes):
        return None
    specs = [
        PartitionSpec(*[None] * axis, name) if axis is not None else PartitionSpec()
        for _, axis in axes
    ]
    ways = tuple(specs[: len(call.inputs)]), specs[len(call.inputs) :]
    run = jax.shard_map(
        lambda *arrays: list(call.run(*arrays)), mesh=mesh, in_specs=ways[0], out_specs=ways[1]
    )
    return dataclasses.replace(call, run=run)


def _rewritten(traced: Any, mesh: Mesh | None) -> tuple[Callable[..., list[Any]], list[Node]]:
    """Returns a traced function with kernels, and the kernels' calls, also those within loops."""

    def find() -> tuple[Graph, list[Node]]:
        graph = Graph(traced)
        calls = matched(graph)
        return graph, calls + chains.cut(graph)

    graph, calls = native.at_once(find)
    # A call that cannot be divided is dropped, so that XLA partitions its operations instead.
    if mesh is not None:
        calls = [each for call in calls if (each := _divided(call, mesh)) is not None]
    named = list(calls)
    for node in graph.nodes:
        within = inner(node)
        if within is None:
            continue
        function, found = _rewritten(within, mesh)
        if found:
            run = around(node, function)
            calls.append(Node(node.kind, node.inputs, node.outputs, run, effects=node.effects))
            named += found
    if not calls:  # the trace as it is, which keeps the structure of its inner functions
        return core.jaxpr_as_fun(traced), []
    return lambda *arrays: graph.run(calls, arrays), named
