"""Exports a model's weights to PyTorch."""

import os
from collections import OrderedDict
from typing import Any

import numpy as np
from flax import nnx

from jaxnets.arrays import InputError
from jaxnets.interop import files
from jaxnets.interop.conversion import to_tensor
from jaxnets.interop.entries import entries
from jaxnets.optional import require


def to_numpy(model: nnx.Module) -> dict[str, np.ndarray]:
    """Converts the weights of a model to a PyTorch state_dict of NumPy arrays.

    Flax's recurrent cells have one bias where PyTorch has two; PyTorch's second bias is zeros. A
    weight that two layers share has an array under both names.

    Args:
        model: any network of jaxnets and Flax layers whose attributes have PyTorch's names.

    Returns:
        Copies of the arrays by PyTorch's names, in PyTorch's layouts.

    Raises:
        InputError: if a layer has no counterpart in PyTorch, or two weights get the same name.

    Examples:
        >>> from jaxnets.layers import Linear
        >>> {k: v.shape for k, v in to_numpy(Linear(2, 3, rngs=nnx.Rngs(0))).items()}
        {'weight': (3, 2), 'bias': (3,)}
    """
    found: dict[str, np.ndarray] = {}
    for entry in entries(model):
        values = [np.asarray(variable.get_value()) for variable in entry.variables]
        for name, array in entry.to_torch(values).items():
            if name in found:
                raise InputError("model", "a unique PyTorch name for each weight", name)
            found[name] = np.array(array, order="C")  # a copy, as JAX's memory is immutable
    return found


def to_torch(model: nnx.Module) -> OrderedDict[str, Any]:
    """Converts the weights of a model to a state_dict for PyTorch's ``load_state_dict``.

    Args:
        model: see ``to_numpy``.

    Returns:
        Tensors on the CPU by PyTorch's names, in PyTorch's layouts. They share no memory with the
        model.

    Raises:
        InputError: if a layer has no counterpart in PyTorch, or two weights get the same name.
        ImportError: if torch is not installed.
    """
    require("torch", extra="torch", feature="to_torch")
    return OrderedDict((name, to_tensor(array)) for name, array in to_numpy(model).items())


def save_safetensors(model: nnx.Module, path: str | os.PathLike[str]) -> None:
    """Writes ``to_numpy(model)`` to a .safetensors file, without requiring torch.

    The file is written atomically; an existing file is replaced.

    Args:
        model: see ``to_numpy``.
        path: the path of the file.

    Raises:
        InputError: if the file cannot be written, or for the reasons of ``to_numpy``.
        ImportError: if safetensors is not installed.
    """
    files.write_safetensors(to_numpy(model), path)


def save_torch(model: nnx.Module, path: str | os.PathLike[str]) -> None:
    """Writes ``to_torch(model)`` with ``torch.save``.

    The file is written atomically; an existing file is replaced.

    Args:
        model: see ``to_numpy``.
        path: the path of the file, usually with the suffix .pt or .pth.

    Raises:
        InputError: if the file cannot be written, or for the reasons of ``to_numpy``.
        ImportError: if torch is not installed.
    """
    files.write_torch(to_torch(model), path)
