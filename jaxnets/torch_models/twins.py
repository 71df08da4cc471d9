"""Finds the PyTorch network that corresponds to a network of ``jaxnets.models``."""

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

from flax import nnx

from jaxnets.arrays import InputError
from jaxnets.optional import require

_FOLDER = Path(__file__).parent


def twin(model: nnx.Module) -> Any:
    """Makes the PyTorch network with the same layers, sizes and names, and new random weights.

    Its images are NCHW. ``jaxnets.interop`` copies weights between the two.

    Args:
        model: one of ``jaxnets.models``.

    Returns:
        A ``torch.nn.Module`` in training mode, float32.

    Raises:
        ValueError: if the model is not one of ``jaxnets.models``.
        ImportError: if torch is not installed.
    """
    path = _file(model)
    if path is None:
        known = ", ".join(info.name for info in pkgutil.iter_modules([str(_FOLDER)]))
        expected = f"a network of jaxnets.models ({known.replace('twins, ', '')})"
        raise InputError("model", expected, type(model).__name__)
    return _class(path, model)(**_arguments(path, model))


def torch_source(model: nnx.Module) -> str | None:
    """Returns the source of a PyTorch class ``Network``, which needs torch alone.

    The class accepts the network's inputs in PyTorch's layout: images are [batch, channels, height,
    width]. It does not contain the preprocessing.

    Args:
        model: the network.

    Returns:
        The source; None if the network is not one of ``jaxnets.models``.

    Raises:
        ImportError: if torch is not installed.
    """
    path = _file(model)
    if path is None:
        return None
    name = type(model).__name__
    given = ", ".join(f"{name}={value!r}" for name, value in _arguments(path, model).items())
    return f'''{path.read_text(encoding="utf-8")}

class Network({name}):
    """The network whose weights are in FILE.

    network = Network()
    network.load_state_dict(torch.load("FILE"))
    network.eval()
    """

    def __init__(self) -> None:
        super().__init__({given})
'''


def _file(model: nnx.Module) -> Path | None:
    """Returns the file with the PyTorch class of a network, or None without one."""
    package, _, name = type(model).__module__.rpartition(".")
    path = _FOLDER / f"{name}.py"
    return path if package == "jaxnets.models" and path.exists() else None


def _class(path: Path, model: nnx.Module) -> Any:
    require("torch", extra="torch", feature="a network in PyTorch")
    return getattr(importlib.import_module(f"{__package__}.{path.stem}"), type(model).__name__)


def _arguments(path: Path, model: Any) -> dict[str, Any]:
    """Returns the sizes of a network, without ``remat``, which PyTorch's classes do not have."""
    accepted = inspect.signature(_class(path, model)).parameters
    return {name: value for name, value in model.options.items() if name in accepted}
