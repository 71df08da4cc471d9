"""Writes a network as a PyTorch state_dict, with the source of its class if that is known."""

from pathlib import Path

from flax import nnx

from jaxnets import interop
from jaxnets.arrays import InputError, check_path
from jaxnets.disk import replacing
from jaxnets.torch_models import torch_source


def save_torch(model: nnx.Module, path: Path | str) -> list[Path]:
    """Writes the weights for ``torch.load``, and the source of the PyTorch class.

    The source is written for the networks of ``jaxnets.models``, to a file with the same name and
    the suffix ``.py``; it needs only torch. For a ported network, use the file that it was ported
    from.

    Args:
        model: the network.
        path: the file, whose name should end in ``.pt``.

    Returns:
        The files that were written.

    Raises:
        InputError: if the file of the source exists, or a layer has no counterpart in PyTorch.
        ImportError: if torch is not installed.
    """
    path = check_path("path", path, "a file to write")
    source, beside = torch_source(model), path.with_suffix(".py")
    if source is None:
        interop.save_torch(model, path)
        return [path]
    if beside.exists() or beside == path:
        raise InputError("path", f"a folder without a file {beside.name}", str(path))
    interop.save_torch(model, path)
    with replacing(beside) as partial:
        partial.write_text(source.replace("FILE", path.name), encoding="utf-8")
    return [path, beside]
