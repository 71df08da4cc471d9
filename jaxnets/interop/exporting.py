"""A model's weights as PyTorch's."""

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
    """The state_dict of a model's PyTorch twin, as NumPy arrays.

    Flax's recurrent cells have one bias where PyTorch has two: the second is zeros. A weight that
    two layers share comes under both names.

    Args:
        model: any network of jaxnets' and Flax's layers whose attributes have PyTorch's names.

    Returns:
        Arrays by PyTorch's names and in its layouts. They are copies.

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
                raise InputError("model", "a PyTorch name of its own for each weight", name)
            found[name] = np.array(array, order="C")  # never JAX's memory
    return found


def to_torch(model: nnx.Module) -> OrderedDict[str, Any]:
    """The state_dict of a model's PyTorch twin, which its ``load_state_dict`` takes.

    Args:
        model: as of ``to_numpy``, which says the rest.

    Returns:
        Tensors on the CPU by PyTorch's names; they share no memory with the model.

    Raises:
        InputError: if a layer has no counterpart in PyTorch, or two weights get the same name.
        ImportError: if torch is not installed.
    """
    require("torch", extra="torch", feature="to_torch")
    return OrderedDict((name, to_tensor(array)) for name, array in to_numpy(model).items())


def save_safetensors(model: nnx.Module, path: str | os.PathLike[str]) -> None:
    """Writes ``to_numpy(model)`` to a .safetensors file, which needs no torch to read or write.

    The file appears whole or not at all; one of the same name is replaced.

    Args:
        model: as of ``to_numpy``.
        path: the file.

    Raises:
        InputError: if the file cannot be written, or as of ``to_numpy``.
        ImportError: if safetensors is not installed.
    """
    files.write_safetensors(to_numpy(model), path)


def save_torch(model: nnx.Module, path: str | os.PathLike[str]) -> None:
    """Writes ``to_torch(model)`` with ``torch.save``.

    The file appears whole or not at all; one of the same name is replaced.

    Args:
        model: as of ``to_numpy``.
        path: the file, by custom a .pt or .pth.

    Raises:
        InputError: if the file cannot be written, or as of ``to_numpy``.
        ImportError: if torch is not installed.
    """
    files.write_torch(to_torch(model), path)
