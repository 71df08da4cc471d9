"""Dropout switched off on both sides, as no two frameworks draw the same masks."""

from typing import Any

from flax import nnx


def without_dropout(model: nnx.Module) -> bool:
    """Has the layers of a network drop nothing; returns whether one would have."""
    found = False
    for _, module in nnx.iter_modules(model):
        names = ("dropout", "dropout_rate", *(["rate"] if isinstance(module, nnx.Dropout) else []))
        for name in names:
            value = getattr(module, name, None)
            if isinstance(value, int | float) and value:
                setattr(module, name, 0.0)
                found = True
    return found


def without_torch_dropout(network: Any) -> None:
    """Has the layers of a network of PyTorch's drop nothing."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
