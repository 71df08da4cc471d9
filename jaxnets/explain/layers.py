"""The layers that a model calls: which, in what order, and what becomes of another output."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx

from jaxnets.arrays import InputError, shortened
from jaxnets.data.transforms import Transform
from jaxnets.explain.questions import after
from jaxnets.interop.entries import nodes
from jaxnets.interop.watching import watched
from jaxnets.training.objective import outputs_of
from jaxnets.training.state import TrainState


class LayerCall(NamedTuple):
    """One call of a layer.

    Attributes:
        name: of the layer; ``""`` of the model itself.
        layer: the module, without values.
        outputs: shapes and dtypes of what it returned.
    """

    name: str
    layer: Any
    outputs: Any


def layer_calls(state: TrainState, x: Any) -> list[LayerCall]:
    """All calls of the model's modules, in the order in which they end.

    Args:
        state: the model.
        x: its inputs, or their shapes.
    """
    calls: list[LayerCall] = []

    def run(state: TrainState, x: Any) -> Any:
        model = state.model

        def note(name: str, module: Any, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
            made = call(*args, **named)
            arrays = (leaf for leaf in jax.tree.leaves(made) if hasattr(leaf, "shape"))
            shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays]
            calls.append(LayerCall(name, module, shapes))
            return made

        with watched(model, note):
            return outputs_of(model, x)

    jax.eval_shape(run, state, x)
    return calls


def with_layer(state: TrainState, x: Any, name: str, replace: Callable[..., Any]) -> Any:
    """The outputs of a model, in evaluation mode, in which one layer is another function.

    Args:
        state: the model.
        x: its inputs.
        name: of the layer.
        replace: called with (the layer's own call, *arguments); it returns the layer's output.
    """
    model = state.model

    def around(called: str, module: Any, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        return replace(call, *args, **named) if called == name else call(*args, **named)

    with watched(model, around):
        return outputs_of(model, x)


def layer_of(
    model: nnx.Module,
    state: TrainState,
    inputs: Any,
    layer: str | None,
    kinds: tuple[type, ...],
    kind: str,
    *,
    last: bool,
    transform: Transform | None = None,
) -> LayerCall:
    """The only call of a layer with this name; without one, of the first or last of some kinds.

    Args:
        model: the model.
        state: the same.
        inputs: of its call, or what the transform makes them of.
        layer: the name, as PyTorch or as the attributes have it; None finds one.
        kinds: which layers are found.
        kind: what they are called.
        last: whether the last one is taken.
        transform: what the inputs go through.

    Raises:
        InputError: if there is no such layer, or the model does not call it exactly once.
    """
    x = after(transform, inputs)
    calls = layer_calls(state, x)
    if layer is None:
        fitting = [call for call in calls if isinstance(call.layer, kinds)]
        if not fitting:
            raise InputError("layer", f"the name of one, as the model calls no {kind}", layer)
        return fitting[-1 if last else 0]
    return layer_named(model, calls, layer)


def layer_named(model: nnx.Module, calls: list[LayerCall], layer: Any) -> LayerCall:
    """The only call of a layer with this name.

    Args:
        model: the model.
        calls: all of its calls.
        layer: the name, as PyTorch or as the attributes have it.

    Raises:
        InputError: if there is no such layer, or the model does not call it exactly once.
    """
    paths = {path.rstrip("."): name.rstrip(".") for path, name, _ in nodes(model)}
    name = paths.get(layer, layer) if isinstance(layer, str) else None
    fitting = [call for call in calls if call.name == name]
    if not name or not fitting:
        known = shortened(list(dict.fromkeys(call.name for call in calls if call.name)), 120)
        raise InputError("layer", f"one that the model calls: {known}", layer)
    if len(fitting) > 1:
        raise InputError("layer", "one that is called once", f"{layer}, {len(fitting)} times")
    return fitting[0]


def embedding_of(
    model: nnx.Module, state: TrainState, tokens: Any, layer: str | None
) -> tuple[str, int]:
    """The name of an embedding that the tokens [batch, time] are looked up in, and its rows.

    Raises:
        InputError: see ``layer_of``, or if the layer is no embedding, or takes something else.
    """
    call = layer_of(model, state, tokens, layer, (nnx.Embed,), "embedding", last=False)
    shapes = [array.shape for array in call.outputs]
    vectors = len(shapes) == 1 and shapes[0][:-1] == tokens.shape
    if not isinstance(call.layer, nnx.Embed) or not vectors:
        what = f"an embedding of tokens {list(tokens.shape)}"
        got = f"{call.name}, a {type(call.layer).__name__} with outputs {list(map(list, shapes))}"
        raise InputError("layer", what, got)
    return call.name, call.layer.num_embeddings


def outputs_and_layer(
    state: TrainState, x: jax.Array, name: str, added: jax.Array
) -> tuple[Any, jax.Array]:
    """The outputs of a model if something is added to a layer's output, and that output.

    Args:
        state: the model.
        x: its inputs.
        name: of the layer.
        added: of the shape of the layer's output.
    """
    found: list[jax.Array] = []

    def add(call: Callable[..., Any], *args: Any, **named: Any) -> jax.Array:
        found.append(call(*args, **named))
        return found[-1] + added

    outputs = with_layer(state, x, name, add)
    return outputs, found[0]


def layer_inputs(state: TrainState, x: jax.Array, name: str) -> jax.Array:
    """The first argument of a layer's call."""
    found: list[jax.Array] = []

    def note(call: Callable[..., Any], given: jax.Array, *args: Any, **named: Any) -> Any:
        found.append(given)
        return call(given, *args, **named)

    with_layer(state, x, name, note)
    return found[0]
