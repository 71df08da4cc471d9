"""Patterns that recognize operations of a traced function which a kernel can compute.

Each pattern is a function of a graph, one of its operations and, for a marked function, its mark.
It returns the call that replaces the operation and some of those that follow, or None.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxnets.kernels import (
    activation,
    attention,
    composites,
    conv_pool,
    convolution,
    cross_entropy,
    depthwise,
    dropout,
    gates,
    int8,
    linear,
    linear_layer,
    normalization_patterns,
    pooling,
    recurrence,
    slices,
    volume_convolution,
    written_attention,
)
from jaxnets.kernels.borrowed import Borrowed
from jaxnets.kernels.geometry import Geometry, Shaped, Window
from jaxnets.kernels.graph import (
    Graph,
    Node,
    Number,
    Operand,
    Value,
    is_relu,
    is_whole,
    other_input,
    sizes_of,
)
from jaxnets.kernels.marks import Mark
from jaxnets.kernels.shard import vary_like
from jaxnets.kernels.xla_convolution import by_xla_operations

#: Batch size from which a recurrence without a kernel computes step by step on CPUs: the arrays of
#: one step then fill the cache, and those of all steps do not fit.
LARGE = 256

Pattern = Callable[[Graph, Node], Node | None]
MarkedPattern = Callable[[Graph, Node, Mark], Node | None]
Function = Callable[..., Any]


class Layer(NamedTuple):
    """A product with a kernel, and the bias and ReLU that are fused with it.

    Attributes:
        inputs: x and the kernel.
        output: the output of the last operation.
        bias: the array that is added to each row of the product, usually a vector, or None.
        relu: whether ReLU follows.
    """

    inputs: list[Value]
    output: Value
    bias: Value | None
    relu: bool


def matched(graph: Graph) -> list[Node]:
    """Returns the kernels' calls that replace some of a graph's operations."""
    # In the order of execution, so that the first operation of a fused group is met first.
    calls: list[Node] = []
    for node in graph.nodes:
        call = _matched(graph, node) if graph.is_free(node) else None
        if call is not None:
            calls.append(call)
            graph.take(call)
    return calls


def _matched(graph: Graph, node: Node) -> Node | None:
    if node.mark is None:  # a plain operation, for which there are kernels on CPUs only
        pattern = PATTERNS.get(node.kind) if _on_cpus() else None
        return pattern and pattern(graph, node)
    marked = (MARKED if _on_cpus() else ANYWHERE).get(node.mark.name)
    known = all(map(is_whole, node.inputs))
    return marked(graph, node, node.mark) if marked is not None and known else None


def _on_cpus() -> bool:
    return jax.default_backend() == "cpu"


def _layer(graph: Graph, node: Node) -> Layer | None:
    """Matches a product and the bias and ReLU that follow; returns None for mixed dtypes."""
    x, kernel = node.inputs
    (y,) = node.outputs
    if not isinstance(x, Value) or not isinstance(kernel, Value):
        return None
    if not x.dtype == kernel.dtype == y.dtype:  # such as bfloat16 with a float32 result
        return None
    bias, reader = None, graph.only_reader(y)
    if reader is not None and reader.kind == "add":
        bias = _bias(graph, other_input(reader, y), y, _output_axes(node))
        if bias is not None:
            (y,) = reader.outputs
            reader = graph.only_reader(y)
    relu = reader is not None and is_relu(reader)
    return Layer([x, kernel], reader.outputs[0] if reader and relu else y, bias, relu)


def _output_axes(product: Node) -> int:
    """Returns the number of axes that a product with a kernel adds: 1, or more for heads."""
    if product.kind != "dot_general":
        return 1
    (_, summed), _ = product.parameters["dimension_numbers"]
    return max(1, len(product.inputs[1].shape) - len(summed))


def _bias(graph: Graph, value: Operand, of: Value, axes: int = 1) -> Value | None:
    """Returns the array that is broadcast along the last axes to make another, or None.

    A bias reaches the addition through any sequence of reshapes and broadcasts, which are followed
    backwards here.
    """
    sizes = of.shape[len(of.shape) - axes :]
    while isinstance(value, Value) and value.dtype == of.dtype:
        if value.shape == sizes:
            return value if len(of.shape) > axes else None
        maker = graph.maker(value)
        if value.shape[-axes:] != sizes or maker is None:
            return None
        (source, *_) = maker.inputs
        if not isinstance(source, Value) or math.prod(source.shape) != math.prod(sizes):
            return None
        if maker.kind == "broadcast_in_dim":
            last = tuple(range(len(value.shape) - axes, len(value.shape)))
            places = tuple(maker.parameters["broadcast_dimensions"][-axes:])
            if places != last or source.shape[-axes:] != sizes:
                return None
        elif maker.kind not in ("reshape", "pvary"):
            return None
        value = source
    return None


def _convolution(graph: Graph, node: Node) -> Node | None:
    given, layer = node.parameters, _layer(graph, node)
    if layer is None or not all(map(is_whole, (*layer.inputs, layer.output))):
        return None
    x, kernel = layer.inputs
    axes = x.ndim - 2
    # JAX's notation of NHWC images and HWIO kernels: batch and channel axes, then spatial ones.
    last, first = (0, axes + 1, *range(1, axes + 1)), (axes + 1, axes, *range(axes))
    numbers = given["dimension_numbers"]
    channels_last = (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec) == (last, first, last)
    if not (1 <= axes <= 3 and channels_last and given["batch_group_count"] == 1):
        return None
    geometry = Geometry(
        tuple(given["window_strides"]),
        tuple(map(tuple, given["padding"])),
        tuple(given["rhs_dilation"]),
        tuple(given["lhs_dilation"]),
        given["feature_group_count"],
    )
    x, geometry = _without_padding(graph, x, geometry)
    layer = layer._replace(inputs=[x, kernel])
    window = " × ".join(map(str, kernel.shape[:-2]))
    about = f"convolution {window}, {x.shape[-1]} → {kernel.shape[-1]} channels"
    inputs = [*layer.inputs, *([] if layer.bias is None else [layer.bias])]
    pooled = _pooled(graph, layer, geometry)
    if pooled is not None:
        return _call(f"{about}, ReLU and max pooling", inputs, *pooled)
    if layer.relu:
        about += " and ReLU"
    function = _convolution_for(x, kernel, geometry, relu=layer.relu)

    def run(x: jax.Array, kernel: jax.Array, *bias: jax.Array) -> jax.Array:
        return function(x, kernel, bias[0] if bias else None)

    return _call(about, inputs, layer.output, run)


def _without_padding(graph: Graph, x: Value, geometry: Geometry) -> tuple[Value, Geometry]:
    """Follows x to the array that is padded with zeros; the padding becomes the convolution's."""
    maker = graph.maker(x)
    if maker is None or maker.kind != "pad":
        return x, geometry
    source, filling = maker.inputs
    widths = maker.parameters["padding_config"]
    outside = any(any(each) for each in (widths[0], widths[-1]))
    inside = any(low < 0 or high < 0 or between for low, high, between in widths[1:-1])
    zeros = is_whole(source) and _is_zero(graph, filling)
    if outside or inside or not zeros or not isinstance(source, Value):
        return x, geometry
    axes = zip(geometry.padding, widths[1:-1], geometry.input_dilation, strict=True)
    padding = tuple(
        (before + int(low) * step, after + int(high) * step)
        for (before, after), (low, high, _), step in axes
    )
    return source, replace(geometry, padding=padding)


def _is_zero(graph: Graph, value: Operand) -> bool:
    maker = graph.maker(value)
    if maker is not None and maker.kind == "convert_element_type":
        (value,) = maker.inputs
    return isinstance(value, Number) and not np.any(value.value)


def _convolution_for(x: Shaped, kernel: Shaped, geometry: Geometry, *, relu: bool) -> Function:
    """Returns the fastest function of x, the kernel and the bias or None, for these shapes."""
    plain = partial(by_xla_operations, geometry, relu)
    if depthwise.supports(x, kernel, geometry):
        return depthwise.depthwise(geometry, plain, relu=relu)
    if convolution.supports(x, kernel, geometry):
        return convolution.convolution(geometry, plain, relu=relu)
    if volume_convolution.supports(x, kernel, geometry):
        return volume_convolution.volume_convolution(geometry, plain, _convolve, relu=relu)
    return plain


def _convolve(
    x: jax.Array, kernel: jax.Array, bias: jax.Array | None, geometry: Geometry, relu: bool
) -> jax.Array:
    return _convolution_for(x, kernel, geometry, relu=relu)(x, kernel, bias)


def _pooled(graph: Graph, layer: Layer, geometry: Geometry) -> tuple[Value, Any] | None:
    """Matches a convolution of few channels with ReLU and 2×2 max pooling, for a fused kernel."""
    x, kernel = layer.inputs
    reader = graph.only_reader(layer.output)
    if not layer.relu or layer.bias is None or reader is None:
        return None
    pool = _pool(reader)
    if pool is None or pool.windows != (Window(2, 2),) * 2 or pool.sums:
        return None
    if not is_whole(reader.outputs[0]) or not conv_pool.is_faster(x, kernel, geometry):
        return None
    if convolution.supports(x, kernel, geometry) and not conv_pool.supports(x, kernel, layer.bias):
        return None  # for few examples, separate kernels are faster
    return reader.outputs[0], conv_pool.conv_relu_pool(geometry, pool.plain)


class Pool(NamedTuple):
    """A pool over the spatial axes.

    Attributes:
        windows: the windows along each spatial axis.
        plain: the pool in XLA's operations.
        sums: whether windows are summed; otherwise their maximum is taken.
    """

    windows: tuple[Window, ...]
    plain: Function
    sums: bool = False


def _pool(node: Node) -> Pool | None:
    """Matches a maximum or a sum over windows, of a marked layer or of ``jax.lax``."""
    if node.mark is not None and node.mark.name == "max_pool":
        given = node.mark.settings["windows"]
        return Pool(tuple(Window(**vars(window)) for window in given), node.mark.plain)
    if node.kind not in ("reduce_window_max", "reduce_window_sum"):
        return None
    sums, names = node.kind == "reduce_window_sum", ("dimensions", "strides", "dilation")
    sizes, steps, dilation = (node.parameters[f"window_{name}"] for name in names)
    padding, spread = node.parameters["padding"], node.parameters["base_dilation"]
    windows = tuple(map(Window, sizes, steps, (low for low, _ in padding), dilation))
    # The kernels pad both sides equally, as PyTorch does.
    even = all(low == high for low, high in padding) and set(spread) == {1}
    if not even or len(windows) < 3 or {windows[0], windows[-1]} != {Window(1, 1)}:
        return None

    def plain(x: jax.Array) -> jax.Array:
        start, reduce = (0.0, lax.add) if sums else (-jnp.inf, lax.max)
        return lax.reduce_window(x, start, reduce, sizes, steps, padding, window_dilation=dilation)

    return Pool(windows[1:-1], plain, sums)


def _reduce_window(graph: Graph, node: Node) -> Node | None:
    """Matches ``jax.lax.reduce_window`` with a maximum or a sum, as in Flax's pooling."""
    pool, (x,) = _pool(node), node.inputs
    if pool is None or not isinstance(x, Value):
        return None
    if not is_whole(x) or not pooling.supports(x, pool.windows):
        return None
    if pool.sums:
        about, run = "sums over windows", pooling.avg_pool(pool.windows, pool.plain, divisor=1)
    else:
        about, run = "max pooling", pooling.max_pool(pool.windows, pool.plain)
    return _call(f"{about} of {sizes_of(x)}", [x], node.outputs[0], run)


def _linear(graph: Graph, node: Node) -> Node | None:
    """Matches linear layers with ReLU between them for one kernel, or else a single layer."""
    layers = _layers(graph, node)
    kernels = [layer.inputs[1] for layer in layers]
    biases = [layer.bias for layer in layers if layer.bias is not None]
    if len(layers) < 2 or not linear.supports(layers[0].inputs[0], kernels, biases):
        return _one_linear(graph, node)
    x, sizes = layers[0].inputs[0], [kernel.shape[1] for kernel in kernels]

    def run(x: jax.Array, *parameters: jax.Array) -> jax.Array:
        return linear.chain(_chain)(x, list(parameters[::2]), list(parameters[1::2]))

    parameters = [value for pair in zip(kernels, biases, strict=True) for value in pair]
    about = f"linear {' → '.join(map(str, (x.shape[1], *sizes)))}"
    # The kernel has no ReLU after the last layer, so that one stays in the graph.
    return _call(about, [x, *parameters], _before_relu(graph, layers[-1]), run, borrows=True)


def _layers(graph: Graph, node: Node) -> list[Layer]:
    """Returns consecutive linear layers with biases, all but the last followed by ReLU."""
    layers: list[Layer] = []
    following: Node | None = node
    while following is not None and following.kind == "dot_general":
        layer = _layer(graph, following)
        if layer is None or layer.bias is None or not _is_linear(following, layer):
            break
        if layer.inputs[0].ndim != 2 or (layers and layers[-1].output is not layer.inputs[0]):
            break
        layers.append(layer)
        # The next product must be the only reader: the kernel does not return hidden activations.
        following = graph.only_reader(layer.output) if layer.relu else None
    return layers


def _one_linear(graph: Graph, node: Node) -> Node | None:
    """Matches a linear layer with any number of batch axes, with or without bias and ReLU.

    The kernel may have several axes of inputs or outputs, such as one of heads and one of features.
    """
    layer = _layer(graph, node)
    rows = layer and _rows(node, layer)
    if not layer or not rows:
        return None
    (x, kernel), bias = layer.inputs, [] if layer.bias is None else [layer.bias]
    size, outputs = math.prod(kernel.shape[:rows]), kernel.shape[rows:]
    shapes = [(*x.shape[: x.ndim - rows], size), (size, math.prod(outputs))]
    shapes += [(math.prod(outputs),)] * len(bias)
    if not linear_layer.supports(*(jax.ShapeDtypeStruct(shape, x.dtype) for shape in shapes)):
        return None

    def plain(x: jax.Array, kernel: jax.Array, *bias: jax.Array) -> jax.Array:
        y = x @ kernel
        y = y + bias[0].reshape((1,) * (y.ndim - 1) + (-1,)) if bias else y
        return jax.nn.relu(y) if layer.relu else y

    about = f"linear {size} → {math.prod(outputs)}" + (" and ReLU" if layer.relu else "")
    run = linear_layer.layer(layer.relu, plain)
    if rows == len(outputs) == 1:
        return _call(about, [x, kernel, *bias], layer.output, run, borrows=True)

    def flat(x: jax.Array, kernel: jax.Array, *bias: jax.Array) -> jax.Array:
        x = x.reshape(*x.shape[: x.ndim - rows], size)
        y = run(x, kernel.reshape(size, -1), *(each.reshape(-1) for each in bias))
        return y.reshape(*y.shape[:-1], *outputs)

    return _call(about, [x, kernel, *bias], layer.output, flat)


def _before_relu(graph: Graph, layer: Layer) -> Value:
    if not layer.relu:
        return layer.output
    relu = graph.maker(layer.output)
    assert relu is not None
    (value,) = relu.inputs
    assert isinstance(value, Value)
    return value


def _rows(node: Node, layer: Layer) -> int:
    """Returns the number of axes in the sums of a linear layer; 0 for another product.

    They are the last axes of x and the first ones of the kernel.
    """
    x, kernel = layer.inputs
    (of_x, of_kernel), batch = node.parameters["dimension_numbers"]
    count = len(of_x)
    last = tuple(of_x) == tuple(range(x.ndim - count, x.ndim))
    first = tuple(of_kernel) == tuple(range(count))
    fits = last and first and not any(map(tuple, batch)) and x.ndim > count < kernel.ndim
    return count if fits and is_whole(x) and is_whole(kernel) else 0


def _is_linear(node: Node, layer: Layer) -> bool:
    """Whether a product is one of x [..., inputs] and a matrix [inputs, outputs]."""
    return _rows(node, layer) == 1 and layer.inputs[1].ndim == 2


def _chain(x: jax.Array, kernels: list[jax.Array], biases: list[jax.Array]) -> jax.Array:
    for number, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        x = (jax.nn.relu(x) if number else x) @ kernel + bias[None]
    return x


def _max_pool(mark: Mark, x: Value) -> Function | None:
    windows = mark.settings["windows"]
    return pooling.max_pool(windows, mark.plain) if pooling.supports(x, windows) else None


def _avg_pool(mark: Mark, x: Value) -> Function | None:
    windows, given = mark.settings["windows"], dict(mark.settings)
    del given["windows"]
    return pooling.avg_pool(windows, mark.plain, **given) if pooling.supports(x, windows) else None


def _attend(
    mark: Mark, inputs: tuple[Value, ...], masks: tuple[Value, ...], key: Value | None
) -> Function | None:
    settings = attention.Settings(**mark.settings)
    if not attention.supports(inputs, masks, key, settings):
        return None
    return attention.attention(settings, mark.plain)


def _class_losses(mark: Mark, logits: Value, labels: Value) -> Function | None:
    if not cross_entropy.supports(logits, labels):
        return None
    return cross_entropy.cross_entropy(mark.plain)


def _gelu(mark: Mark, x: Value) -> Function | None:
    return activation.gelu(mark.plain) if activation.supports(x) else None


def _jax_gelu(graph: Graph, node: Node) -> Node | None:
    """Matches ``jax.nn.gelu(x, approximate=False)``."""
    product = graph.only_reader(node.outputs[0])
    found = product and composites.fitted(graph, product.outputs[0], composites.GELU)
    x = found["x"] if found else None
    if product is None or not isinstance(x, Value) or not is_whole(x) or not activation.supports(x):
        return None
    run = activation.gelu(partial(jax.nn.gelu, approximate=False))
    return _call(f"gelu of {sizes_of(x)}", [x], product.outputs[0], run)


#: The kernels of sine and cosine by the name of an operation.
SINES: dict[str, Function] = {"sin": activation.sine, "cos": activation.cosine}


def _sine(graph: Graph, node: Node) -> Node | None:
    """Matches the sine or the cosine of an array, or both."""
    (x,) = node.inputs
    if not isinstance(x, Value) or not is_whole(x) or not _is_sine(graph, node):
        return None
    origins = graph.origins(x)
    if origins & graph.constants.keys() and origins.isdisjoint(graph.inputs):
        return None  # XLA computes what depends only on constants while it compiles
    if not activation.supports_sines(x):
        return None
    readers = [each for each in graph.readers(x) if each is not None and _is_sine(graph, each)]
    made = {each.kind: each.outputs[0] for each in (*readers, node)}
    if len(made) == 1:
        name = "sine" if node.kind == "sin" else "cosine"
        return _call(f"{name} of {sizes_of(x)}", [x], node.outputs[0], SINES[node.kind])
    about, outputs = f"sine and cosine of {sizes_of(x)}", [made["sin"], made["cos"]]
    ways = [0], [0, 0]
    return Node("kernel", [x], outputs, activation.sine_and_cosine, about=about, examples=ways)


def _is_sine(graph: Graph, node: Node) -> bool:
    """Whether an operation that no call replaces is a sine or cosine of the usual accuracy."""
    usual = node.parameters.get("accuracy") is None
    return node.kind in SINES and usual and graph.is_free(node)


def _flax_normalization(graph: Graph, node: Node) -> Node | None:
    """Matches a normalization layer of Flax."""
    layer = composites.normalization(graph, node)
    if layer is None or layer.mark is None or not all(map(is_whole, layer.inputs)):
        return None
    return MARKED[layer.mark.name](graph, layer, layer.mark)


def _gates(graph: Graph, node: Node) -> Node | None:
    """Matches the gates of an LSTM cell that a network writes itself."""
    cell = gates.cell(graph, node)
    if cell is None or not is_whole(cell.c) or not gates.supports(cell.c):
        return None
    run, about = gates.gates(cell.order), f"gates of an LSTM cell, {sizes_of(cell.c)}"
    axes = [0, 0], [0, 0]
    ways = axes if cell.c.ndim > 1 else None
    return Node(
        "kernel", [cell.gates, cell.c], [cell.h, cell.state], run, about=about, examples=ways
    )


def _int8_linear(graph: Graph, node: Node, mark: Mark) -> Node | None:
    scale, _, _, x, _, weight = node.inputs
    if not isinstance(scale, Value) or not int8.supports(scale):
        return None
    about = f"product of int8 {sizes_of(x)} and {sizes_of(weight)}"
    run = _flat(mark, int8.linear(mark.plain))
    return Node("kernel", node.inputs, node.outputs, run, about=about)


def _dropout(graph: Graph, node: Node, mark: Mark) -> Node | None:
    """Matches elementwise dropout.

    The call has no ``examples``, because it would draw other bits for a part of the batch.
    """
    x, key = mark.given(node.inputs)
    if mark.settings["alike"] or not dropout.supports(x, key):
        return None
    function = dropout.dropout(mark.settings["rate"], mark.plain)
    about = f"dropout of {sizes_of(x)}"
    return Node("kernel", node.inputs, node.outputs, lambda x, k: [function(x, k)], about=about)


def _alone(kernel_of: Callable[..., Function | None]) -> MarkedPattern:
    """Makes the pattern of a marked function that is not fused with other operations.

    Args:
        kernel_of: a function that returns the kernel for a mark and its arrays, or None.
    """

    def pattern(graph: Graph, node: Node, mark: Mark) -> Node | None:
        function = kernel_of(mark, *mark.given(node.inputs))
        return None if function is None else _in_place(node, mark, function)

    return pattern


def _in_place(node: Node, mark: Mark, function: Function) -> Node:
    """Makes the call of a function that replaces a marked one, with the same arrays."""
    about = f"{mark.name.replace('_', ' ')} of {sizes_of(node.inputs[0])}"
    batch = node.inputs[0].shape[0]
    examples = [0 if value.shape[:1] == (batch,) else None for value in node.inputs], [0]
    # A scalar input is a random key, from which the kernel draws for the whole batch.
    draws = any(value.shape == () for value in node.inputs)
    ways = None if draws else examples
    run = _flat(mark, function)
    return Node("kernel", node.inputs, node.outputs, run, about=about, examples=ways)


def _flat(mark: Mark, function: Function) -> Callable[..., list[jax.Array]]:
    """Converts a function of pytrees to one that takes and returns their leaves."""
    return lambda *arrays: jax.tree.leaves(function(*mark.given(arrays)))


def _recur(graph: Graph, node: Node, mark: Mark) -> Node | None:
    """Matches a recurrent layer, for its kernel or for XLA's loop with a hand-written gradient."""
    x, directions, lengths = mark.given(node.inputs)
    cell, reverse = mark.settings["cell"], mark.settings["reverse"]
    function: Function
    if _on_cpus() and recurrence.supports(cell, reverse, x, directions):
        function = recurrence.recurrence(cell, reverse, mark.plain)
        about = (
            f"{'bidirectional ' if len(reverse) > 1 else ''}recurrence ({cell}) of {sizes_of(x)}"
        )
    else:
        # The layer's own function has the hand-written gradient as an option.
        large = len(x) >= LARGE and _on_cpus()
        about, derivative = "", "by hand, step by step" if large else "by hand"
        function = partial(mark.function, **mark.settings | {"derivative": derivative})
    axes = [one._replace(kernels=None, biases=None, projection=None) for one in directions]
    batched = {id(value) for value in jax.tree.leaves((x, axes, lengths))}
    examples = [0 if id(value) in batched else None for value in node.inputs]
    ways, run = (examples, [0] * len(node.outputs)), _flat(mark, function)
    return Node("kernel", node.inputs, node.outputs, run, about=about, examples=ways)


def _call(
    about: str,
    inputs: list[Any],
    made: Value,
    run: Callable[..., jax.Array],
    *,
    borrows: bool = False,
) -> Node:
    def one(x: Any, *parameters: jax.Array) -> list[jax.Array]:
        # Under ``shard_map`` the batch varies over devices, and the parameters do not.
        alike = parameters if isinstance(x, Borrowed) else vary_like(x, parameters)
        return [run(x, *alike)]

    examples = [0, *[None] * (len(inputs) - 1)], [0]
    return Node("kernel", inputs, [made], one, about=about, borrows=borrows, examples=examples)


#: Patterns by the name of an operation.
PATTERNS: dict[str, Pattern] = {
    "conv_general_dilated": _convolution,
    "cos": _sine,
    "dot_general": _linear,
    "erfc": _jax_gelu,
    "exp": written_attention.matched,
    "reduce_window_max": _reduce_window,
    "reduce_window_sum": _reduce_window,
    "rsqrt": _flax_normalization,
    "sin": _sine,
    "slice": slices.matched,
    "tanh": _gates,
}
#: Patterns by the name of a marked function.
MARKED: dict[str, MarkedPattern] = {
    "attend": _alone(_attend),
    "avg_pool": _alone(_avg_pool),
    "batch_norm": normalization_patterns.batch_norm,
    "class_losses": _alone(_class_losses),
    "drop": _dropout,
    "exact_gelu": _alone(_gelu),
    "group_norm": normalization_patterns.group_norm,
    "int8_linear": _int8_linear,
    "layer_norm": normalization_patterns.layer_norm,
    "max_pool": _alone(_max_pool),
    "recur": _recur,
}
#: Patterns that are faster on accelerators too.
ANYWHERE: dict[str, MarkedPattern] = {"recur": _recur}
