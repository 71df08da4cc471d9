"""Translates matrix products, convolutions and pooling to ONNX."""

import math
import string
from functools import partial
from typing import Any

import numpy as np

from jaxnets.arrays import InputError
from jaxnets.export.onnx_elementwise import Rule
from jaxnets.export.onnx_graph import Builder
from jaxnets.export.onnx_shapes import padded
from jaxnets.kernels.graph import Node


def _product(g: Builder, node: Node, x: str, y: str) -> str:
    (of_x, of_y), (batch_x, batch_y) = node.parameters["dimension_numbers"]
    ranks = [len(each.shape) for each in node.inputs]
    plain = not batch_x and tuple(of_x) == (ranks[0] - 1,) and tuple(of_y) == (0,)
    if plain and ranks[1] == 2:
        return g.add("MatMul", x, y)
    letters = iter(string.ascii_letters)
    names_x = [next(letters) for _ in range(ranks[0])]
    names_y = [next(letters) for _ in range(ranks[1])]
    for first, second in zip((*of_x, *batch_x), (*of_y, *batch_y), strict=True):
        names_y[second] = names_x[first]
    batch = [names_x[axis] for axis in batch_x]
    summed = {names_x[axis] for axis in of_x}
    free = [name for name in (*names_x, *names_y) if name not in summed and name not in batch]
    equation = f"{''.join(names_x)},{''.join(names_y)}->{''.join([*batch, *free])}"
    return g.add("Einsum", x, y, equation=equation)


def _convolution(g: Builder, node: Node, x: str, kernel: str) -> str:
    given = node.parameters
    if given["batch_group_count"] != 1:
        raise InputError("model", "convolutions without batch groups", "one with batch groups")
    numbers = given["dimension_numbers"]
    axes = len(numbers.lhs_spec) - 2
    x = g.transpose(x, numbers.lhs_spec)
    kernel = g.transpose(kernel, numbers.rhs_spec)
    sizes = [node.inputs[0].shape[axis] for axis in numbers.lhs_spec]
    config = [(0, 0, 0)] * 2 + [
        (low, high, between - 1)
        for (low, high), between in zip(given["padding"], given["lhs_dilation"], strict=True)
    ]
    pads = [0] * axes * 2
    if any(low < 0 or high < 0 or between for low, high, between in config):
        x = padded(g, x, sizes, g.constant(0, node.outputs[0].dtype), config)
    else:
        pads = [one[end] for end in (0, 1) for one in given["padding"]]
    made = g.add(
        "Conv",
        x,
        kernel,
        pads=pads,
        strides=list(given["window_strides"]),
        dilations=list(given["rhs_dilation"]),
        group=given["feature_group_count"],
    )
    return g.transpose(made, np.argsort(numbers.out_spec).tolist())


def _window(kind: str, g: Builder, node: Node, x: str) -> str:
    """Translates a maximum or a sum over windows; ONNX has the mean instead of the sum."""
    given, rank = node.parameters, len(node.inputs[0].shape)
    sizes, steps, padding = (
        given[name] for name in ("window_dimensions", "window_strides", "padding")
    )
    apart = given["window_dilation"]
    used = zip(sizes, steps, padding, strict=True)
    moving = [axis for axis, one in enumerate(used) if one != (1, 1, (0, 0))]
    still = [axis for axis in range(rank) if axis not in moving]
    if any(one != 1 for one in given["base_dilation"]):
        raise InputError("model", "windows without base dilation", "a base dilation")
    order = [*still, *moving]
    x = g.transpose(x, order)
    shape = [node.inputs[0].shape[axis] for axis in order]
    # axes without windows become one axis, as ONNX requires two axes before those with windows
    x = g.reshape(x, [math.prod(shape[: len(still)]), 1, *shape[len(still) :]])
    config = [(0, 0, 0)] * 2 + [(*padding[axis], 0) for axis in moving]
    least = g.constant(_neutral(kind, node.outputs[0].dtype), node.outputs[0].dtype)
    x = padded(g, x, [], least, config)
    options: dict[str, Any] = {
        "kernel_shape": [sizes[axis] for axis in moving],
        "strides": [steps[axis] for axis in moving],
    }
    if kind == "max":
        made = g.add("MaxPool", x, dilations=[apart[axis] for axis in moving], **options)
    elif any(one != 1 for one in apart):
        raise InputError("model", "sums over windows without dilation", "dilated windows")
    else:
        count = g.constant(math.prod(sizes), node.outputs[0].dtype)
        made = g.add("Mul", g.add("AveragePool", x, **options), count)
    made = g.reshape(made, [node.outputs[0].shape[axis] for axis in order])
    return g.transpose(made, np.argsort(order).tolist())


def _neutral(kind: str, dtype: Any) -> Any:
    if kind == "sum":
        return 0
    return -np.inf if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).min


RULES: dict[str, Rule] = {
    "conv_general_dilated": _convolution,
    "dot_general": _product,
    "reduce_window_max": partial(_window, "max"),
    "reduce_window_sum": partial(_window, "sum"),
}
