"""Ports a PyTorch network for the examples of a data set."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, describe
from jaxnets.interop import load_torch
from jaxnets.networks import OwnNetwork, arguments_of
from jaxnets.port.check import prove
from jaxnets.port.compilers import without_compilers
from jaxnets.port.ported import Ported, port
from jaxnets.port.report import Report

#: The order of PyTorch's axes in channels-last inputs, by the number of axes.
_CHANNELS_LAST = {4: (0, 2, 3, 1), 5: (0, 2, 3, 4, 1)}
_FUNCTION = '''

def {name}({rngs}):
    """The network, with the arguments that it was ported with."""
    return {call}
'''


def ported_for(
    make: Any,
    example: np.ndarray,
    *,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    argument: str = "model",
) -> Ported:
    """Ports a network for inputs in the layout of a data set, images channels last.

    Args:
        make: the factory of the network, see ``port``.
        example: two examples of the data set as inputs of the ported network, [2, …].
        args: see ``port``.
        kwargs: see ``port``.
        argument: the name of the user's argument for the network, for messages.

    Raises:
        InputError: if PyTorch's network cannot be created or does not accept such inputs.
    """
    order = _CHANNELS_LAST.get(example.ndim, tuple(range(example.ndim)))
    try:
        return port(make, _tensor(example), args=args, kwargs=kwargs, orders=[order])
    except InputError as error:
        if error.argument == "factory":
            raise InputError(argument, error.expected, error.got, whole=error.whole) from error
        if error.argument != "example_inputs":
            raise
        expected = f"a network that accepts {describe(_as_torch(example))}"
        raise InputError(argument, expected, error.got) from error


def port_of(network: OwnNetwork, example: np.ndarray) -> tuple[OwnNetwork | None, Report]:
    """Ports a PyTorch network of the user and compares the port with PyTorch.

    Args:
        network: the network.
        example: see ``ported_for``.

    Returns:
        The port, whose source requires only jaxnets, or None if it was refused; and the report.

    Raises:
        InputError: see ``ported_for``.
    """
    with without_compilers():
        module = network.build_torch()
    args, kwargs = arguments_of(network.arguments)
    given: dict[str, Any] = {"args": args, "kwargs": kwargs, "argument": network.argument}
    ported = ported_for(network.make, example, **given)
    if ported.refusals:
        return None, Report(network.target, ported)
    model = ported.build()
    load_torch(model, module.state_dict())
    inputs = (_tensor(example),)
    proof = prove(model, module, inputs, orders=ported.inputs, quick=True)
    return _as_network(network, ported), Report(network.target, ported, proof)


def drawn(network: OwnNetwork, seed: int) -> dict[str, np.ndarray]:
    """Returns the initial weights of PyTorch's network after ``torch.manual_seed(seed)``."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = network.build_torch().state_dict()
    return {name: weight.numpy() for name, weight in weights.items()}


def _tensor(example: np.ndarray) -> Any:
    """Converts an example to a tensor in PyTorch's layout."""
    import torch

    tensor = torch.from_numpy(_as_torch(example).copy())
    return tensor if tensor.is_floating_point() else tensor.long()


def _as_torch(example: np.ndarray) -> np.ndarray:
    return np.moveaxis(example, -1, 1) if example.ndim in _CHANNELS_LAST else example


def _as_network(network: OwnNetwork, ported: Ported) -> OwnNetwork:
    """Returns the port as a network whose file has a function that creates it."""
    name = "network" if "network" not in ported.namespace else "ported_network"
    given = [ported.arguments] if ported.arguments else []
    rngs = "rngs" if ported.takes_rngs else ""
    given += [f"{rngs}={rngs}"] if rngs else []
    call = f"{ported.class_name}({', '.join(given)})"
    lines = [
        line
        for word, line in _IMPORTS.items()
        if word in ported.arguments and word not in ported.namespace
    ]
    source = ported.source + _FUNCTION.format(name=name, rngs=rngs, call=call)
    path = f"{network.name.lower()}_jax.py"
    return dataclasses.replace(
        network,
        name=name,
        place=Path(path),
        arguments="",
        files={path: "\n".join([*lines, source])},
    )


#: Imports of the names that the source of arguments may use in addition to names of the file.
_IMPORTS = {
    "partial": "from functools import partial",
    "layers": "from jaxnets import layers",
    "nnx": "from flax import nnx",
}
