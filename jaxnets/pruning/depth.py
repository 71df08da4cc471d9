"""Removes whole layers and blocks."""

from collections.abc import Sequence
from typing import Any

from flax import nnx

from jaxnets.arrays import InputError, called, shown
from jaxnets.layers import Identity
from jaxnets.pruning.dependencies import described, example
from jaxnets.pruning.sizes import replace
from jaxnets.pruning.weights import check_network
from jaxnets.pruning.work import shapes


def remove_layers(model: nnx.Module, inputs: Any, layers: str | Sequence[str]) -> nnx.Module:
    """Removes layers or blocks from a network; each is replaced by ``Identity``.

    Args:
        model: any ``nnx.Module``; it is not changed.
        inputs: an array [batch, …] that the network accepts, or a tuple of several arguments.
        layers: the dotted names of layers whose outputs have the shape of their inputs, such as
            ``"blocks.3"``.

    Returns:
        A network of the same class, with ``Identity`` instead of the layers.

    Raises:
        InputError: if there is no such layer, or the network does not run without the layer.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxnets import MLP
        >>> model = MLP((4, 3, 3, 2), rngs=nnx.Rngs(0))
        >>> shallower = remove_layers(model, jnp.ones((1, 4)), "fc2")
        >>> type(shallower.fc2).__name__
        'Identity'
    """
    names = [layers] if isinstance(layers, str) else layers
    strings = isinstance(names, Sequence) and all(isinstance(name, str) for name in names)
    if not strings or not names:
        raise InputError("layers", "names of layers, such as 'blocks.3'", shown(layers))
    given, made = example(inputs), nnx.clone(check_network(model))
    made.eval()
    expected = called(
        "inputs",
        f"inputs that {type(model).__name__} accepts",
        shapes,
        made,
        given,
        got=described(given),
    )
    for name in names:
        replace(made, name, Identity())
        try:
            found = shapes(made, given)
        except Exception as error:  # whatever the network's code raises
            raise InputError("layers", "layers that do not change the shape", name) from error
        if found != expected:
            raise InputError("layers", "layers that do not change the shape", name)
    return made
