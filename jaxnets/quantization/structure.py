"""Selects the layers of a network to quantize, and replaces them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, entries
from jaxnets.layers import (
    GRU,
    LSTM,
    RNN,
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    Embedding,
    GRUCell,
    Linear,
    LSTMCell,
    RNNCell,
)
from jaxnets.quantization.folding import FoldedNorm, folded
from jaxnets.quantization.layers import (
    Prepared,
    QuantizedConvolution,
    QuantizedEmbedding,
    QuantizedLayer,
    QuantizedLinear,
    QuantizedRecurrent,
)
from jaxnets.quantization.parts import Dynamic, Fixed, Scheme

LINEAR = Linear, nnx.Linear
CONVOLUTIONS = Conv1d, Conv2d, Conv3d, nnx.Conv
RECURRENT = LSTM, GRU, RNN
#: Layers of which only the weights can be quantized.
_WEIGHTS_ALONE = (
    *(ConvTranspose1d, ConvTranspose2d, ConvTranspose3d, nnx.ConvTranspose),
    *(LSTMCell, GRUCell, RNNCell),
)
#: The layers that each mode quantizes.
_KINDS = {
    "dynamic": (*LINEAR, *RECURRENT, Embedding),
    "static": (*LINEAR, *CONVOLUTIONS),
    "weights": (*LINEAR, *CONVOLUTIONS, *RECURRENT, Embedding, *_WEIGHTS_ALONE),
}
#: With more inputs, sums of products of 8-bit integers can exceed an int32.
_MOST_INPUTS = 2**16


class Place(NamedTuple):
    """A module of a network.

    Attributes:
        path: the dotted path of the module.
        module: the module.
        holders: the objects that contain the module, each with its name or index there.
    """

    path: str
    module: nnx.Module
    holders: list[tuple[Any, Any]]


def places(model: nnx.Module) -> dict[str, Place]:
    """Returns the modules of a network by path, each once, without those in quantized layers."""
    found: dict[int, Place] = {}

    def visit(path: str, value: Any, holder: tuple[Any, Any]) -> None:
        if isinstance(value, nnx.Module):
            if id(value) in found:
                found[id(value)].holders.append(holder)
                return
            found[id(value)] = Place(path, value, [holder])
        if isinstance(value, Prepared | QuantizedLayer):
            return
        for name, child in _children(value):
            visit(f"{path}.{name}".lstrip("."), child, (value, name))

    visit("", model, (None, None))
    return {place.path: place for place in found.values()}


def _children(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, nnx.Module):
        return [
            (name, each) for name, each in vars(value).items() if not name.startswith("_pytree")
        ]
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list) else []


def replaced(model: nnx.Module, old: Place, new: nnx.Module) -> nnx.Module:
    """Replaces a module of a network everywhere, and returns the network."""
    for holder, name in old.holders:
        if holder is None:
            model = new
        elif isinstance(holder, nnx.Module):
            setattr(holder, name, new)
        else:
            holder[name] = new
    return model


def weights_in(layer: nnx.Module) -> dict[str, int]:
    """Returns the weights of a layer that can be quantized, with their channel axes."""
    if isinstance(layer, nnx.Embed):
        return {"embedding": 0}
    names = [name for name in vars(layer) if name.startswith("kernel")]
    return {name: -1 for name in names if isinstance(getattr(layer, name), nnx.Param)}


def reason_against(mode: str, place: Place, shared: set[int]) -> str | None:
    """Returns the reason why a module with weights is not quantized; None if it can be.

    Args:
        mode: one of ``MODES``.
        place: the module.
        shared: the ids of variables that several modules have.
    """
    layer = place.module
    if any(id(value) in shared for value in vars(layer).values()):
        return "its weight is shared with another layer"
    if type(layer) not in _KINDS["weights"]:
        return "this kind of layer cannot be quantized"
    axes = weights_in(layer)
    if not axes:
        return "its weight is computed from others"
    if type(layer) not in _KINDS[mode]:
        return f"not quantized in mode {mode}"
    if mode == "dynamic" and getattr(layer, "proj_size", 0) > 0:
        return "an LSTM with a projection"
    shapes = [(getattr(layer, name).shape, axis) for name, axis in axes.items()]
    inputs = max(math.prod(shape) // shape[axis] for shape, axis in shapes)
    if mode != "weights" and not isinstance(layer, nnx.Embed) and inputs >= _MOST_INPUTS:
        return f"sums of {inputs:,} products do not fit into 32 bits"
    return None


def shared_variables(model: nnx.Module) -> set[int]:
    """Returns the ids of variables that several modules have."""
    seen: dict[int, str] = {}
    shared: set[int] = set()
    for path, place in places(model).items():
        for _, value in _children(place.module):
            if isinstance(value, nnx.Variable) and seen.setdefault(id(value), path) != path:
                shared.add(id(value))
    return shared


def quantizable(model: nnx.Module, mode: str, skip: Sequence[str] = ()) -> list[Place]:
    """Returns the layers to quantize.

    Args:
        model: the network.
        mode: one of ``MODES``.
        skip: paths of layers, or of modules that contain layers, not to quantize.

    Raises:
        InputError: if there are no layers to quantize, or a path in ``skip`` does not exist.
    """
    found, shared = places(model), shared_variables(model)
    skip = check_paths("skip", skip, found)
    kept = tuple(f"{path}." for path in skip)
    chosen = [
        place
        for path, place in found.items()
        if reason_against(mode, place, shared) is None and not f"{path}.".startswith(kept)
    ]
    if not chosen:
        names = ", ".join(dict.fromkeys(kind.__name__ for kind in _KINDS[mode]))
        raise InputError("model", f"a layer to quantize: {names}", type(model).__name__)
    return chosen


def check_paths(argument: str, given: Any, known: Mapping[str, Any]) -> tuple[str, ...]:
    """Checks paths of modules, and returns them as a tuple.

    Args:
        argument: the name of the argument, for the message.
        given: a path, or a sequence of paths.
        known: the modules by path.

    Raises:
        InputError: if a path does not exist.
    """
    paths = entries(given) if not isinstance(given, str) else (given,)
    if paths is None:
        raise InputError(argument, "paths of layers, such as ('fc1',)", given)
    for path in paths:
        if not isinstance(path, str) or path not in known:
            names = [name for name in known if name]
            raise InputError(argument, f"paths from {', '.join(names)}", path)
    return tuple(paths)


def quantized(
    model: nnx.Module,
    place: Place,
    scheme: Scheme,
    inputs: Fixed | None = None,
    scales: Mapping[str, np.ndarray] | None = None,
) -> nnx.Module:
    """Replaces a layer of a network by a quantized one, and returns the network.

    Args:
        model: the network, which is changed in place.
        place: the layer.
        scheme: the quantization scheme.
        inputs: for the mode "static", the quantization of inputs.
        scales: the scales of weights, by name; None to compute them.
    """
    layer, given = place.module, _inputs(scheme, inputs)
    kind = QuantizedLayer
    if isinstance(layer, LINEAR):
        kind = QuantizedLinear
    elif isinstance(layer, CONVOLUTIONS):
        kind = QuantizedConvolution
    elif isinstance(layer, RECURRENT):
        kind = QuantizedRecurrent
    elif isinstance(layer, nnx.Embed):
        # each row has a separate scale, as in PyTorch, and inputs are indices
        kind, given = QuantizedEmbedding, None
        scheme = Scheme("weights", scheme.bits)
    made = kind(place.path, layer, weights_in(layer), scheme, given, scales)
    return replaced(model, place, made)


def _inputs(scheme: Scheme, fixed: Fixed | None) -> Dynamic | Fixed | None:
    if scheme.mode == "dynamic":
        return Dynamic(scheme.reduce_range, scheme.per_row)
    return fixed if scheme.mode == "static" else None


def fold(model: nnx.Module, layer: str, norm: str) -> nnx.Module:
    """Folds a batch normalization into the layer before it, and returns the network.

    Args:
        model: the network, which is changed in place.
        layer: the path of a convolution or a linear layer.
        norm: the path of a batch normalization whose only input is the layer's output.
    """
    found = places(model)
    model = replaced(model, found[layer], folded(found[layer].module, found[norm].module))
    return replaced(model, found[norm], FoldedNorm(layer))


def settings_of(model: nnx.Module) -> dict[str, Any]:
    """Records the structure of a quantized network, for ``restructured``, ready for JSON.

    Args:
        model: a quantized network.

    Returns:
        The scheme of each quantized layer, and for each folded batch normalization the layer that
        it was folded into.
    """
    found = places(model).items()
    layers = {path: place.module for path, place in found}
    return {
        "layers": {
            path: asdict(layer.scheme)
            for path, layer in layers.items()
            if isinstance(layer, QuantizedLayer)
        },
        "folded": {
            path: layer.into for path, layer in layers.items() if isinstance(layer, FoldedNorm)
        },
    }


def restructured(model: nnx.Module, settings: Mapping[str, Any]) -> nnx.Module:
    """Quantizes a network with a recorded structure; the values of its arrays are arbitrary.

    Args:
        model: a network with the structure before quantization, which is changed in place.
        settings: the structure, from ``settings_of``.

    Raises:
        InputError: if the model does not have a layer.
    """
    if not isinstance(settings, Mapping) or not {"folded", "layers"} <= set(settings):
        raise InputError("settings", "a result of settings_of", settings)
    for norm, layer in settings["folded"].items():
        found = places(model)
        check_paths("changes", (layer, norm), found)
        if not isinstance(found[norm].module, FoldedNorm):
            model = fold(model, layer, norm)
    for path, scheme in settings["layers"].items():
        found = places(model)
        check_paths("changes", (path,), found)
        if not isinstance(found[path].module, QuantizedLayer):
            how = Scheme(**scheme)
            model = quantized(model, found[path], how, Fixed(1.0, 0, how.reduce_range))
    return model
