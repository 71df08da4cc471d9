"""The commands that show and convert files of weights."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from flax import nnx

from jaxnets import interop, recipes
from jaxnets.arrays import InputError
from jaxnets.commands.flags import PathArgument, model_option
from jaxnets.models import MODELS
from jaxnets.training.weights import load_weights, save_weights

_WRITERS: dict[str, Callable[[nnx.Module, Path], None]] = {
    ".safetensors": interop.save_safetensors,
    ".pt": interop.save_torch,
    ".pth": interop.save_torch,
    ".bin": interop.save_torch,
}


@click.command("inspect")
@click.argument("file", type=PathArgument())
def inspect_command(file: Path) -> None:
    """Show the arrays in FILE, one of torch.save, of safetensors or of numpy.savez."""
    found = interop.read_torch(file)
    rows = [
        (name, str(list(array.shape)), str(array.dtype).removeprefix("torch."))
        for name, array in found.arrays.items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(map(str.ljust, row, widths)).rstrip())
    count = sum(math.prod(array.shape) for array in found.arrays.values())
    click.echo(f"{len(rows)} arrays, {count:,} numbers")
    for what, names in (("taken off", found.wrapping), ("left aside", found.aside)):
        if names:
            click.echo(f"{what}: {', '.join(names)}")


@click.command("convert")
@click.argument("source", metavar="IN", type=PathArgument())
@click.argument("out", type=PathArgument())
@click.option("--model", type=click.Choice(list(MODELS)), required=True, help="The network.")
@model_option
@click.option(
    "--to",
    type=click.Choice(["torch", "jaxnets"]),
    help="What OUT is to be, where its name does not say.",
)
def convert_command(
    source: Path, out: Path, model: str, model_option: tuple[tuple[str, Any], ...], to: str | None
) -> None:
    """Convert the weights IN to OUT: from PyTorch or to it.

    OUT's name says what it becomes. One that ends in .safetensors, .pt, .pth or .bin is a file with
    PyTorch's names and layouts; a name without an ending is a folder of weights, as training leaves
    it under RUN/weights. IN is either, known by its content, so that a .pt can also be rewritten as
    a .safetensors with its wrapping taken off. --to jaxnets makes a folder of any name.
    """
    if out.exists():
        raise InputError("out", "a path that does not exist yet", str(out))
    to = to or ("torch" if source.is_dir() or out.suffix else "jaxnets")
    if to == "torch" and out.suffix not in _WRITERS:
        raise InputError(
            "out", f"a file ending in {', '.join(_WRITERS)}, or --to jaxnets for a folder", str(out)
        )
    network = recipes.build_network(model, dict(model_option))
    if source.is_dir():
        load_weights(network, source)
    else:
        click.echo(interop.load_torch(network, source))
    write = _WRITERS[out.suffix] if to == "torch" else save_weights
    write(network, out)
    click.echo(f"written to {out}")
