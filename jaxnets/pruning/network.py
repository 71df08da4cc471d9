"""Pruning of a whole network by one method."""

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

#: How a whole network is pruned.
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
    """A copy of a network whose weights are pruned; biases and other vectors are left.

    Args:
        model: any ``nnx.Module``; it is left as it is.
        amount: a fraction in [0, 1], or a count: of all weights together for ``"global"``, of
            those of each layer for other methods.
        method: ``"global"`` removes the weights of the smallest magnitude in the network, ``"l1"``
            in each layer, ``"random"`` removes any; ``"ln-structured"`` makes zeros of units, those
            of the smallest 2-norm; ``"channels"`` removes such units from the arrays, as
            ``remove_units`` does. The last two leave the units of the output layer.
        layers: patterns of names, such as ``"conv*"``.
        inputs: an array [batch, …] that the network takes, or a tuple of several arguments, for the
            last two methods.
        seed: draws what ``"random"`` removes.

    Returns:
        The pruned network, whose zeros ``fit`` keeps.

    Raises:
        InputError: if an argument is bad, or no layer has such weights.

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
    """The weights of two axes or more: layer and PyTorch's name, and the layer's path."""
    found = [
        ((layer, weight.leaf.name), path)
        for path, layer in layers_of(model)
        for weight in weights_of(layer)
        if weight.variable.ndim > 1
    ]
    chosen = matching([*dict.fromkeys(path for _, path in found)], layers)
    return [(pair, path) for pair, path in found if path in chosen]


def _fixed(model: nnx.Module, inputs: Any) -> list[str]:
    """The layers whose outputs are the network's, or are fixed for another reason."""
    copy = nnx.clone(model)
    copy.eval()
    found = Dependencies(copy, example(inputs))
    units = found.layers().items()
    return [path for path, some in units if not found.atoms.removable(some).all()]
