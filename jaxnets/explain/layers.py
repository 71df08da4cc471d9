"""Records the calls of a model's layers, and replaces the output of a layer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from flax import nnx

from jaxnets.arrays import InputError, shortened
from jaxnets.data.transforms import Transform
from jaxnets.explain.targets import after
from jaxnets.interop.entries import nodes
from jaxnets.interop.watching import watched
from jaxnets.training.objective import outputs_of
from jaxnets.training.state import TrainState


class LayerCall(NamedTuple):
    """One call of a layer.

    Attributes:
        name: the name of the layer; ``""`` for the model itself.
        layer: the module, with abstract values.
        outputs: the shapes and dtypes of its outputs.
    """

    name: str
    layer: Any
    outputs: Any


def layer_calls(state: TrainState, x: Any) -> list[LayerCall]:
    """Returns all calls of the model's modules, in the order in which they return.

    Args:
        state: the model.
        x: the transformed inputs, or their shape and dtype.
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
    """Computes the outputs of a model in evaluation mode, with one layer replaced.

    Args:
        state: the model.
        x: the transformed inputs.
        name: the name of the layer.
        replace: a function (call, *arguments) → outputs that is called instead of the layer;
            ``call`` calls the layer.
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
    """Finds the call of a layer by its name, or the first or last call of a kind of layer.

    Args:
        model: the model.
        state: the state of the same model.
        inputs: the inputs before the transform.
        layer: the name of the layer, in PyTorch or of the attribute; None for a layer of ``kinds``.
        kinds: the classes of layers.
        kind: the name of ``kinds``, for the message.
        last: whether to take the last call of ``kinds`` rather than the first.
        transform: the preprocessing of the inputs; None for no preprocessing.

    Raises:
        InputError: if there is no such layer, or the model does not call it exactly once.
    """
    x = after(transform, inputs)
    calls = layer_calls(state, x)
    if layer is None:
        fitting = [call for call in calls if isinstance(call.layer, kinds)]
        if not fitting:
            raise InputError("layer", f"a name, as the model calls no {kind}", layer)
        return fitting[-1 if last else 0]
    return layer_named(model, calls, layer)


def layer_named(model: nnx.Module, calls: list[LayerCall], layer: Any) -> LayerCall:
    """Finds the only call of a layer with this name.

    Args:
        model: the model.
        calls: the calls of the model's layers.
        layer: the name, in PyTorch or of the attribute.

    Raises:
        InputError: if there is no such layer, or the model does not call it exactly once.
    """
    paths = {path.rstrip("."): name.rstrip(".") for path, name, _ in nodes(model)}
    name = paths.get(layer, layer) if isinstance(layer, str) else None
    fitting = [call for call in calls if call.name == name]
    if not name or not fitting:
        known = shortened(list(dict.fromkeys(call.name for call in calls if call.name)), 120)
        raise InputError("layer", f"a layer that the model calls: {known}", layer)
    if len(fitting) > 1:
        raise InputError("layer", "a layer that is called once", f"{layer}, {len(fitting)} times")
    return fitting[0]


def embedding_of(
    model: nnx.Module, state: TrainState, tokens: Any, layer: str | None
) -> tuple[str, int]:
    """Returns the name and the number of rows of the embedding of tokens [batch, time].

    Args:
        model: the model.
        state: the state of the same model.
        tokens: the inputs of the model.
        layer: the name of the embedding; None for the first that is called.

    Raises:
        InputError: see ``layer_of``; or if the layer is not an embedding of the tokens.
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
    """Computes the outputs of a model with an array added to a layer's output.

    Args:
        state: the model.
        x: the transformed inputs.
        name: the name of the layer.
        added: the array to add, of the shape of the layer's output.

    Returns:
        The outputs of the model, and the output of the layer without ``added``.
    """
    found: list[jax.Array] = []

    def add(call: Callable[..., Any], *args: Any, **named: Any) -> jax.Array:
        found.append(call(*args, **named))
        return found[-1] + added

    outputs = with_layer(state, x, name, add)
    return outputs, found[0]


def layer_inputs(state: TrainState, x: jax.Array, name: str) -> jax.Array:
    """Returns the first argument of a layer's call.

    Args:
        state: the model.
        x: the transformed inputs.
        name: the name of the layer.
    """
    found: list[jax.Array] = []

    def note(call: Callable[..., Any], given: jax.Array, *args: Any, **named: Any) -> Any:
        found.append(given)
        return call(given, *args, **named)

    with_layer(state, x, name, note)
    return found[0]
