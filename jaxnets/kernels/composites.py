"""Layers of Flax and functions of JAX that are several operations in a trace.

A form describes these operations as nested tuples, from the last operation back to the inputs:
``(kind, *inputs)``. An input is another form, a number, or the name of whatever is there.
"""

import math
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.kernels.graph import Graph, Node, Number, Operand, Value
from jaxnets.kernels.marks import Mark

Form = str | float | tuple[Any, ...]

#: ``jax.nn.gelu(x, approximate=False)``: ½ x erfc(-x √½).
GELU: Form = ("mul", ("mul", 0.5, "x"), ("erfc", ("mul", ("neg", "x"), math.sqrt(0.5))))


def _normalization_forms(of_groups: bool) -> list[Form]:
    """Returns the forms of Flax's normalization layers, those with all parameters first.

    Args:
        of_groups: whether the statistics are those of groups of channels.
    """

    def spread(statistic: str) -> Form:
        form: Form = ("broadcast_in_dim", statistic)
        return ("reshape", ("reshape", form)) if of_groups else ("reshape", statistic)

    centred: Form = ("sub", "x", spread("mean"))
    inverse: Form = ("rsqrt", ("add", spread("var"), "eps"))
    scaled: Form = ("mul", centred, ("mul", inverse, ("reshape", "scale")))
    unscaled: Form = ("mul", centred, inverse)
    bias: Form = ("reshape", "bias")
    return [("add", scaled, bias), ("add", unscaled, bias), scaled, unscaled]


#: The normalization layers of Flax. The last item tells whether a layer normalizes groups.
NORMALIZATIONS = [
    (form, groups) for groups in (False, True) for form in _normalization_forms(groups)
]
#: The expression for each name that is used in the forms above, in an order in which each name is
#: known before it is expanded. The statistics are those of ``parts``: of x, or of its groups.
_STATISTICS: dict[str, Form] = {
    "mean": ("div", "sum", "count"),
    "var": ("max", 0.0, ("sub", ("div", "sum of squares", "count of squares"), ("square", "mean"))),
    "sum": ("reduce_sum", "parts"),
    "sum of squares": ("reduce_sum", ("square", "parts")),
}


def batch_norm(x: Any, scale: Any, bias: Any, *, eps: float) -> tuple[jax.Array, ...]:
    """Returns the outputs of ``flax.nnx.BatchNorm``, and the mean and variance over the batch."""
    y, mean, var = _normalized(x, scale, bias, eps, range(x.ndim - 1))
    return y, mean.reshape(-1), var.reshape(-1)


def group_norm(x: Any, scale: Any, bias: Any, *, eps: float, groups: int) -> tuple[jax.Array, ...]:
    """Returns the outputs of ``flax.nnx.GroupNorm``, and the mean and variance of each group."""
    parts = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    axes = [axis for axis in range(1, parts.ndim) if axis != parts.ndim - 2]
    y, mean, var = _normalized(parts, None, None, eps, axes)
    y = _scaled(y.reshape(x.shape), scale, bias)
    return y, mean.reshape(-1, groups), var.reshape(-1, groups)


def layer_norm(x: Any, scale: Any, bias: Any, *, eps: float, axes: int) -> jax.Array:
    """Returns what ``flax.nnx.LayerNorm`` computes over the last ``axes`` axes."""
    return _normalized(x, scale, bias, eps, range(x.ndim - axes, x.ndim))[0]


def _normalized(
    x: jax.Array, scale: Any, bias: Any, eps: float, axes: Iterable[int]
) -> tuple[jax.Array, ...]:
    over = tuple(axes)
    mean = x.mean(over, keepdims=True)
    var = jnp.maximum(0, lax.square(x).mean(over, keepdims=True) - lax.square(mean))
    return _scaled((x - mean) * lax.rsqrt(var + eps), scale, bias), mean, var


def _scaled(y: jax.Array, scale: Any, bias: Any) -> jax.Array:
    shape = (1,) * (y.ndim - 1) + (-1,)
    y = y if scale is None else y * scale.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


def fitted(
    graph: Graph, value: Operand, form: Form, found: dict[str, Operand] | None = None
) -> dict[str, Operand] | None:
    """Returns what the names in a form stand for; None if other operations compute the value.

    Args:
        graph: the graph that computes the value.
        value: the result of the form's last operation.
        form: the form.
        found: what names stand for already.
    """
    found = found or {}
    if isinstance(form, str):
        return {**found, form: value} if found.get(form, value) is value else None
    if isinstance(form, float):
        same = isinstance(value, Number) and math.isclose(value.value, form, rel_tol=1e-6)
        return found if same else None
    maker, (kind, *parts) = graph.maker(value), form
    if maker is None or maker.kind != kind or not graph.is_free(maker):
        return None
    orders = [maker.inputs, maker.inputs[::-1]] if kind in ("add", "max", "mul") else [maker.inputs]
    for order in orders:
        extended: dict[str, Operand] | None = found
        for each, part in zip(order, parts, strict=True):
            extended = None if extended is None else fitted(graph, each, part, extended)
        if extended is not None:
            return extended
    return None


def normalization(graph: Graph, node: Node) -> Node | None:
    """Matches a normalization layer by its reciprocal square root.

    Returns:
        The layer as a call of ``batch_norm``, ``group_norm`` or ``layer_norm`` with a mark; None if
        the operation is not part of one.
    """
    outputs = _following(graph, node, 3)
    for form, of_groups in NORMALIZATIONS:
        for y in outputs:
            found = fitted(graph, y, form)
            for name, of_name in _STATISTICS.items():
                found = found and fitted(graph, found[name], of_name, found)
            whole: Form = ("reshape", "x") if of_groups else "x"
            found = found and fitted(graph, found["parts"], whole, found)
            layer = found and _layer(graph, y, found)
            if layer:
                return layer
    return None


def _following(graph: Graph, node: Node, count: int) -> list[Value]:
    """Returns the results of up to ``count`` operations, each the only reader of the one before."""
    found: list[Value] = []
    value = node.outputs[0]
    for _ in range(count):
        reader = graph.only_reader(value)
        if reader is None or len(reader.outputs) != 1:
            break
        (value,) = reader.outputs
        found.append(value)
    return found


def _layer(graph: Graph, y: Value, found: dict[str, Operand]) -> Node | None:
    """Returns the call of a layer with these arrays; None if its axes or sizes are others."""
    scale, bias = found.get("scale"), found.get("bias")
    arrays = [found[name] for name in ("x", "parts", "mean", "var")]
    values = [each for each in arrays if isinstance(each, Value)]
    if len(values) < len(arrays):
        return None
    x, parts, mean, var = values
    axes, axes_of_squares = (_axes(graph, found[name]) for name in ("sum", "sum of squares"))
    size = math.prod(parts.shape[axis] for axis in axes)
    numbers = [found[name] for name in ("count", "count of squares", "eps")]
    count, count_of_squares, eps = (
        each.value if isinstance(each, Number) else 0 for each in numbers
    )
    if axes != axes_of_squares or not size == count == count_of_squares or not eps:
        return None
    if any(each is not None and each.shape != x.shape[-1:] for each in (scale, bias)):
        return None
    inputs, structure = jax.tree.flatten((x, scale, bias))
    settings: dict[str, Any] = {"eps": float(eps)}
    made = [y, mean, var]
    if parts is not x:
        *space, groups, channels = range(1, parts.ndim)
        if axes != (*space, channels) or parts.shape[:-2] != x.shape[:-1]:
            return None
        mark = Mark(group_norm, settings | {"groups": parts.shape[groups]}, structure)
    elif axes == (x.ndim - 1,):
        mark, made = Mark(layer_norm, settings | {"axes": 1}, structure), [y]
    elif axes == tuple(range(x.ndim - 1)):
        mark = Mark(batch_norm, settings, structure)
    else:
        return None

    def run(*arrays: jax.Array) -> list[jax.Array]:
        return jax.tree.leaves(mark.plain(*mark.given(arrays)))

    return Node("jit", inputs, made, run, mark=mark)


def _axes(graph: Graph, total: Operand) -> tuple[int, ...]:
    maker = graph.maker(total)
    return tuple(maker.parameters["axes"]) if maker is not None else ()
