"""Counts the zeros of a network, and adds or removes masks in a whole network."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from flax import nnx

from jaxnets.arrays import InputError
from jaxnets.optimizers.masks import mask_of, set_mask
from jaxnets.pruning.weights import check_network, layers_of, weights_of


@dataclass(frozen=True)
class Sparsity:
    """The number of zeros in each parameter of a network.

    Attributes:
        zeros: the number of zeros, by the name of the parameter, such as ``"fc1.weight"``.
        sizes: the number of entries, by the name of the parameter.
    """

    zeros: Mapping[str, int]
    sizes: Mapping[str, int]

    @property
    def total(self) -> int:
        """The number of entries of all parameters."""
        return sum(self.sizes.values())

    @property
    def nonzero(self) -> int:
        """The number of entries of all parameters that are not zero."""
        return self.total - sum(self.zeros.values())

    @property
    def share(self) -> float:
        """The share of zeros among all entries, in [0, 1]."""
        return 1 - self.nonzero / self.total

    def __getitem__(self, name: str) -> float:
        """Returns the share of zeros in a parameter, in [0, 1]."""
        return self.zeros[name] / self.sizes[name]

    def __str__(self) -> str:
        rows = [(name, f"{self[name]:.1%}", f"{self.sizes[name]:,}") for name in self.zeros]
        rows.append(("all", f"{self.share:.1%}", f"{self.total:,}"))
        first, second, third = (max(map(len, column)) for column in zip(*rows, strict=True))
        return "\n".join(
            f"{name:{first}}  {share:>{second}} zero of {size:>{third}}"
            for name, share, size in rows
        )


def sparsity(model: nnx.Module) -> Sparsity:
    """Counts the zeros in each parameter of a network.

    Args:
        model: any ``nnx.Module``.

    Returns:
        The counts, whose string has a line for each parameter.

    Raises:
        InputError: if the model has no parameters.

    Examples:
        >>> from jaxnets import MLP
        >>> from jaxnets.pruning import l1_unstructured
        >>> model = MLP((4, 2, 2), rngs=nnx.Rngs(0))
        >>> layer = l1_unstructured(model.fc1, "weight", amount=0.5)
        >>> print(sparsity(model))
        fc1.weight  50.0% zero of  8
        fc1.bias     0.0% zero of  2
        fc2.weight   0.0% zero of  4
        fc2.bias     0.0% zero of  2
        all         25.0% zero of 16
    """
    found = {
        ".".join(filter(None, (path, weight.leaf.name))): np.asarray(weight.variable.get_value())
        for path, layer in layers_of(check_network(model))
        for weight in weights_of(layer)
    }
    if not found:
        raise InputError("model", "a network with parameters", type(model).__name__)
    zeros = {name: int((array == 0).sum()) for name, array in found.items()}
    return Sparsity(zeros, {name: array.size for name, array in found.items()})


def mask_zeros(model: nnx.Module) -> nnx.Module:
    """Masks all weights that are zero, so that they remain zero in training.

    Use it after reading the file of a pruned network. Biases and other vectors get no masks, as
    many are initialized with zeros.

    Args:
        model: any ``nnx.Module``, which is changed in place.

    Returns:
        The model.
    """
    for weight in _parameters(model):
        values = np.asarray(weight.get_value())
        if values.ndim > 1 and (values == 0).any():
            set_mask(weight, values != 0)
    return model


def make_permanent(model: nnx.Module) -> nnx.Module:
    """Removes the masks of a whole network; the zeros remain.

    Like ``torch.nn.utils.prune.remove`` for each parameter.

    Args:
        model: any ``nnx.Module``, which is changed in place.

    Returns:
        The model.

    Raises:
        InputError: if no parameter is pruned.
    """
    pruned = [weight for weight in _parameters(model) if mask_of(weight) is not None]
    if not pruned:
        raise InputError("model", "a network with pruned parameters", type(model).__name__)
    for weight in pruned:
        set_mask(weight, None)
    return model


def _parameters(model: nnx.Module) -> list[nnx.Param]:
    return [node for _, node in nnx.iter_graph(check_network(model)) if isinstance(node, nnx.Param)]
