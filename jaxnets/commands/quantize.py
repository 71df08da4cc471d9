"""The command ``quantize``: quantizes the weights of a trained network to integers."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import jax
import numpy as np
from flax import nnx

from jaxnets import quantization, recipes, runs
from jaxnets.arrays import InputError, printable
from jaxnets.changes import Change
from jaxnets.commands.flags import PathArgument
from jaxnets.commands.predict import saved_in
from jaxnets.commands.saved import opened
from jaxnets.data import Dataset
from jaxnets.disk import check_free
from jaxnets.quantization.observers import OBSERVERS
from jaxnets.quantization.parts import MODES
from jaxnets.training import Evaluation, evaluate, predictor
from jaxnets.training.records import in_words

#: The mode of each option, and its default value.
_OPTIONS = {
    "bits": ("weights", 8),
    "group_size": ("weights", None),
    "calibration": ("static", 200),
    "observer": ("static", "minmax"),
}
_BATCH, _SECONDS = 256, 0.3


@click.command("quantize")
@click.argument("run", type=PathArgument())
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="dynamic",
    show_default=True,
    help="What to quantize: weights and, with scales computed at each call, inputs of linear and "
    "recurrent layers (dynamic); weights and, with scales calibrated on training examples, inputs "
    "of convolutions and linear layers (static); or only the weights of all layers (weights).",
)
@click.option(
    "--bits", type=int, show_default="8", help="Bits of a weight, 8 or 4; for --mode weights."
)
@click.option(
    "--group-size",
    type=click.IntRange(min=1),
    help="Number of inputs that share a scale; for --mode weights.  [default: all inputs of an "
    "output]",
)
@click.option(
    "--calibration",
    type=click.IntRange(min=1),
    show_default="200",
    help="Number of training examples for the scales; for --mode static.",
)
@click.option(
    "--observer",
    type=click.Choice(list(OBSERVERS)),
    show_default="minmax",
    help="The estimator of the range of inputs; for --mode static.",
)
@click.option("--skip", multiple=True, metavar="LAYER", help="A layer not to quantize; repeatable.")
@click.option("--out", type=PathArgument(), required=True, help="The new run directory.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def quantize_command(
    run: Path, mode: str, skip: tuple[str, ...], out: Path, as_json: bool, **flags: Any
) -> None:
    """Quantize the network in the run directory RUN, and write a new run directory.

    The command prints which layers are quantized and which are not, and, before and after, the
    accuracy, the size of the weights and the time for an example.
    """
    options = _chosen(mode, {name: value for name, value in flags.items() if value is not None})
    check_free(out, "out")
    saved = opened(run)
    if saved.recipe is None:
        expected = "a run of jaxnets train, as other runs do not record their data"
        raise InputError("run", expected, str(run))
    data, settings = recipes.fit_settings(saved.recipe, None)
    small = _quantized(saved, data, mode, skip, **options)
    report = quantization.report(small)
    both, measured = (saved.model, small), recipes.evaluation_of(saved.recipe, settings)
    tests = [evaluate(model, data.test, measured) for model in both]
    change = Change("quantization", quantization.settings_of(small))
    runs.write_changed(out, run, small, change, tests[1])
    figures = [
        {**_measured(test), "bytes": quantization.report(model).bytes, **_timed(saved, model, data)}
        for model, test in zip(both, tests, strict=True)
    ]
    found = dict(zip(("before", "after"), figures, strict=True))
    if as_json:
        left = {row.path: row.how for row in report.left}
        click.echo(json.dumps({"mode": mode, **options, **found, "left": left}, indent=2))
        return
    click.echo(printable(str(report).rpartition("\n")[0], limit=None, lines=True))
    for line in _table(found, tests):
        click.echo(line)
    click.echo(saved_in(out, out, small))


def _chosen(mode: str, given: dict[str, Any]) -> dict[str, Any]:
    """Returns the options of a mode, with defaults for those that are not given.

    Raises:
        InputError: if an option of another mode is given.
    """
    for name, value in given.items():
        if _OPTIONS[name][0] != mode:
            raise InputError(name.replace("_", "-"), f"none with --mode {mode}", value)
    return {name: given.get(name, usual) for name, (of, usual) in _OPTIONS.items() if of == mode}


def _quantized(
    saved: runs.SavedRun, data: Dataset, mode: str, skip: tuple[str, ...], **options: Any
) -> nnx.Module:
    if mode == "dynamic":
        return quantization.quantize_dynamic(saved.model, skip=skip)
    if mode == "weights":
        return quantization.quantize_weights(saved.model, **options, skip=skip)
    count = min(options["calibration"], len(data.train))
    chosen = np.random.default_rng(0).choice(len(data.train), count, replace=False)
    inputs, _ = data.train.gather(np.sort(chosen).astype(np.int32))
    return quantization.quantize_static(
        saved.model, inputs, observer=options["observer"], transform=saved.transform, skip=skip
    )


def _measured(test: Evaluation) -> dict[str, Any]:
    return {"loss": test.loss} | ({} if test.correct is None else {"accuracy": test.accuracy})


def _timed(saved: runs.SavedRun, model: nnx.Module, data: Dataset) -> dict[str, float]:
    """Returns microseconds per example, alone and in a batch: the best of several calls each."""
    predict = predictor(model, transform=saved.transform)
    times = {}
    for name, count in (("alone", 1), ("among_256", min(_BATCH, len(data.test)))):
        inputs, _ = data.test.gather(np.arange(count, dtype=np.int32))
        jax.block_until_ready(predict(inputs))  # compiles
        end, best = time.perf_counter() + _SECONDS, float("inf")
        while time.perf_counter() < end:
            begin = time.perf_counter()
            jax.block_until_ready(predict(inputs))
            best = min(best, time.perf_counter() - begin)
        times[f"microseconds_{name}"] = round(best * 1e6 / count, 2)
    return times


def _table(found: Mapping[str, Mapping[str, Any]], tests: list[Evaluation]) -> list[str]:
    lines = []
    for (name, each), test in zip(found.items(), tests, strict=True):
        parts = [
            in_words(test.metrics, "test "),
            f"{each['bytes'] / 1000:,.1f} kB",
            f"{each['microseconds_alone']:.0f} µs for an example alone, "
            f"{each['microseconds_among_256']:.1f} µs in a batch of {_BATCH}",
        ]
        lines.append(f"{name + ':':7} {'; '.join(parts)}")
    return lines
