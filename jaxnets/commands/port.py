"""The command ``port``: a PyTorch network rewritten as a file of Flax NNX."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from jaxnets import interop
from jaxnets.arrays import InputError, check_path, printable
from jaxnets.commands.flags import PathArgument, call_arguments
from jaxnets.disk import replacing
from jaxnets.networks import OwnNetwork, arguments_of

if TYPE_CHECKING:
    from jaxnets.port.report import Report

_EXAMPLES = """\b
Examples:
  jaxnets port nets.py:ResNet --args "depth=20" --input 2x3x32x32
  jaxnets port nets.py:TextLSTM --input 2x12:int64:5000 --weights lstm.pt --out lstm_jax.py
  jaxnets port torchvision.models:resnet18 --input 2x3x64x64 --report resnet18.json
"""


@click.command("port", epilog=_EXAMPLES)
@click.argument("target", metavar="FILE.py:Class")
@call_arguments
@click.option(
    "--input",
    "inputs",
    metavar="SIZES[:DTYPE[:BELOW]]",
    multiple=True,
    required=True,
    help="An input to run the network on: its sizes as PyTorch takes them, 2x3x32x32; with a "
    "dtype, 2x12:int64; and for whole numbers what they are below, 2x12:int64:5000; or a Python "
    "value, [5, 3]. Once for each input, in their order.",
)
@click.option(
    "--weights",
    type=PathArgument(),
    help="PyTorch's weights, which are written beside OUT too, with the ending .npz.",
)
@click.option(
    "--out", type=PathArgument(), help="The new file.  [default: the class's name with _jax.py]"
)
@click.option(
    "--report", type=PathArgument(), help="Write the report: as JSON if the name ends in .json."
)
@click.option("--force", is_flag=True, help="Replace files, and write OUT whatever the proof says.")
@click.option("--quick", is_flag=True, help="Prove less, in about a third of the time.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON, and no more.")
def port_command(
    target: str,
    arguments: str,
    inputs: tuple[str, ...],
    weights: Path | None,
    out: Path | None,
    report: Path | None,
    force: bool,
    quick: bool,
    as_json: bool,
) -> None:
    """Rewrite a PyTorch network as Flax NNX: a file with the same classes, channels last.

    The network is a class of a file, or of a module by its dotted name; a function that makes a
    network does as well. Its file is imported, so its code runs: only port files that you trust.

    The network is run on the inputs, and what happens at each place of its source tells what
    is written there. A batch of two or more shows training mode too. Then both networks are
    compared: outputs, gradients, buffers, and the weights after ten steps of training. OUT is
    written if all of that is equal.

    What cannot be ported is listed by file and line, and nothing is written. The exit code is 1 of
    a network that is refused or differs.
    """
    # Here, so that no other command waits for the rules of some 500 operations.
    from jaxnets.port import port

    network = OwnNetwork.at(target, arguments, argument="target")
    out = Path(f"{network.name.lower()}_jax.py") if out is None else out
    _check_out(out, report, with_weights=weights is not None, force=force)
    make, (args, named) = network.make, arguments_of(arguments)
    click.echo(f"imported {printable(target)}, whose code has run", err=as_json)
    module = network.build_torch()
    if weights is not None:
        _fill(module, weights)
    examples = _taken(module, inputs)
    found = _ported(target, port(make, examples, args=args, kwargs=named), module, examples, quick)
    if report is not None:
        _write(report, found.as_json() if report.suffix == ".json" else str(found))
    click.echo(found.as_json() if as_json else str(found))
    if found.verdict == "exact" or (force and found.verdict != "refused"):
        _write_port(out, found, None if weights is None else module)
        click.echo(f"written to {printable(out, limit=None)}", err=as_json)
    if found.verdict != "exact":
        raise click.exceptions.Exit(1)


def _check_out(out: Path, report: Path | None, *, with_weights: bool, force: bool) -> None:
    """Checks where the files are to be, before anything takes time."""
    if out.suffix != ".py":
        raise InputError("out", "a file that ends in .py", str(out))
    for argument, path in (("out", out), ("report", report)):
        if path is not None and not check_path(argument, path).parent.is_dir():
            raise InputError(argument, "a file in a folder that exists", str(path))
    taken = [out, *([out.with_suffix(".npz")] if with_weights else []), *filter(None, [report])]
    for path in taken:
        if path.exists() and (not force or path.is_dir()):
            raise InputError("out", "a new file, or --force to replace it", str(path))


def _taken(module: Any, texts: tuple[str, ...]) -> tuple[Any, ...]:
    """The inputs, which the network takes."""
    import torch

    from jaxnets.networks import why
    from jaxnets.port.examples import inputs_of

    examples = inputs_of(texts, module)
    before = module.training
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            module.eval()(*examples)
        except Exception as error:  # whatever PyTorch or the user's code raises
            got = f"{' '.join(texts)} ({why(error)})"
            raise InputError("input", "inputs that the network takes", got) from error
    module.train(before)
    return examples


def _fill(module: Any, weights: Path) -> None:
    """Loads a file of weights into PyTorch's network."""
    import torch

    held = interop.read_torch(weights).arrays
    tensors = {name: torch.as_tensor(np.asarray(array)) for name, array in held.items()}
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise InputError("weights", f"those of {type(module).__name__}", reason) from error


def _ported(
    target: str, ported: Any, module: Any, inputs: tuple[Any, ...], quick: bool
) -> "Report":
    """The report on a port, which has been compared unless it was refused."""
    from jaxnets.port.check import prove
    from jaxnets.port.report import Report

    if ported.refusals:
        return Report(target, ported)
    model = ported.build()
    interop.load_torch(model, module.state_dict())
    return Report(target, ported, prove(model, module, inputs, orders=ported.inputs, quick=quick))


def _write_port(out: Path, found: "Report", module: Any) -> None:
    """Writes the source, and weights beside it; each appears whole."""
    with contextlib.ExitStack() as stack:
        if module is not None:
            weights = stack.enter_context(replacing(out.with_suffix(".npz")))
            arrays = {name: value.detach().numpy() for name, value in module.state_dict().items()}
            with weights.open("wb") as file:
                np.savez(file, **arrays)
        _write(out, found.ported.source)


def _write(path: Path, text: str) -> None:
    with replacing(path) as partial:
        partial.write_text(text if text.endswith("\n") else f"{text}\n", encoding="utf-8")
