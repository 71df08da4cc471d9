"""Weights in a folder, by Orbax."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from jaxnets.arrays import InputError, describe

# Random streams are no weights: a model restored for use has its own.
_WEIGHTS = nnx.Not(nnx.RngState)


def save_weights(model: nnx.Module, directory: Path | str) -> None:
    """Writes a model's parameters and running statistics into a new folder.

    The folder appears whole or not at all.

    Args:
        model: any ``nnx.Module``.
        directory: a folder that does not exist yet.

    Raises:
        ValueError: if the folder exists.
    """
    from orbax.checkpoint import v1 as ocp

    path = Path(directory).absolute()
    if path.exists():
        raise InputError("directory", "a folder that does not exist yet", str(directory))
    ocp.save(path, _flat(model))


def load_weights(model: nnx.Module, directory: Path | str) -> None:
    """Reads weights that ``save_weights`` wrote into a model of the same kind.

    Args:
        model: its weights are replaced; it stays as it is if anything is wrong.
        directory: the folder.

    Raises:
        ValueError: if the folder holds no weights, or those of another network; every array that
            is missing, unexpected or of another shape is named.
    """
    from orbax.checkpoint import v1 as ocp

    path = Path(directory).absolute()
    try:
        found = ocp.metadata(path).metadata
    except (ValueError, OSError) as error:
        got = f"{directory}, which is not one"
        raise InputError("directory", "a folder written by save_weights", got) from error
    if found is None:
        got = f"{directory}, which is damaged"
        raise InputError("directory", "a folder written by save_weights", got)
    expected = _flat(model)
    faults = [
        f"{name} is {_describe(found, name)}, not {_describe(expected, name)}"
        for name in sorted({*expected, *found})
        if _describe(found, name) != _describe(expected, name)
    ]
    if faults:
        raise InputError("directory", "weights of this network", "; ".join(faults))
    try:
        values = ocp.load(path, expected)
    except Exception as error:  # Orbax raises bare Exceptions here
        got = f"{directory}, which is damaged"
        raise InputError("directory", "a folder written by save_weights", got) from error
    state = nnx.to_flat_state(nnx.state(model, _WEIGHTS))
    filled = [(path, variable.replace(values[_name(path)])) for path, variable in state]
    nnx.update(model, nnx.from_flat_state(filled))


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def _flat(model: nnx.Module) -> dict[str, jax.Array]:
    state = nnx.to_flat_state(nnx.state(model, _WEIGHTS))
    return {_name(path): variable.get_value() for path, variable in state}


def _describe(arrays: Mapping[str, Any], name: str) -> str:
    return describe(arrays[name]) if name in arrays else "missing"
