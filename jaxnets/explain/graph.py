"""The graph of a network: the calls of its layers, and the data flow between them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from jaxnets.arrays import ArrayLike, InputError, called, describe, printable
from jaxnets.data.transforms import Transform
from jaxnets.explain.targets import after, spec_of
from jaxnets.figures import new_figure, save, writable
from jaxnets.interop.watching import watched
from jaxnets.kernels import native
from jaxnets.kernels.graph import Graph
from jaxnets.training.evaluation import for_prediction
from jaxnets.training.objective import outputs_of
from jaxnets.training.state import TrainState

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARK = "layer:"
#: Colors of layers, by a part of the class name; the last one is for all others.
_COLOURS = {
    "conv": "#d6e4f5",
    "linear": "#fde2c8",
    "norm": "#e2efd9",
    "pool": "#efe3f3",
    "embed": "#fff3c4",
    "lstm": "#f9d5d3",
    "gru": "#f9d5d3",
    "rnn": "#f9d5d3",
    "attention": "#f9d5d3",
    "": "#eeeeee",
}


@dataclass(frozen=True)
class GraphNode:
    """One call of a layer that calls no other layer.

    Attributes:
        name: the name of the layer; "input" and "output" for the ends.
        kind: the name of the layer's class.
        shapes: the shapes of the arrays that the layer returns, with the batch axis.
        parameters: the number of trainable parameters.
        sources: the indices of the nodes whose outputs this node reads.
    """

    name: str
    kind: str
    shapes: tuple[tuple[int, ...], ...]
    parameters: int
    sources: tuple[int, ...]


def network_graph(
    model: nnx.Module,
    inputs: ArrayLike | jax.ShapeDtypeStruct,
    *,
    transform: Transform | None = None,
) -> list[GraphNode]:
    """Returns the calls of a model's layers, in execution order.

    Operations between the layers, such as a sum or ``relu``, are not nodes; edges pass through
    them. Layers within a scan are not included.

    Args:
        model: any ``nnx.Module``. It is traced, and nothing is computed.
        inputs: the inputs [batch, …], or their ``jax.ShapeDtypeStruct``.
        transform: the preprocessing of the inputs; None for no preprocessing.

    Returns:
        A node for the input, one for each call, and one for the output.

    Raises:
        InputError: if the model does not accept the inputs.
    """
    state, _ = for_prediction(model, transform)
    x = after(transform, spec_of(inputs))
    calls: list[_Call] = []
    traced = called(
        "inputs", "an array that the model accepts", _traced, state, x, calls, got=describe(x)
    )
    graph = Graph(traced)
    return _nodes(graph, calls, x)


@dataclass
class _Call:
    name: str
    module: Any
    shapes: tuple[tuple[int, ...], ...] = ()
    whole: bool = True  # whether the layer calls no other layer


def _traced(state: TrainState, x: Any, calls: list[_Call]) -> Any:
    """Traces the model to a jaxpr.

    The outputs of each call are marked by ``checkpoint_name``, an identity that remains in the
    jaxpr, so that ``_nodes`` can recognize them. The calls are appended to ``calls``.
    """

    def run(x: Any) -> Any:
        model = state.model
        open_calls: list[_Call] = []

        def mark(name: str, module: Any, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
            mine = _Call(name, module)
            for outer in open_calls:
                outer.whole = False
            open_calls.append(mine)
            made = call(*args, **named)
            open_calls.pop()
            number = len(calls)
            calls.append(mine)
            mine.shapes = tuple(a.shape for a in jax.tree.leaves(made) if hasattr(a, "shape"))
            return jax.tree.map(
                lambda a: checkpoint_name(a, f"{_MARK}{number}") if hasattr(a, "shape") else a, made
            )

        with watched(model, mark):
            return outputs_of(model, x)

    with native.aside():
        return jax.make_jaxpr(run)(x)


def _nodes(graph: Graph, calls: Sequence[_Call], x: jax.ShapeDtypeStruct) -> list[GraphNode]:
    """Returns the nodes of a traced model.

    ``sources`` maps each value of the jaxpr to the nodes it depends on. A marked value starts a new
    node, and values that are computed from it depend on this node only.
    """
    nodes = [GraphNode("input", "", (tuple(x.shape),), 0, ())]
    sources: dict[Any, frozenset[int]] = dict.fromkeys(graph.inputs, frozenset([0]))
    numbers: dict[int, int] = {}  # from the number of a call to that of its node
    pending: dict[int, set[int]] = {}

    def of(values: Iterable[Any]) -> frozenset[int]:
        return frozenset().union(*(sources.get(value, frozenset()) for value in values))

    for node in graph.nodes:
        read = of(node.inputs)
        mark = str(node.parameters.get("name") if node.kind == "name" else "")
        number = int(mark[len(_MARK) :]) if mark.startswith(_MARK) else None
        if number is not None and calls[number].whole:
            if number not in numbers:
                numbers[number] = len(nodes)
                pending[len(nodes)] = set()
                call = calls[number]
                learned = _parameters(call.module)
                kind = type(call.module).__name__
                nodes.append(GraphNode(call.name, kind, call.shapes, learned, ()))
            place = numbers[number]
            pending[place] |= read - {place}
            read = frozenset([place])
        sources.update(dict.fromkeys(node.outputs, read))
    last = of(graph.outputs)
    shapes = tuple(value.shape for value in graph.outputs)
    nodes = [
        GraphNode(n.name, n.kind, n.shapes, n.parameters, tuple(sorted(pending.get(place, ()))))
        for place, n in enumerate(nodes)
    ]
    return [*nodes, GraphNode("output", "", shapes, 0, tuple(sorted(last)))]


def _parameters(module: Any) -> int:
    return sum(int(np.size(leaf)) for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def draw_graph(
    model: nnx.Module,
    inputs: ArrayLike | jax.ShapeDtypeStruct,
    *,
    transform: Transform | None = None,
    title: str = "",
    path: Path | str | None = None,
) -> "Figure":
    """Draws the layers of a network in execution order, with the shapes of their outputs.

    Args:
        model: see ``network_graph``.
        inputs: see ``network_graph``.
        transform: see ``network_graph``.
        title: the title of the figure.
        path: a file to save the figure to, which is replaced if it exists; None saves nothing.

    Returns:
        The Matplotlib figure.

    Raises:
        InputError: see ``network_graph``; or if the file is not in a folder that exists.
    """
    place = None if path is None else writable(path)
    if not isinstance(title, str):
        raise InputError("title", "a string", title)
    nodes = network_graph(model, inputs, transform=transform)
    lanes = _lanes(nodes)
    wide = 0.35 * (1 + max(lanes.values(), default=0)) if lanes else 0
    figure = new_figure(6.4 + wide, 0.6 + 0.55 * len(nodes))
    axes = figure.subplots()
    axes.set(xlim=(-0.1, 6.3 + wide), ylim=(len(nodes) - 0.4, -0.6))
    axes.axis("off")
    for row, node in enumerate(nodes):
        _draw_node(axes, row, node)
        for source in node.sources:
            if (source, row) in lanes:
                _draw_skip(axes, source, row, 6.45 + 0.3 * lanes[source, row])
            else:
                arrow = {"arrowstyle": "-|>", "color": "#424242", "shrinkA": 0, "shrinkB": 0}
                axes.annotate("", (3.1, row - 0.31), (3.1, source + 0.31), arrowprops=arrow)
    figure.suptitle(printable(title, limit=None, lines=True), fontsize=11)
    if place is not None:
        save(figure, place)
    return figure


def _lanes(nodes: Sequence[GraphNode]) -> dict[tuple[int, int], int]:
    """Assigns a free lane to the right of the nodes to each edge that skips nodes."""
    lanes: dict[tuple[int, int], int] = {}
    skips = [(s, row) for row, n in enumerate(nodes) for s in n.sources if row - s > 1]
    for start, end in sorted(skips, key=lambda skip: skip[1] - skip[0]):
        taken = {lane for (a, b), lane in lanes.items() if a <= end and start <= b}
        lanes[start, end] = next(n for n in range(len(skips)) if n not in taken)
    return lanes


def _draw_node(axes: Any, row: int, node: GraphNode) -> None:
    """Draws a box with the layer's name, class, output shapes and number of parameters."""
    from matplotlib.patches import FancyBboxPatch

    lower = node.kind.lower()
    ends: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.08", "linewidth": 0.8}
    colour = next(colour for part, colour in _COLOURS.items() if part in lower)
    face = "white" if not node.kind else colour
    axes.add_patch(FancyBboxPatch((0, row - 0.3), 6.2, 0.6, fc=face, ec="#616161", **ends))
    shapes = ", ".join(_shape(shape) for shape in node.shapes[:2])
    shapes += ", …" if len(node.shapes) > 2 else ""
    axes.text(0.12, row, _short(node.name, 22), va="center", fontsize=9, weight="bold")
    axes.text(2.15, row, _short(node.kind, 18), va="center", fontsize=9)
    axes.text(4.95, row, _short(shapes, 24), va="center", ha="right", fontsize=9)
    if node.parameters:
        axes.text(6.1, row, f"{node.parameters:,}", va="center", ha="right", fontsize=9)
    elif row == 0:
        axes.text(6.1, row, "parameters", va="center", ha="right", fontsize=8, style="italic")


def _draw_skip(axes: Any, source: int, row: int, lane: float) -> None:
    """Draws an edge in a lane to the right of the nodes."""
    axes.plot([6.2, lane, lane], [source, source, row], color="#424242", linewidth=1)
    arrow = {"arrowstyle": "-|>", "color": "#424242", "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (6.2, row), (lane, row), arrowprops=arrow)


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "number"


def _short(text: str, most: int) -> str:
    text = printable(text)
    return text if len(text) <= most else f"…{text[1 - most :]}"
