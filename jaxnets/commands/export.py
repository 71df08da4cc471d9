"""The command that writes a trained network for other programs."""

from pathlib import Path

import click

from jaxnets import export
from jaxnets.arrays import InputError, printable
from jaxnets.commands.flags import PathArgument
from jaxnets.commands.saved import opened

#: What is written, by the ending of the file's name.
_KINDS = {".zip": "stablehlo", ".onnx": "onnx", ".pt": "torch"}


@click.command("export")
@click.argument("run", type=PathArgument())
@click.option("--out", required=True, type=PathArgument(), help="The file to write.")
@click.option(
    "--to",
    type=click.Choice(list(_KINDS.values())),
    help="What to write.  [default: what the ending of --out says: .zip, .onnx or .pt]",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1, max=1_000_000),
    help="The number of examples that the file takes at once.  [default: any]",
)
def export_command(run: Path, out: Path, to: str | None, batch: int | None) -> None:
    """Write the network saved in the folder RUN as a file that needs no jaxnets.

    stablehlo is read by JAX alone, on CPUs, GPUs and TPUs; onnx by onnxruntime and others. Both
    hold the weights, what inputs go through before the network, and the names of the classes.
    torch is a state_dict; of a documented network the source of its PyTorch class comes with it.
    """
    to = to or _KINDS.get(out.suffix)
    if to is None:
        expected = "a name that ends in .zip, .onnx or .pt, or --to"
        raise InputError("out", expected, printable(out))
    if out.exists() or not out.parent.is_dir():
        raise InputError("out", "a new file in a folder that exists", printable(out))
    if to == "torch" and batch is not None:
        raise InputError("batch", "none, as a state_dict takes any", batch)
    saved = opened(run)
    if to == "torch":
        written = export.save_torch(saved.model, out)
    else:
        save = export.save_onnx if to == "onnx" else export.save_stablehlo
        save(saved.program(batch), out)
        written = [out]
    for path in written:
        size = path.stat().st_size
        click.echo(f"written to {printable(path, limit=None)} ({size:,} bytes)")
