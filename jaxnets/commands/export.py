"""The command ``export``: writes a trained network for other programs."""

from pathlib import Path

import click

from jaxnets import export
from jaxnets.arrays import InputError, printable
from jaxnets.commands.flags import PathArgument
from jaxnets.commands.saved import opened

#: The format for each suffix of a file.
_KINDS = {".zip": "stablehlo", ".onnx": "onnx", ".pt": "torch"}


@click.command("export")
@click.argument("run", type=PathArgument())
@click.option("--out", required=True, type=PathArgument(), help="The file to write.")
@click.option(
    "--to",
    type=click.Choice(list(_KINDS.values())),
    help="The format.  [default: by the suffix of --out: .zip, .onnx or .pt]",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1, max=1_000_000),
    help="The fixed batch size of the file.  [default: any batch size]",
)
def export_command(run: Path, out: Path, to: str | None, batch: int | None) -> None:
    """Write the network in the run directory RUN as a file that does not need jaxnets.

    stablehlo needs only JAX, and runs on CPUs, GPUs and TPUs. onnx is read by onnxruntime and
    other programs. Both contain the weights, the preprocessing of the inputs and the names of the
    classes. torch is a state_dict; for a built-in network the source of its PyTorch class is
    written next to it.
    """
    to = to or _KINDS.get(out.suffix)
    if to is None:
        expected = "a name that ends in .zip, .onnx or .pt, or the flag --to"
        raise InputError("out", expected, printable(out))
    if out.exists() or not out.parent.is_dir():
        raise InputError("out", "a new file in a folder that exists", printable(out))
    if to == "torch" and batch is not None:
        raise InputError("batch", "none, as a state_dict has no batch size", batch)
    saved = opened(run)
    if to == "torch":
        written = export.save_torch(saved.model, out)
    else:
        save = export.save_onnx if to == "onnx" else export.save_stablehlo
        save(saved.program(batch), out)
        written = [out]
    for path in written:
        size = path.stat().st_size
        click.echo(f"wrote {printable(path, limit=None)} ({size:,} bytes)")
