"""The command that prunes a trained network."""

import json
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from flax import nnx

from jaxnets import pruning, recipes, runs
from jaxnets.arrays import InputError, printable
from jaxnets.changes import Change
from jaxnets.commands.flags import PathArgument
from jaxnets.commands.predict import saved_in
from jaxnets.commands.saved import opened
from jaxnets.data import Dataset
from jaxnets.disk import check_free
from jaxnets.pruning.network import CHOICES
from jaxnets.training import count_parameters, evaluate, fit, predictor
from jaxnets.training.records import tested_record

_BATCH, _SECONDS = 256, 0.3


class _Amount(click.ParamType):
    """A fraction such as 0.8, or a count such as 20."""

    name = "AMOUNT"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        """The number."""
        try:
            return int(value) if str(value).lstrip("+-").isdecimal() else float(value)
        except ValueError:
            self.fail(f"expected a fraction or a count, got {printable(str(value))!r}", param, ctx)


@click.command("prune")
@click.argument("run", type=PathArgument())
@click.option(
    "--amount",
    type=_Amount(),
    required=True,
    help="How much is removed of what is left: a fraction such as 0.8, or a count such as 20.",
)
@click.option(
    "--method",
    type=click.Choice(CHOICES),
    default="global",
    show_default=True,
    help="What is removed: the weights of the smallest magnitude of the network (global) or of "
    "each layer (l1), any weights (random), units of the smallest norm, which become zeros "
    "(ln-structured) or are cut out of the arrays (channels).",
)
@click.option(
    "--layers",
    multiple=True,
    metavar="PATTERN",
    help="Layers to prune, such as 'conv*'; repeatable.  [default: all]",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Epochs of training afterwards, as the run was trained; pruned weights stay zero.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of --method random and of --epochs."
)
@click.option("--out", type=PathArgument(), required=True, help="The new folder of the run.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.option("--quiet", "-q", is_flag=True, help="Print the result alone.")
def prune_command(
    run: Path, epochs: int, seed: int, out: Path, as_json: bool, quiet: bool, **flags: Any
) -> None:
    """Prune the network of the run in the folder RUN; the new folder is a run as well.

    It prints, before and after, how good the network is on the test examples, how many parameters
    it has and how many of them are not zero, the size of the weights in memory and compressed, and
    the time for 256 examples.
    """
    check_free(out, "out")
    saved = opened(run)
    if saved.recipe is None:
        expected = "a run that jaxnets train wrote, as others do not name their data"
        raise InputError("run", expected, str(run))
    data, settings = recipes.fit_settings(saved.recipe, None)
    smaller = _pruned(saved, data, seed=seed, **flags)
    if epochs:
        told = {**settings, "epochs": epochs, "seed": seed}
        told |= {"progress": "none" if quiet or as_json else "auto"}
        smaller = fit(smaller, data, **told).model
    models = {"before": saved.model, "after": smaller}
    measured = {key: settings[key] for key in ("loss", "transform")}
    tests = {name: evaluate(model, data.test, **measured) for name, model in models.items()}
    times = timed(list(models.values()), saved.transform, data)
    found = {
        name: {**tested_record(tests[name]), **size(model), "seconds": seconds}
        for (name, model), seconds in zip(models.items(), times, strict=True)
    }
    change = Change("pruning", pruning.structure(saved.model, smaller))
    runs.write_changed(out, run, smaller, change, tests["after"])
    if as_json:
        click.echo(json.dumps(found))
        return
    for line in _table(found):
        click.echo(line)
    if not quiet:
        click.echo(saved_in(out, out, smaller))


def _pruned(
    saved: runs.SavedRun,
    data: Dataset,
    *,
    amount: float,
    method: Any,
    layers: tuple[str, ...],
    seed: int,
) -> nnx.Module:
    """The network, pruned once more if it was pruned before."""
    model = saved.model
    if any(change.name == "pruning" for change in saved.changes):
        model = pruning.mask_zeros(nnx.clone(model))
    inputs = data.train.gather(np.arange(min(8, len(data.train))))[0]
    if saved.transform is not None:
        inputs = saved.transform(inputs)
    chosen = list(layers) or "*"
    return pruning.pruned(model, amount, method, layers=chosen, inputs=inputs, seed=seed)


def size(model: nnx.Module) -> dict[str, float]:
    """How large a network is.

    Returns:
        The parameters and the share of them that is not zero, the bytes of the weights, and of
        these compressed by zlib.
    """
    found = pruning.sizes.variables(model).values()
    arrays = [np.asarray(each.get_value()) for each in found if isinstance(each, nnx.Param)]
    counts = pruning.sparsity(model)
    return {
        "parameters": count_parameters(model),
        "nonzero": counts.nonzero / counts.total,
        "bytes": sum(array.nbytes for array in arrays),
        "compressed": len(zlib.compress(b"".join(array.tobytes() for array in arrays))),
    }


def timed(
    models: Sequence[nnx.Module], transform: Any, data: Dataset, seconds: float = _SECONDS
) -> list[float]:
    """The median seconds that each network takes for 256 test examples, measured in turns.

    Args:
        models: the networks.
        transform: what inputs go through before them.
        data: whose first test examples are taken.
        seconds: how long to measure.
    """
    inputs = data.test.gather(np.arange(min(_BATCH, len(data.test))))[0]
    answers = [predictor(model, transform=transform) for model in models]
    for answer in answers:
        answer(inputs)
    times: list[list[float]] = []
    while len(times) < 5 or np.sum(times) < seconds:
        times.append([])
        for answer in answers:
            start = time.perf_counter()
            answer(inputs)
            times[-1].append(time.perf_counter() - start)
    return [float(each) for each in np.median(times, axis=0)]


def _table(found: dict[str, dict[str, Any]]) -> list[str]:
    """The figures before and after, a line each."""
    rows: list[tuple[str, ...]] = [("", "before", "after")]
    for label, name, text in _ROWS:
        values = [found[when].get(name) for when in ("before", "after")]
        if None not in values:
            rows.append((label, *map(text.format, values)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [f"{a:{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]


_ROWS = (
    ("test accuracy", "test_accuracy", "{:.2%}"),
    ("test loss", "test_loss", "{:.4g}"),
    ("parameters", "parameters", "{:,}"),
    ("not zero", "nonzero", "{:.1%}"),
    ("bytes of weights", "bytes", "{:,}"),
    ("bytes compressed", "compressed", "{:,}"),
    (f"seconds for {_BATCH} examples", "seconds", "{:.3g}"),
)
