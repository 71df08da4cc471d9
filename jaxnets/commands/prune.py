"""The command ``prune``: prunes a trained network."""

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
        """Returns the number: an int for a count, a float for a fraction."""
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
    help="How much to remove of the remaining weights or units: a fraction such as 0.8, or a count "
    "such as 20.",
)
@click.option(
    "--method",
    type=click.Choice(CHOICES),
    default="global",
    show_default=True,
    help="What to remove: the weights of smallest magnitude in the network (global) or in each "
    "layer (l1), random weights (random), or the units of smallest norm, which are set to zero "
    "(ln-structured) or removed from the arrays (channels).",
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
    help="Number of epochs to train afterwards, with the settings of the run; pruned weights "
    "remain zero.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Seed of --method random and of --epochs.",
)
@click.option("--out", type=PathArgument(), required=True, help="The new run directory.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.option("--quiet", "-q", is_flag=True, help="Print only the result.")
def prune_command(
    run: Path, epochs: int, seed: int, out: Path, as_json: bool, quiet: bool, **flags: Any
) -> None:
    """Prune the network in the run directory RUN, and write a new run directory.

    The command prints, before and after pruning, the test accuracy or loss, the number of
    parameters and the share that is not zero, the size of the weights in memory and compressed,
    and the time for 256 examples.
    """
    check_free(out, "out")
    saved = opened(run)
    if saved.recipe is None:
        expected = "a run of jaxnets train, as other runs do not record their data"
        raise InputError("run", expected, str(run))
    data, settings = recipes.fit_settings(saved.recipe, None)
    smaller = _pruned(saved, data, seed=seed, **flags)
    if epochs:
        training = {**settings, "epochs": epochs, "seed": seed}
        training |= {"progress": "none" if quiet or as_json else "auto"}
        training = recipes.with_step(saved.recipe, smaller, data, training)
        smaller = fit(smaller, data, **training).model
    models = {"before": saved.model, "after": smaller}
    measured = recipes.evaluation_of(saved.recipe, settings)
    tests = {name: evaluate(model, data.test, measured) for name, model in models.items()}
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
    """Prunes the network; weights that an earlier pruning set to zero remain zero."""
    model = saved.model
    if any(change.name == "pruning" for change in saved.changes):
        model = pruning.mask_zeros(nnx.clone(model))
    inputs = data.train.gather(np.arange(min(8, len(data.train))))[0]
    if saved.transform is not None:
        inputs = saved.transform(inputs)
    chosen = list(layers) or "*"
    return pruning.pruned(model, amount, method, layers=chosen, inputs=inputs, seed=seed)


def size(model: nnx.Module) -> dict[str, float]:
    """Measures the size of a network.

    Returns:
        The number of parameters, the share of them that is not zero, the bytes of the weights, and
        their bytes after compression with zlib.
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
    """Measures the median seconds of each network for 256 test examples.

    The networks are measured in turns, so that a slow phase of the machine affects all of them.

    Args:
        models: the networks.
        transform: the preprocessing of their inputs.
        data: the data set, whose first test examples are used.
        seconds: the least duration of the measurement.
    """
    inputs = data.test.gather(np.arange(min(_BATCH, len(data.test))))[0]
    predictors = [predictor(model, transform=transform) for model in models]
    for predict in predictors:  # compiles
        predict(inputs)
    times: list[list[float]] = []
    while len(times) < 5 or np.sum(times) < seconds:
        times.append([])
        for predict in predictors:
            start = time.perf_counter()
            predict(inputs)
            times[-1].append(time.perf_counter() - start)
    return [float(each) for each in np.median(times, axis=0)]


def _table(found: dict[str, dict[str, Any]]) -> list[str]:
    """Returns a line for each figure, with its values before and after."""
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
