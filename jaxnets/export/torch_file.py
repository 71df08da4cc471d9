"""A network as PyTorch's state_dict, with the source of its class where that is known."""

from pathlib import Path

from flax import nnx

from jaxnets import interop
from jaxnets.arrays import InputError, check_path
from jaxnets.disk import replacing
from jaxnets.export.torch_source import torch_source


def save_torch(model: nnx.Module, path: Path | str) -> list[Path]:
    """Writes the weights for ``torch.load``, and beside them the source of PyTorch's class.

    The source is written for the documented networks, under the same name with the ending
    ``.py``; it needs torch alone. The network of a port has the file that it was ported from.

    Args:
        model: the network.
        path: where to write; its name should end in ``.pt``.

    Returns:
        The files that were written.

    Raises:
        InputError: if the source's file exists, or PyTorch has no counterpart of a layer.
        ImportError: if torch is not installed.
    """
    path = check_path("path", path, "a file to write")
    source, beside = torch_source(model), path.with_suffix(".py")
    if source is None:
        interop.save_torch(model, path)
        return [path]
    if beside.exists() or beside == path:
        raise InputError("path", f"no file {beside.name} beside it yet", str(path))
    interop.save_torch(model, path)
    with replacing(beside) as partial:
        partial.write_text(source.replace("FILE", path.name), encoding="utf-8")
    return [path, beside]
