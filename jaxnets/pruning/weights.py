"""Access to a weight of a layer and its mask, by PyTorch's name and in PyTorch's layout."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, shown
from jaxnets.interop import table
from jaxnets.interop.links import Leaf
from jaxnets.optimizers.masks import mask_of, set_mask


@dataclass(frozen=True)
class Weight:
    """A parameter of a layer.

    Attributes:
        variable: the variable of the layer.
        leaf: its name and layout in PyTorch.
    """

    variable: nnx.Param
    leaf: Leaf

    @staticmethod
    def of(module: Any, name: Any) -> "Weight":
        """Returns the parameter of a layer with PyTorch's name.

        Raises:
            InputError: if the layer has no parameter with this name.
        """
        if not isinstance(module, nnx.Module):
            raise InputError("module", "a layer, such as model.fc1", shown(module))
        known = {weight.leaf.name: weight for weight in weights_of(module)}
        if not isinstance(name, str) or name not in known:
            kind = type(module).__name__
            expected = f"a parameter of {kind} ({', '.join(known) or 'it has no parameters'})"
            raise InputError("name", expected, shown(name))
        return known[name]

    @property
    def values(self) -> np.ndarray:
        """The values of the weight in PyTorch's layout."""
        return self.leaf.to_torch(np.asarray(self.variable.get_value()))

    @property
    def mask(self) -> np.ndarray:
        """A mask that is True for kept entries, in PyTorch's layout."""
        keep = mask_of(self.variable)
        ones = np.ones(self.variable.shape, bool)
        return self.leaf.to_torch(ones if keep is None else keep)

    def prune(self, keep: np.ndarray) -> None:
        """Sets the mask, in PyTorch's layout."""
        set_mask(self.variable, self.leaf.to_jax(keep))

    def scores(self, given: Any) -> np.ndarray:
        """Returns the importance of each entry, in PyTorch's layout.

        Args:
            given: the scores; None for the values of the weight.
        """
        if given is None:
            return self.values
        return in_layout("importance_scores", given, self.mask.shape)


def in_layout(argument: str, given: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Checks that ``given`` is an array of numbers of the shape that a weight has in PyTorch.

    Args:
        argument: the name of the argument, for the message.
        given: the array.
        shape: the shape.

    Raises:
        InputError: if it is not.
    """
    expected = f"an array of numbers of shape {shape}, that of the weight in PyTorch"
    try:
        array = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(argument, expected, shown(given)) from error
    if array.dtype.kind not in "biuf" or array.shape != shape:
        raise InputError(argument, expected, shown(given))
    return array


def check_network(model: Any, argument: str = "model") -> nnx.Module:
    """Checks that ``model`` is an ``nnx.Module``, and returns it."""
    if not isinstance(model, nnx.Module):
        raise InputError(argument, "an nnx.Module", shown(model))
    return model


def weights_of(module: nnx.Module) -> list[Weight]:
    """Returns the parameters of a layer, without those of its submodules."""
    leaves: Mapping[str, Leaf] = table.leaves(module)
    return [
        Weight(value, leaves.get(key, Leaf(key)))
        for key, value in vars(module).items()
        if isinstance(value, nnx.Param)
    ]


def layers_of(model: nnx.Module) -> Iterator[tuple[str, nnx.Module]]:
    """Yields the dotted path and the module of each layer of a model that has parameters."""
    for path, node in nnx.iter_graph(model):
        if isinstance(node, nnx.Module) and weights_of(node):
            yield ".".join(map(str, path)), node
