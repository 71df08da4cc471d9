"""Pruning: masks for weights, as in PyTorch, and removal of units and layers from a network."""

from jaxnets.optimizers.masks import keep_masks
from jaxnets.pruning.depth import remove_layers
from jaxnets.pruning.duplicates import merge_units
from jaxnets.pruning.methods import (
    CustomFromMask,
    Identity,
    L1Unstructured,
    LnStructured,
    RandomStructured,
    RandomUnstructured,
    custom_from_mask,
    global_unstructured,
    identity,
    is_pruned,
    l1_unstructured,
    ln_structured,
    prune,
    random_structured,
    random_unstructured,
    remove,
)
from jaxnets.pruning.network import pruned
from jaxnets.pruning.regions import diagonal, region
from jaxnets.pruning.report import Sparsity, make_permanent, mask_zeros, sparsity
from jaxnets.pruning.sizes import restructured, structure
from jaxnets.pruning.units import remove_units

__all__ = [
    "CustomFromMask",
    "Identity",
    "L1Unstructured",
    "LnStructured",
    "RandomStructured",
    "RandomUnstructured",
    "Sparsity",
    "custom_from_mask",
    "diagonal",
    "global_unstructured",
    "identity",
    "is_pruned",
    "keep_masks",
    "l1_unstructured",
    "ln_structured",
    "make_permanent",
    "mask_zeros",
    "merge_units",
    "prune",
    "pruned",
    "random_structured",
    "random_unstructured",
    "region",
    "remove",
    "remove_layers",
    "remove_units",
    "restructured",
    "sparsity",
    "structure",
]
