"""The command ``port``: rewrites a PyTorch network as a file of Flax NNX source."""

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
    help="An example input: its shape in PyTorch, as in 2x3x32x32; with a dtype, as in 2x12:int64; "
    "for integers also with an upper bound, as in 2x12:int64:5000; or a Python value, as in "
    "[5, 3]. Repeat the flag for each input, in order.",
)
@click.option(
    "--weights",
    type=PathArgument(),
    help="A file of PyTorch's weights, which are also written next to OUT, with the suffix .npz.",
)
@click.option(
    "--out",
    type=PathArgument(),
    help="The new file.  [default: the name of the class, with _jax.py]",
)
@click.option(
    "--report",
    type=PathArgument(),
    help="A file for the report, as JSON if the name ends in .json.",
)
@click.option(
    "--force", is_flag=True, help="Replace existing files, and write OUT even if results differ."
)
@click.option("--quick", is_flag=True, help="Compare less, in about a third of the time.")
@click.option("--json", "as_json", is_flag=True, help="Print only the report, as JSON.")
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
    """Rewrite a PyTorch network as Flax NNX source with the same classes, channels last.

    The network is a class, or a function that returns a network, in a file or in a module given by
    its dotted name. The file is imported, so its code runs: only port files that you trust.

    The network is run on the example inputs, and each operation that its source calls is replaced
    by the equivalent one. With a batch of two or more, training mode is ported too. Then outputs,
    gradients, buffers, and the weights after ten training steps of both networks are compared. OUT
    is written if all of them are equal.

    Code that cannot be ported is listed by file and line; then nothing is written. The exit code is
    1 if the network cannot be ported or its results differ.
    """
    # Imported here because the rules of some 500 operations are slow to import.
    from jaxnets.port import port
    from jaxnets.port.compilers import without_compilers

    network = OwnNetwork.at(target, arguments, argument="target")
    out = Path(f"{network.name.lower()}_jax.py") if out is None else out
    _check_out(out, report, with_weights=weights is not None, force=force)
    make, (args, named) = network.make, arguments_of(arguments)
    click.echo(f"imported {printable(target)}, whose code has run", err=as_json)
    with without_compilers():
        module = network.build_torch()
    if weights is not None:
        _fill(module, weights)
    examples = _inputs(module, inputs)
    found = _ported(target, port(make, examples, args=args, kwargs=named), module, examples, quick)
    if report is not None:
        _write(report, found.as_json() if report.suffix == ".json" else str(found))
    click.echo(found.as_json() if as_json else str(found))
    if found.verdict == "exact" or (force and found.verdict != "refused"):
        _write_port(out, found, None if weights is None else module)
        click.echo(f"wrote {printable(out, limit=None)}", err=as_json)
    if found.verdict != "exact":
        raise click.exceptions.Exit(1)


def _check_out(out: Path, report: Path | None, *, with_weights: bool, force: bool) -> None:
    """Checks the paths of the files before the slow part starts."""
    if out.suffix != ".py":
        raise InputError("out", "a file that ends in .py", str(out))
    for argument, path in (("out", out), ("report", report)):
        if path is not None and not check_path(argument, path).parent.is_dir():
            raise InputError(argument, "a file in a folder that exists", str(path))
    taken = [out, *([out.with_suffix(".npz")] if with_weights else []), *filter(None, [report])]
    for path in taken:
        if path.exists() and (not force or path.is_dir()):
            raise InputError("out", "a new file, or --force to replace it", str(path))


def _inputs(module: Any, texts: tuple[str, ...]) -> tuple[Any, ...]:
    """Makes the example inputs, and checks that the network accepts them."""
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
            raise InputError("input", "inputs that the network accepts", got) from error
    module.train(before)
    return examples


def _fill(module: Any, weights: Path) -> None:
    """Loads a file of weights into a PyTorch network."""
    import torch

    arrays = interop.read_torch(weights).arrays
    tensors = {name: torch.as_tensor(np.asarray(array)) for name, array in arrays.items()}
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise InputError("weights", f"weights of {type(module).__name__}", reason) from error


def _ported(
    target: str, ported: Any, module: Any, inputs: tuple[Any, ...], quick: bool
) -> "Report":
    """Compares a port with the original, unless it was refused, and returns the report."""
    from jaxnets.port.check import prove
    from jaxnets.port.report import Report

    if ported.refusals:
        return Report(target, ported)
    model = ported.build()
    interop.load_torch(model, module.state_dict())
    return Report(target, ported, prove(model, module, inputs, orders=ported.inputs, quick=quick))


def _write_port(out: Path, found: "Report", module: Any) -> None:
    """Writes the source and the weights, each completely or not at all."""
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
