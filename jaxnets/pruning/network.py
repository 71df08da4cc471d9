"""Prunes a whole network by one method."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

from flax import nnx

from jaxnets.arrays import check_choice, check_seed
from jaxnets.layers.layouts import TRANSPOSED
from jaxnets.pruning.dependencies import Dependencies, example
from jaxnets.pruning.methods import (
    L1Unstructured,
    check_amount,
    global_unstructured,
    l1_unstructured,
    ln_structured,
    random_unstructured,
)
from jaxnets.pruning.units import is_all, matching, remove_units
from jaxnets.pruning.weights import check_network, layers_of, weights_of

#: The methods for a whole network.
Choice = Literal["global", "l1", "random", "ln-structured", "channels"]
CHOICES: tuple[Choice, ...] = get_args(Choice)


def pruned(
    model: nnx.Module,
    amount: float,
    method: Choice = "global",
    *,
    layers: str | Sequence[str] = "*",
    inputs: Any = None,
    seed: int = 0,
) -> nnx.Module:
    """Prunes the weights of a network; biases and other vectors are not pruned.

    Args:
        model: any ``nnx.Module``; it is not changed.
        amount: a fraction in [0, 1], or a count: of all weights together for ``"global"``, of the
            weights or units of each layer for other methods.
        method: the method. ``"global"`` removes the weights of smallest magnitude in the network,
            ``"l1"`` those in each layer, and ``"random"`` random weights. ``"ln-structured"`` sets
            the units of smallest 2-norm to zero. ``"channels"`` removes such units from the
            arrays, see ``remove_units``. The last two do not prune the output layer.
        layers: patterns of names of layers, such as ``"conv*"``.
        inputs: an array [batch, …] that the network accepts, or a tuple of several arguments.
            Required for ``"ln-structured"`` and ``"channels"``.
        seed: the seed of ``"random"``.

    Returns:
        The pruned network; pruned weights remain zero in ``fit``.

    Raises:
        InputError: if an argument is invalid, or no layer has such weights.

    Examples:
        >>> from jaxnets import MLP
        >>> from jaxnets.pruning import sparsity
        >>> model = pruned(MLP((4, 5, 2), rngs=nnx.Rngs(0)), 0.5)
        >>> sparsity(model).nonzero  # 15 of 30 weights, and 7 biases
        22
    """
    check_choice("method", method, CHOICES)
    check_network(model)
    check_amount(amount)
    check_seed("seed", seed)
    if method == "channels":
        return remove_units(model, inputs, amount=amount, layers=layers)
    copy = nnx.clone(model)
    pairs = _matrices(copy, layers)
    if method == "global":
        global_unstructured([pair for pair, _ in pairs], L1Unstructured, amount=amount)
    rngs = nnx.Rngs(seed)
    whole = _fixed(copy, inputs) if method == "ln-structured" and is_all(layers) else ()
    for (layer, name), path in pairs:
        if method == "l1":
            l1_unstructured(layer, name, amount)
        elif method == "random":
            random_unstructured(layer, name, amount, rngs=rngs)
        elif method == "ln-structured" and path not in whole:
            ln_structured(layer, name, amount, n=2, dim=int(isinstance(layer, TRANSPOSED)))
    return copy


def _matrices(model: nnx.Module, layers: Any) -> list[tuple[tuple[nnx.Module, str], str]]:
    """Returns weights with two axes or more: the layer, PyTorch's name and the layer's path."""
    found = [
        ((layer, weight.leaf.name), path)
        for path, layer in layers_of(model)
        for weight in weights_of(layer)
        if weight.variable.ndim > 1
    ]
    chosen = matching([*dict.fromkeys(path for _, path in found)], layers)
    return [(pair, path) for pair, path in found if path in chosen]


def _fixed(model: nnx.Module, inputs: Any) -> list[str]:
    """Returns the layers whose units cannot be removed, such as the output layer."""
    copy = nnx.clone(model)
    copy.eval()
    found = Dependencies(copy, example(inputs))
    units = found.layers().items()
    return [path for path, some in units if not found.atoms.removable(some).all()]
