"""The gates of an LSTM cell that a network writes itself, by a native kernel, and their gradient.

XLA computes the gradients of all later states again for those of each step's gates, so that the
time of its backward pass grows at least with the square of the number of steps.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.kernels import native
from jaxnets.kernels.composites import Form, fitted
from jaxnets.kernels.geometry import Shaped
from jaxnets.kernels.gradients import with_gradient
from jaxnets.kernels.graph import Graph, Node, Operand, Value

#: The number of units from which a call takes less time than XLA's operations.
LARGE = 512

#: The output of an LSTM cell.
_HIDDEN: Form = (
    "mul",
    ("logistic", "o"),
    (
        "tanh",
        ("add", ("mul", ("logistic", "f"), "c"), ("mul", ("logistic", "i"), ("tanh", "g"))),
    ),
)


class Cell(NamedTuple):
    """The gates of an LSTM cell in a graph.

    Attributes:
        gates: the sums of all gates, [..., 4 units].
        c: the state before, [..., units].
        h: the output, [..., units].
        state: the new state, [..., units].
        order: the positions of the gates i, f, g and o among the four parts of ``gates``.
    """

    gates: Value
    c: Value
    h: Value
    state: Value
    order: tuple[int, ...]


def cell(graph: Graph, node: Node) -> Cell | None:
    """Matches the gates of an LSTM cell by the hyperbolic tangent of its new state."""
    (state,), product = node.inputs, graph.only_reader(node.outputs[0])
    found = product and fitted(graph, product.outputs[0], _HIDDEN)
    if not product or not found or not isinstance(state, Value):
        return None
    parts = [_part(graph, found[name]) for name in "ifgo"]
    (gates, _), c = parts[0] or (None, 0), found["c"]
    order = tuple(part[1] for part in parts if part and part[0] is gates)
    if gates is None or not isinstance(c, Value) or sorted(order) != [0, 1, 2, 3]:
        return None
    same = (c.shape, c.dtype) == (state.shape, state.dtype) and gates.dtype == c.dtype
    return Cell(gates, c, product.outputs[0], state, order) if same else None


def _part(graph: Graph, value: Operand) -> tuple[Value, int] | None:
    """Returns an array, and which quarter of its last axis a value is; None for another value."""
    maker = graph.maker(value)
    if maker is None or maker.kind not in ("split", "slice") or not value.shape:
        return None
    (whole,), size = maker.inputs, value.shape[-1]
    if not isinstance(whole, Value) or whole.shape != (*value.shape[:-1], 4 * size):
        return None
    if maker.kind == "split":
        sizes = maker.parameters["sizes"]
        starts = [sum(sizes[:number]) for number in range(len(sizes))]
        start = starts[[each is value for each in maker.outputs].index(True)]
    else:
        start = maker.parameters["start_indices"][-1]
    usual = maker.kind == "split" or maker.parameters["strides"] is None
    return (whole, start // size) if usual and start % size == 0 else None


def supports(c: Shaped) -> bool:
    """Whether the kernels of ``gates`` can run a state like this, and are faster than XLA's."""
    return c.ndim > 0 and math.prod(c.shape) >= LARGE and native.ready("gates", c)


def gates(order: tuple[int, ...]) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """Makes the gates of an LSTM cell, which kernels compute.

    Args:
        order: as in ``Cell``.

    Returns:
        A function of the gates' sums and the state before that returns the output and the new
        state.
    """

    def call(way: str, like: tuple, *arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
        results = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in like]
        numbers = np.asarray(order, np.int64)
        first, second = native.call("gates", f"gates_{way}", results, *arrays, order=numbers)
        return first, second

    def run(sums: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
        return call("forward", (c, c), sums, c)

    def keep(sums: jax.Array, c: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        return run(sums, c), None

    def pull_back(inputs: tuple, _: None, d: tuple) -> tuple[jax.Array, jax.Array]:
        return call("backward", inputs, *inputs, *d)

    def plain(sums: jax.Array, c: jax.Array) -> tuple[jax.Array, jax.Array]:
        parts = jnp.split(sums, 4, axis=-1)
        i, f, g, o = (parts[number] for number in order)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    return with_gradient(run, keep, pull_back, plain)
