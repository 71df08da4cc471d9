"""Values in a graph that do not depend on its inputs, such as a causal mask.

NumPy computes them, because JAX only traces operations while a function is traced.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxnets.kernels.graph import Graph, Node, Number, Operand, Value

# The largest number of operations between a constant and the value.
_DEPTH = 30


def number(graph: Graph, value: Operand) -> float | None:
    """Returns the number that all elements of an array are equal to by construction, or None."""
    while isinstance(value, Value):
        maker = graph.maker(value)
        if maker is None or maker.kind not in ("broadcast_in_dim", "convert_element_type"):
            constant = _constant(graph, value)
            return (
                float(constant.reshape(())) if constant is not None and constant.size == 1 else None
            )
        value = maker.inputs[0]
    return float(value.value)


def evaluated(graph: Graph, value: Operand, depth: int = _DEPTH) -> np.ndarray | None:
    """Returns a value that does not depend on inputs; None for others.

    Args:
        graph: the graph.
        value: the value.
        depth: the largest number of operations between a constant and the value.
    """
    if isinstance(value, Number):
        return np.asarray(value.value)
    node = graph.maker(value)
    if node is None:
        return _constant(graph, value)
    if node.kind not in _OPERATIONS or not depth:
        return None
    inputs = []
    for each in node.inputs:
        array = evaluated(graph, each, depth - 1)
        if array is None:
            return None
        inputs.append(array)
    return np.asarray(_OPERATIONS[node.kind](node, *inputs))


def _constant(graph: Graph, value: Value) -> np.ndarray | None:
    constant = graph.constants.get(value)
    known = constant is not None and not isinstance(constant, jax.core.Tracer)
    return np.asarray(constant) if known else None


def _iota(node: Node) -> np.ndarray:
    (made,), along = node.outputs, node.parameters["dimension"]
    shape = [-1 if axis == along else 1 for axis in range(made.ndim)]
    return np.broadcast_to(np.arange(made.shape[along]).reshape(shape), made.shape)


def _broadcast(node: Node, x: np.ndarray) -> np.ndarray:
    (made,) = node.outputs
    shape = [1] * made.ndim
    for place, size in zip(node.parameters["broadcast_dimensions"], x.shape, strict=True):
        shape[place] = size
    return np.broadcast_to(x.reshape(shape), made.shape)


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda node, *arrays: function(*arrays)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": _elementwise(np.add),
    "and": _elementwise(np.logical_and),
    "broadcast_in_dim": _broadcast,
    "convert_element_type": lambda node, x: x.astype(node.parameters["new_dtype"]),
    "eq": _elementwise(np.equal),
    "ge": _elementwise(np.greater_equal),
    "gt": _elementwise(np.greater),
    "iota": _iota,
    "le": _elementwise(np.less_equal),
    "lt": _elementwise(np.less),
    "ne": _elementwise(np.not_equal),
    "not": _elementwise(np.logical_not),
    "or": _elementwise(np.logical_or),
    "reshape": lambda node, x: x.reshape(node.outputs[0].shape),
    "select_n": _elementwise(lambda where, no, yes: np.where(where, yes, no)),
    "squeeze": lambda node, x: x.reshape(node.outputs[0].shape),
    "sub": _elementwise(np.subtract),
    "transpose": lambda node, x: x.transpose(node.parameters["permutation"]),
}
