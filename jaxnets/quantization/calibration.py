"""Observes the inputs and outputs of a network's layers."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, called, check_function
from jaxnets.data.transforms import Transform
from jaxnets.quantization.folding import can_fold
from jaxnets.quantization.structure import Place, fold, places, replaced

_BATCH = 100
#: The largest difference of a folded network's outputs, relative to the largest output.
_CLOSE = 1e-3


class _Watched(nnx.Module):
    """A layer that reports its calls to a function."""

    def __init__(self, layer: nnx.Module, path: str, note: Callable[[str, Any, Any], None]) -> None:
        self.layer, self.path, self.note = layer, path, note

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        y = self.layer(x, *args, **kwargs)
        self.note(self.path, x, y)
        return y

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "layer":
            raise AttributeError(name)
        return getattr(self.layer, name)


def batches(inputs: Any, transform: Transform | None) -> Iterator[Any]:
    """Yields batches of the transformed inputs of a network.

    Args:
        inputs: an array [examples, …], or a tuple or dictionary of arrays.
        transform: the preprocessing; None for no preprocessing.

    Raises:
        InputError: if there are no examples, or the arrays have different lengths.
    """
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    given = tuple(inputs.values()) if isinstance(inputs, dict) else given
    known = all(isinstance(array, np.ndarray | jax.Array) and array.ndim for array in given)
    sizes = {len(array) for array in given} if known else set()
    if len(sizes) != 1 or 0 in sizes:
        raise InputError("inputs", "arrays [examples, …] of the same length", inputs)
    if transform is not None:
        check_function("transform", transform, "a function of the inputs")
    for first in range(0, sizes.pop(), _BATCH):
        batch = jax.tree.map(lambda leaf, first=first: leaf[first : first + _BATCH], inputs)
        yield (
            batch
            if transform is None
            else called("transform", "a function of the inputs", transform, batch)
        )


def run(model: Any, batch: Any) -> Any:
    """Calls a network with a batch, like ``predict``: a tuple or dict has several arguments."""
    if isinstance(batch, tuple):
        return model(*batch)
    return model(**batch) if isinstance(batch, dict) else model(batch)


def watch(
    model: nnx.Module, watched: Sequence[Place], note: Callable[[str, Any, Any], None]
) -> nnx.Module:
    """Replaces layers of a network by ones that report their inputs and outputs.

    Args:
        model: the network, which is changed in place.
        watched: the layers.
        note: a function of the path, the input and the output of a layer.

    Returns:
        The network.
    """
    for place in watched:
        model = replaced(model, place, _Watched(place.module, place.path, note))
    return model


def observe(
    model: nnx.Module,
    paths: Sequence[str],
    inputs: Any,
    transform: Transform | None,
    see: Callable[[str, np.ndarray], None],
) -> None:
    """Calls a function with the inputs of layers, for each batch of examples.

    Args:
        model: the network; it is not changed.
        paths: the paths of the layers.
        inputs: arrays [examples, …] before the transform.
        transform: the preprocessing of the inputs; None for no preprocessing.
        see: a function of the path of a layer and its input.

    Raises:
        InputError: if the network does not accept the inputs, or does not call a layer.
    """
    noted: list[tuple[str, Any]] = []
    copy = nnx.clone(model)
    copy.eval()
    found = places(copy)
    watching = watch(
        copy, [found[path] for path in paths], lambda path, x, y: noted.append((path, x))
    )
    order: list[str] = []

    def traced(batch: Any) -> list[Any]:
        noted.clear()
        run(watching, batch)
        order[:] = [path for path, _ in noted]
        return [x for _, x in noted]

    compiled = jax.jit(traced)
    for batch in batches(inputs, transform):
        seen = called("inputs", "inputs that the network accepts", compiled, batch)
        for path, x in zip(order, seen, strict=True):
            see(path, np.asarray(x, np.float32))
    if missing := [path for path in paths if path not in order]:
        raise InputError("inputs", "inputs that go through every layer", f"none in {missing[0]}")


def norms_after(model: nnx.Module, layers: Sequence[Place], batch: Any) -> list[tuple[str, str]]:
    """Returns pairs of a layer and a batch normalization whose input is the layer's output.

    The network is traced, and a normalization is matched to a layer if its input is the same tracer
    object as the layer's output.
    """
    copy = nnx.clone(model)
    copy.eval()
    found = places(copy)
    norms = [place for place in found.values() if can_fold(place.module)]
    made: list[tuple[str, Any]] = []
    pairs: list[tuple[str, str]] = []
    calls: dict[str, int] = {}
    wanted = {place.path for place in norms}

    def note(path: str, x: Any, y: Any) -> None:
        calls[path] = calls.get(path, 0) + 1
        before = [other for other, output in made if output is x]
        if path in wanted and before:
            pairs.append((before[0], path))
        made.append((path, y))

    watching = watch(copy, [*(found[place.path] for place in layers), *norms], note)
    called(
        "inputs",
        "inputs that the network accepts",
        jax.eval_shape,
        lambda given: run(watching, given),
        batch,
    )
    return [pair for pair in pairs if all(calls[path] == 1 for path in pair)]


def with_norms_folded(model: nnx.Module, layers: Sequence[Place], batch: Any) -> nnx.Module:
    """Folds batch normalizations into the layers that they directly follow.

    A pair is only folded if the outputs of the network remain the same. They would change if
    another layer used the output of the folded layer, too.

    Args:
        model: the network.
        layers: the layers to fold into.
        batch: a batch of transformed inputs.

    Returns:
        The network.
    """
    pairs = norms_after(model, layers, batch)
    expected = _outputs(model, batch) if pairs else None
    for layer, norm in pairs:
        other = fold(nnx.clone(model), layer, norm)
        if _close(_outputs(other, batch), expected):
            model = other
    return model


def _outputs(model: nnx.Module, batch: Any) -> list[np.ndarray]:
    copy = nnx.clone(model)
    copy.eval()
    return [
        np.asarray(y, np.float32) for y in jax.tree.leaves(jax.jit(lambda b: run(copy, b))(batch))
    ]


def _close(ours: list[np.ndarray], theirs: Any) -> bool:
    return all(
        np.abs(a - b).max(initial=0) <= _CLOSE * np.abs(b).max(initial=0)
        for a, b in zip(ours, theirs, strict=True)
    )
