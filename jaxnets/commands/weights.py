"""The commands that show and convert files of weights."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from flax import nnx

from jaxnets import interop, recipes, runs
from jaxnets.arrays import InputError, printable
from jaxnets.commands.flags import PathArgument, model_option
from jaxnets.commands.saved import opened
from jaxnets.models import MODELS
from jaxnets.training.weights import load_weights, save_weights, weights_in

_WRITERS: dict[str, Callable[[nnx.Module, Path], None]] = {
    ".safetensors": interop.save_safetensors,
    **dict.fromkeys((".pt", ".pth", ".bin", ".ckpt"), interop.save_torch),
}


@dataclass(frozen=True)
class _Listing:
    """The arrays in a file or a folder."""

    source: str
    arrays: list[dict[str, Any]]
    taken_off: tuple[str, ...] = ()
    left_aside: tuple[str, ...] = ()

    @property
    def numbers(self) -> int:
        return sum(math.prod(array["shape"]) for array in self.arrays)

    def as_json(self) -> str:
        return json.dumps({**vars(self), "numbers": self.numbers}, indent=2)

    def as_text(self) -> str:
        rows = [
            (printable(array["name"]), str(array["shape"]), array["dtype"]) for array in self.arrays
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        lines.append(f"{len(rows)} arrays, {self.numbers:,} numbers")
        for what, names in (("taken off", self.taken_off), ("left aside", self.left_aside)):
            if names:
                lines.append(f"{what}: {', '.join(map(printable, names))}")
        return "\n".join(lines)


@click.command("inspect")
@click.argument("source", metavar="FILE|RUN", type=PathArgument())
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def inspect_command(source: Path, as_json: bool) -> None:
    """Show the arrays in FILE, or the weights of the run in the folder RUN.

    FILE is one of torch.save, pickle, safetensors or numpy.savez, the index of several, or a folder
    of weights. The weights of a run have the names and layouts that they have in PyTorch.
    """
    listing = _listing(source)
    click.echo(listing.as_json() if as_json else listing.as_text())


def _listing(source: Path) -> _Listing:
    if (weights := weights_in(source)) is not None:
        return _Listing(str(source), [_of_text(*item) for item in weights.items()])
    is_run = runs.is_run(source)
    if is_run and runs.is_own(source):  # whose code is not run to show some shapes
        return _listing(runs.weights_of(source))
    held = interop.to_numpy(runs.read(source).model) if is_run else source
    found = interop.read_torch(held)
    arrays = [_about(*item) for item in found.arrays.items()]
    return _Listing(str(source), arrays, found.wrapping, found.aside)


def _about(name: str, array: Any) -> dict[str, Any]:
    dtype = str(array.dtype).removeprefix("torch.")
    return {"name": name, "shape": list(array.shape), "dtype": dtype}


def _of_text(name: str, described: str) -> dict[str, Any]:
    found = re.fullmatch(r"([\w<>]+)\[((?:\d+(?:, )?)*)\]", str(described))
    if found is None:
        expected = "a folder of weights whose list has dtypes and shapes"
        raise InputError("source", expected, f"{printable(described)} for {printable(name)}")
    shape = [int(size) for size in found[2].split(", ") if size]
    return {"name": name, "shape": shape, "dtype": found[1]}


class _Renaming(click.ParamType):
    """OLD=NEW: from a name, or its first parts, to another."""

    name = "OLD=NEW"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        """Both names."""
        old, sign, new = value.partition("=")
        if not sign:
            self.fail(f"expected OLD=NEW, got {printable(value)!r}", param, ctx)
        return old, new


@click.command("convert")
@click.argument("source", metavar="IN", type=PathArgument())
@click.argument("out", type=PathArgument())
@click.option("--model", type=click.Choice(list(MODELS)), help="The network; a run knows its own.")
@model_option
@click.option(
    "--to",
    type=click.Choice(["torch", "jaxnets"]),
    help="What OUT is to be, where its name does not say.",
)
@click.option(
    "--rename",
    type=_Renaming(),
    multiple=True,
    help="From a name in the file IN, or its first parts, to the network's; repeatable. "
    "OLD= takes OLD off, =NEW puts NEW before all names.",
)
@click.option(
    "--drop", metavar="NAME", multiple=True, help="Leave out NAME, with *, ? and […]; repeatable."
)
def convert_command(
    source: Path,
    out: Path,
    model: str | None,
    model_option: tuple[tuple[str, Any], ...],
    to: str | None,
    rename: tuple[tuple[str, str], ...],
    drop: tuple[str, ...],
) -> None:
    """Convert the weights IN to OUT: from PyTorch or to it.

    OUT's name says what it becomes. One that ends in .safetensors, .pt, .pth, .ckpt or .bin is a
    file with PyTorch's names and layouts; a name without an ending is a folder of weights, as
    training leaves it under RUN/weights. IN is either, or the folder of a run, known by its
    content, so that a .pt can also be rewritten as a .safetensors with its wrapping taken off.
    --to jaxnets makes a folder of any name.
    """
    if out.exists():
        raise InputError("out", "a path that does not exist yet", str(out))
    to = to or ("torch" if source.is_dir() or out.suffix else "jaxnets")
    if to == "torch" and out.suffix not in _WRITERS:
        raise InputError(
            "out", f"a file ending in {', '.join(_WRITERS)}, or --to jaxnets for a folder", str(out)
        )
    names = {**dict(rename), **dict.fromkeys(drop)}
    network = _network(source, model, dict(model_option), names)
    write = _WRITERS[out.suffix] if to == "torch" else save_weights
    write(network, out)
    click.echo(f"written to {printable(out, limit=None)}")


def _network(
    source: Path, model: str | None, options: dict[str, Any], rename: dict[str, str | None]
) -> nnx.Module:
    """The network with the weights of a file, a folder of weights or a run."""
    if rename and source.is_dir():
        raise InputError("rename", "a file of PyTorch's, whose names may be others", str(source))
    is_run = runs.is_run(source)
    if model is None and not is_run:
        raise click.UsageError("Missing option '--model', as only the folder of a run says it.")
    if model is None and options:
        raise InputError("model option", "--model beside it, as the run has its own", options)
    if model is None:
        return opened(source).model
    network = recipes.build_network(model, options)
    if source.is_dir():
        load_weights(network, runs.weights_of(source) if is_run else source)
    else:
        click.echo(interop.load_torch(network, source, rename=rename or None))
    return network
