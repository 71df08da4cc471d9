"""Long chains of elementwise operations, which are cut so that XLA computes each part once.

XLA fuses an elementwise operation with every operation that reads its result, which then computes
it again. In a loop whose steps read the state of the step before, such as a recurrent cell that a
network writes itself, each fusion repeats all earlier steps: the time of the backward pass grows
with the square of the number of steps, and the time of compilation too.
"""

import jax

from jaxnets.kernels import native
from jaxnets.kernels.gradients import with_gradient
from jaxnets.kernels.graph import Graph, Node, Value, is_whole

# Most operations in a chain whose result several operations read, and if XLA writes that result to
# memory anyway, because one of them is a product.
_LONGEST, _LONGEST_WRITTEN = 12, 4
#: Operations that XLA fuses and that compute something.
_COMPUTING = frozenset(
    (
        *("abs", "add", "add_any", "and", "clamp", "convert_element_type", "cos"),
        *("custom_jvp_call", "div", "eq", "erf", "exp", "exp2", "expm1", "floor", "ge", "gt"),
        *("integer_pow", "le", "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg"),
        *("not", "or", "pow", "rem", "round", "rsqrt", "select_n", "sign", "sin", "sqrt"),
        *("square", "sub", "tan", "tanh"),
    )
)
#: Operations that XLA fuses and that only move elements.
_MOVING = frozenset(
    ("broadcast_in_dim", "concatenate", "pad", "reshape", "rev", "slice", "squeeze", "transpose")
)

_FUSED = _COMPUTING | _MOVING


def cut(graph: Graph) -> list[Node]:
    """Returns calls that compute the results at which long chains are cut.

    Args:
        graph: a graph in which kernels have already taken their operations.
    """
    lengths: dict[Value, int] = {}
    calls = []
    for node in graph.nodes:
        if node.kind not in _FUSED or len(node.outputs) != 1 or not graph.is_free(node):
            continue
        (made,) = node.outputs
        before = [lengths.get(value, 0) for value in node.inputs if isinstance(value, Value)]
        length = max(before, default=0) + (node.kind in _COMPUTING)
        readers = graph.readers(made)
        longest = _LONGEST_WRITTEN if any(map(_is_product, readers)) else _LONGEST
        if length > longest and len(readers) > 1 and _is_array(made):
            calls.append(_once(node))
            length = 0
        lengths[made] = length
    return calls


def _is_product(node: Node | None) -> bool:
    return node is not None and node.kind in ("dot_general", "conv_general_dilated")


def _is_array(value: Value) -> bool:
    return is_whole(value) and value.ndim > 0 and native.ready("materialize", value)


def _once(node: Node) -> Node:
    """Returns a call that runs an operation and computes its result once."""

    def run(*arrays: jax.Array) -> list[jax.Array]:
        (made,) = node.run(*arrays)
        return [materialized(made)]

    return Node("kernel", node.inputs, node.outputs, run)


def _identity(x: jax.Array) -> jax.Array:
    return x


def _call(x: jax.Array) -> jax.Array:
    like = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return native.call("materialize", "materialize", [like], x)[0]


#: The same array, which XLA computes once, and so its gradient.
materialized = with_gradient(
    _call, lambda x: (_call(x), None), lambda inputs, kept, d: (_call(d),), _identity
)
