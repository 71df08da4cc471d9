"""Dropout switched off on both sides, as no two frameworks draw the same masks."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

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


#: PyTorch's functions that drop numbers.
DROPOUT_FUNCTIONS = (
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
)


def kept(input: Any, *args: Any, **kwargs: Any) -> Any:
    """The input, in place of a function of PyTorch's that would drop some of it."""
    return input


@contextlib.contextmanager
def without_dropout_functions() -> Iterator[None]:
    """While this holds, ``torch.nn.functional.dropout`` and its relatives drop nothing."""
    import torch

    with contextlib.ExitStack() as stack:
        for name in DROPOUT_FUNCTIONS:
            stack.enter_context(mock.patch.object(torch.nn.functional, name, kept))
        yield


def without_torch_dropout(network: Any) -> None:
    """Has the layers of a network of PyTorch's drop nothing."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
