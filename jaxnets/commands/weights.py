"""The commands ``inspect`` and ``convert``: show and convert files of weights."""

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
    """The arrays in a file or a folder.

    Attributes:
        source: the path.
        arrays: the name, shape and dtype of each array.
        taken_off: names of wrappers around the arrays that were removed, such as ``state_dict``.
        left_aside: names of entries that are not weights.
    """

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
        for what, names in (("unwrapped", self.taken_off), ("ignored", self.left_aside)):
            if names:
                lines.append(f"{what}: {', '.join(map(printable, names))}")
        return "\n".join(lines)


@click.command("inspect")
@click.argument("source", metavar="FILE|RUN", type=PathArgument())
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def inspect_command(source: Path, as_json: bool) -> None:
    """Show the arrays in FILE, or the weights in the run directory RUN.

    FILE is a file of torch.save, pickle, safetensors or numpy.savez, the index of several such
    files, or a folder of weights. The weights of a run are shown with PyTorch's names and layouts.
    """
    listing = _listing(source)
    click.echo(listing.as_json() if as_json else listing.as_text())


def _listing(source: Path) -> _Listing:
    if (exported := weights_in(source)) is not None:
        return _Listing(str(source), [_of_text(*item) for item in exported.items()])
    is_run = runs.is_run(source)
    if is_run and runs.is_own(source):  # the user's code is not run only to show shapes
        return _listing(runs.weights_of(source))
    content = interop.to_numpy(runs.read(source).model) if is_run else source
    found = interop.read_torch(content)
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
    """OLD=NEW: a name, or a prefix of names, and its replacement."""

    name = "OLD=NEW"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        """Returns both names."""
        old, sign, new = value.partition("=")
        if not sign:
            self.fail(f"expected OLD=NEW, got {printable(value)!r}", param, ctx)
        return old, new


@click.command("convert")
@click.argument("source", metavar="IN", type=PathArgument())
@click.argument("out", type=PathArgument())
@click.option("--model", type=click.Choice(list(MODELS)), help="The network, unless IN is a run.")
@model_option
@click.option(
    "--to",
    type=click.Choice(["torch", "jaxnets"]),
    help="The format of OUT, if its name does not determine it.",
)
@click.option(
    "--rename",
    type=_Renaming(),
    multiple=True,
    help="Rename the array OLD of the file IN, or replace the prefix OLD of names; repeatable. "
    "OLD= removes a prefix, =NEW adds one to all names.",
)
@click.option(
    "--drop",
    metavar="NAME",
    multiple=True,
    help="Omit arrays by name or pattern (*, ?, […]); repeatable.",
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
    """Convert the weights IN to OUT, from or to PyTorch.

    The suffix of OUT determines its format. A name that ends in .safetensors, .pt, .pth, .ckpt or
    .bin is a file with PyTorch's names and layouts. A name without a suffix is a folder of weights,
    as in RUN/weights; --to jaxnets makes such a folder with any name. IN is one of these or a run
    directory, and is recognized by its content. A .pt file can also be converted to .safetensors,
    without its wrappers.
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
    click.echo(f"wrote {printable(out, limit=None)}")


def _network(
    source: Path, model: str | None, options: dict[str, Any], rename: dict[str, str | None]
) -> nnx.Module:
    """Builds the network, and loads the weights of a file, a folder of weights or a run."""
    if rename and source.is_dir():
        raise InputError("rename", "a PyTorch file, as only its names can differ", str(source))
    is_run = runs.is_run(source)
    if model is None and not is_run:
        raise click.UsageError("Missing option '--model', as IN is not a run directory.")
    if model is None and options:
        raise InputError("model option", "also --model, as the run has its own options", options)

    if model is None:
        return opened(source).model
    network = recipes.build_network(model, options)
    if source.is_dir():
        load_weights(network, runs.weights_of(source) if is_run else source)
    else:
        click.echo(interop.load_torch(network, source, rename=rename or None))
    return network
