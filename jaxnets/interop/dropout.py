"""Disables dropout in both frameworks, whose random masks differ."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

from flax import nnx


def without_dropout(model: nnx.Module) -> bool:
    """Sets the dropout rates of a network to 0; returns whether a rate was positive."""
    found = False
    for _, module in nnx.iter_modules(model):
        names = ("dropout", "dropout_rate", *(["rate"] if isinstance(module, nnx.Dropout) else []))
        for name in names:
            value = getattr(module, name, None)
            if isinstance(value, int | float) and value:
                setattr(module, name, 0.0)
                found = True
    return found


#: The dropout functions of ``torch.nn.functional``.
DROPOUT_FUNCTIONS = (
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout"),
)


def kept(input: Any, *args: Any, **kwargs: Any) -> Any:
    """Returns the input; replaces PyTorch's dropout functions."""
    return input


@contextlib.contextmanager
def without_dropout_functions() -> Iterator[None]:
    """Within the context, PyTorch's dropout functions return their input."""
    import torch

    with contextlib.ExitStack() as stack:
        for name in DROPOUT_FUNCTIONS:
            stack.enter_context(mock.patch.object(torch.nn.functional, name, kept))
        yield


def without_torch_dropout(network: Any) -> None:
    """Sets the dropout rates of a PyTorch network to 0."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
