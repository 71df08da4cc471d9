"""Patterns of normalization layers, with the sum before and the activation after them."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax

from jaxnets.kernels import normalization
from jaxnets.kernels.graph import (
    Graph,
    Node,
    Value,
    is_relu,
    is_whole,
    other_input,
    sizes_of,
)
from jaxnets.kernels.marks import Mark

#: Activations that follow a normalization in the same kernel: their functions and readable names.
_ACTIVATIONS = {"relu": (jax.nn.relu, "ReLU"), "silu": (jax.nn.silu, "SiLU")}


def batch_norm(graph: Graph, node: Node, mark: Mark) -> Node | None:
    """Matches batch normalization, with a residual that is added and an activation."""
    y, *moments = node.outputs
    added: list[Value] = []
    reader = graph.only_reader(y)
    if reader is not None and reader.kind == "add":
        other = other_input(reader, y)
        same = isinstance(other, Value) and (other.shape, other.dtype) == (y.shape, y.dtype)
        # The kernel reads the residual, so that must not depend on the kernel's own outputs.
        if isinstance(other, Value) and same and not graph.depends(other, node.outputs):
            added, (y,) = [other], reader.outputs
    if not normalization.supports(*mark.given(node.inputs), *added):
        return None
    activation, y = _activation(graph, y, ["relu"] if added else _ACTIVATIONS)
    make = partial(normalization.batch_norm, mark.settings["eps"], residual=bool(added))
    run = _activated(node, mark, make, activation)
    about = f"batch normalization of {sizes_of(node.inputs[0])}"
    about += " plus another array" if added else ""
    about += _and(activation)
    return Node("kernel", [*node.inputs, *added], [y, *moments], run, about=about)


def group_norm(graph: Graph, node: Node, mark: Mark) -> Node | None:
    """Matches group or instance normalization, with an activation."""
    y, *moments = node.outputs
    x, scale, bias = mark.given(node.inputs)
    if not normalization.supports(x, scale, bias):
        return None
    activation, y = _activation(graph, y, _ACTIVATIONS)
    make = partial(normalization.group_norm, **mark.settings)
    run = _activated(node, mark, make, activation)
    about = f"group normalization of {sizes_of(x)}, {mark.settings['groups']} groups"
    examples = [0, *[None] * (len(node.inputs) - 1)], [0, 0, 0]
    about += _and(activation)
    return Node("kernel", node.inputs, [y, *moments], run, about=about, examples=examples)


def _activation(graph: Graph, y: Value, known: Iterable[str]) -> tuple[str, Value]:
    """Matches an activation that is the only reader of y.

    Returns:
        The name of the activation and its output; for none, an empty name and y.
    """
    relu = graph.only_reader(y)
    if relu is not None and is_relu(relu) and "relu" in known:
        return "relu", relu.outputs[0]
    silu = _silu(graph, y) if "silu" in known else None
    return ("silu", silu.outputs[0]) if silu is not None else ("", y)


def _silu(graph: Graph, y: Value) -> Node | None:
    """Matches ``jax.nn.silu`` or y times its sigmoid, and returns the product."""
    readers = [node for node in graph.readers(y) if node is not None and graph.is_free(node)]
    sigmoids = [node for node in readers if node.kind == "logistic"]
    if len(graph.readers(y)) != 2 or len(readers) != 2 or len(sigmoids) != 1:
        return None
    product = graph.only_reader(sigmoids[0].outputs[0])
    return product if product in readers and product.kind == "mul" else None


def _activated(
    node: Node, mark: Mark, make: Callable[..., Any], activation: str
) -> Callable[..., list[jax.Array]]:
    """Makes the call of a normalization with an activation, for the node's arrays and a residual.

    Args:
        node: the normalization.
        mark: its mark.
        make: a function that makes the kernel.
        activation: the name of the activation, or an empty one.
    """

    def plain(x: Any, scale: Any, bias: Any, *added: Any) -> tuple[jax.Array, ...]:
        y, mean, var = mark.plain(x, scale, bias)
        y = y + added[0] if added else y
        return _ACTIVATIONS[activation][0](y) if activation else y, mean, var

    function = make(plain=plain, activation=activation)

    def run(*arrays: jax.Array) -> list[jax.Array]:
        given, last = arrays[: len(node.inputs)], arrays[len(node.inputs) :]
        return list(function(*mark.given(given), *last))

    return run


def _and(activation: str) -> str:
    return f" and {_ACTIVATIONS[activation][1]}" if activation else ""


def layer_norm(graph: Graph, node: Node, mark: Mark) -> Node | None:
    """Matches layer normalization, with the residual sum before it."""
    (y,) = node.outputs
    x, scale, bias = mark.given(node.inputs)
    axes, eps = mark.settings["axes"], mark.settings["eps"]
    # In a residual network, the sum is also needed later, so the kernel returns it as well.
    terms, made = [x], [y]
    maker = graph.maker(x)
    if maker is not None and maker.kind == "add" and graph.is_free(maker):
        same = all(one.shape == x.shape and is_whole(one) for one in maker.inputs)
        if same:
            terms, made = list(maker.inputs), [y, x]
    if not normalization.supports(terms[0], scale, bias, *terms[1:]):
        return None

    def plain(x: Any, scale: Any, bias: Any, *added: Any) -> Any:
        total = x + added[0] if added else x
        y = mark.plain(total, scale, bias)
        return (y, total) if added else y

    function = normalization.layer_norm(eps, plain, axes=axes, residual=len(terms) > 1)

    def run(*arrays: jax.Array) -> list[jax.Array]:
        count = len(terms)
        given = mark.given([arrays[0], *arrays[count:]])
        return jax.tree.leaves(function(*given, *arrays[1:count]))

    parameters = node.inputs[1:]
    about = f"layer normalization of {sizes_of(x)}"
    about += ", a sum" if len(terms) > 1 else ""
    examples = [0] * len(terms) + [None] * len(parameters), [0] * len(made)
    return Node("kernel", [*terms, *parameters], made, run, about=about, examples=examples)
