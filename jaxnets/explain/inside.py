"""Activations, features and gradients of a network."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    as_array,
    as_host_array,
    called,
    check_choice,
    check_function,
    check_seed,
    describe,
)
from jaxnets.data.transforms import Transform
from jaxnets.data.transforms.compose import applied
from jaxnets.explain.layers import LayerCall, layer_calls, layer_inputs, layer_named
from jaxnets.explain.targets import after, spec_of
from jaxnets.interop.watching import watched
from jaxnets.optional import require
from jaxnets.training.evaluation import for_prediction
from jaxnets.training.objective import outputs_of
from jaxnets.training.state import TrainState
from jaxnets.unsupervised import pca

_BATCH = 500  # batch size for features


def activations(
    model: nnx.Module, inputs: ArrayLike, *, transform: Transform | None = None
) -> dict[str, np.ndarray]:
    """Computes the outputs of a model's layers.

    The model runs without ``jax.jit``. Layers within a scan or within a function that is compiled
    by ``jax.jit`` are not included.

    Args:
        model: any ``nnx.Module``; it runs in evaluation mode and is not changed.
        inputs: the inputs before the transform, [batch, …].
        transform: the preprocessing of the inputs; None for no preprocessing.

    Returns:
        Arrays [batch, …] by the names of the layers, in execution order; the last one,
        ``"output"``, is that of the model. The second call of a layer has the suffix ``#2``. If a
        layer returns several arrays, each has its number, as in ``lstm[0]``.

    Raises:
        InputError: if the model does not accept the inputs.
    """
    state, _ = for_prediction(model, transform)
    x = applied(transform, _checked(inputs, transform))
    found: dict[str, np.ndarray] = {}

    def note(name: str, module: Any, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        made = call(*args, **named)
        arrays = [leaf for leaf in jax.tree.leaves(made) if hasattr(leaf, "shape")]
        for number, array in enumerate(arrays):
            if not isinstance(array, jax.core.Tracer):
                label = (name or "output") + (f"[{number}]" if len(arrays) > 1 else "")
                found[_new(label, found)] = np.asarray(array)
        return made

    copy = state.model
    with watched(copy, note):
        called("inputs", "an array that the model accepts", outputs_of, copy, x, got=describe(x))
    return found


def _new(label: str, taken: dict[str, Any]) -> str:
    """Returns the label, with a number appended if it is taken."""
    number, free = 2, label
    while free in taken:
        free, number = f"{label}#{number}", number + 1
    return free


def _checked(inputs: Any, transform: Transform | None) -> jax.Array:
    array = as_array("inputs", inputs)
    if not array.ndim or not len(array):
        raise InputError("inputs", "at least one example", describe(array))
    after(transform, array)
    return array


def features(
    model: nnx.Module,
    inputs: ArrayLike,
    *,
    layer: str | None = None,
    transform: Transform | None = None,
) -> np.ndarray:
    """Computes the inputs of a model's last layer, the penultimate features of each example.

    Args:
        model: see ``activations``.
        inputs: see ``activations``.
        layer: the name of the layer whose inputs are returned; None for the last layer that has
            parameters and calls no other layer.
        transform: see ``activations``.

    Returns:
        The features, [examples, features].

    Raises:
        InputError: if the model does not accept the inputs, or does not call the layer exactly
            once.
    """
    state, _ = for_prediction(model, transform)
    examples = as_host_array("inputs", inputs)
    _checked(examples, transform)
    x = after(transform, spec_of(examples[:1]))
    calls = called(
        "inputs", "an array that the model accepts", layer_calls, state, x, got=describe(x)
    )
    name = _last(calls) if layer is None else layer_named(model, calls, layer).name
    parts = []
    for start in range(0, len(examples), _BATCH):
        # the last batch overlaps the one before, so that all have the same size and compile once
        first = max(0, min(start, len(examples) - _BATCH))
        part = _features(state, examples[first : first + _BATCH], name, transform)
        parts.append(np.asarray(part)[start - first :])
    return np.concatenate(parts)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _features(state: TrainState, inputs: Any, name: str, transform: Transform | None) -> jax.Array:
    found = layer_inputs(state, applied(transform, inputs), name)
    return jnp.reshape(found, (len(found), -1))


def _last(calls: list[LayerCall]) -> str:
    """Returns the name of the last called layer that has parameters."""
    fitting = [
        call.name
        for call in calls
        if call.name and any(isinstance(v, nnx.Param) for v in vars(call.layer).values())
    ]
    if not fitting or fitting.count(fitting[-1]) > 1:
        got = fitting[-1] if fitting else "none"
        raise InputError("layer", "the name of a layer with parameters that is called once", got)
    return fitting[-1]


def project(
    features: ArrayLike, *, method: Literal["pca", "tsne"] = "pca", seed: int = 0
) -> np.ndarray:
    """Projects the features of examples to two dimensions.

    Args:
        features: the features, [examples, features].
        method: "pca" for the two principal components; "tsne" for scikit-learn's t-SNE, which
            preserves neighborhoods and is slower.
        seed: the seed of t-SNE.

    Returns:
        The points, [examples, 2].

    Raises:
        InputError: if there are fewer than three examples, or the features are not numbers.
        ImportError: if t-SNE is requested and scikit-learn is not installed.
    """
    check_choice("method", method, ("pca", "tsne"))
    check_seed("seed", seed)
    rows = as_host_array("features", features)
    if rows.ndim != 2 or len(rows) < 3 or rows.dtype.kind not in "iuf" or not rows.shape[1]:
        raise InputError("features", "[examples, features] of at least 3 examples", describe(rows))
    if method == "tsne":
        require("sklearn", extra="explain", feature="t-SNE")
        manifold = require("sklearn.manifold", extra="explain", feature="t-SNE")
        perplexity = min(30.0, (len(rows) - 1) / 3)
        made = manifold.TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
        return made.fit_transform(rows.astype(np.float32))
    points = pca(rows, min(2, rows.shape[1])).transform(rows)
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))


def parameter_gradients(
    model: nnx.Module,
    inputs: ArrayLike,
    labels: ArrayLike,
    loss: Callable[[Any, Any], jax.Array],
    *,
    transform: Transform | None = None,
) -> dict[str, np.ndarray]:
    """Computes the gradient of a loss by each parameter, in evaluation mode.

    Args:
        model: see ``activations``.
        inputs: see ``activations``.
        labels: the labels of the examples.
        loss: a function (outputs, labels) → scalar.
        transform: see ``activations``.

    Returns:
        Arrays of the parameters' shapes, by path, such as ``conv1.kernel``.

    Raises:
        InputError: if the examples do not fit the model or the loss.
    """
    check_function("loss", loss, "a function of (outputs, labels) to a scalar")
    state, _ = for_prediction(model, transform)
    x, y = _checked(inputs, transform), as_array("labels", labels)
    expected = "a function of (outputs, labels) to a scalar"
    found = called("loss", expected, _gradients, state, x, y, loss, transform)
    return by_path(found)


@functools.partial(jax.jit, static_argnums=(3, 4))
def _gradients(state: TrainState, x: Any, y: Any, loss: Any, transform: Transform | None) -> Any:
    def total(parameters: Any) -> jax.Array:
        model = nnx.merge(state.graphdef, parameters, state.model_state, copy=True)
        model.eval()
        return loss(outputs_of(model, applied(transform, x)), y)

    return jax.grad(total)(state.parameters)


def by_path(parameters: Any) -> dict[str, np.ndarray]:
    """Returns parameters as NumPy arrays by their paths, such as ``conv1.kernel``."""
    flat = nnx.to_flat_state(parameters)
    return {
        ".".join(map(str, path)): np.asarray(
            value.get_value() if isinstance(value, nnx.Variable) else value
        )
        for path, value in zip(flat.paths, flat.leaves, strict=True)
    }
