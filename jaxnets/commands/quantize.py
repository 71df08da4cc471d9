"""The command ``quantize``: a trained network with integer weights."""

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

#: Of which mode an option is, and its usual value there.
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
    help="What becomes integers: weights and each call's inputs of linear and recurrent layers "
    "(dynamic), weights and inputs of convolutions and linear layers, by scales that training "
    "examples give (static), or weights alone, of all layers (weights).",
)
@click.option("--bits", type=int, show_default="8", help="Of a weight: 8 or 4; for weights.")
@click.option(
    "--group-size",
    type=click.IntRange(min=1),
    help="So many inputs share a scale; for weights. By default all inputs of an output do.",
)
@click.option(
    "--calibration",
    type=click.IntRange(min=1),
    show_default="200",
    help="How many training examples give the scales; for static.",
)
@click.option(
    "--observer",
    type=click.Choice(list(OBSERVERS)),
    show_default="minmax",
    help="How the range of inputs is found; for static.",
)
@click.option("--skip", multiple=True, metavar="LAYER", help="A layer to leave; repeatable.")
@click.option("--out", type=PathArgument(), required=True, help="The new folder of the run.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON.")
def quantize_command(
    run: Path, mode: str, skip: tuple[str, ...], out: Path, as_json: bool, **flags: Any
) -> None:
    """Quantize the weights of the run in the folder RUN, into the folder of a new run.

    It prints which layers have integers and which have not, and the accuracy, the size of the
    weights and the time for an example, before and after.
    """
    options = _chosen(mode, {name: value for name, value in flags.items() if value is not None})
    check_free(out, "out")
    saved = opened(run)
    if saved.recipe is None:
        expected = "a run that jaxnets train wrote, as others do not name their data"
        raise InputError("run", expected, str(run))
    data, settings = recipes.fit_settings(saved.recipe, None)
    small = _quantized(saved, data, mode, skip, **options)
    report = quantization.report(small)
    settings = {name: settings[name] for name in ("loss", "transform")}
    both = (saved.model, small)
    tests = [evaluate(model, data.test, **settings) for model in both]
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
    """The options of a mode.

    Raises:
        InputError: if one of another mode is given.
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
    """Microseconds for an example, alone and among ``_BATCH``: the best of some calls each."""
    answer = predictor(model, transform=saved.transform)
    times = {}
    for name, count in (("alone", 1), ("among_256", min(_BATCH, len(data.test)))):
        inputs, _ = data.test.gather(np.arange(count, dtype=np.int32))
        jax.block_until_ready(answer(inputs))
        end, best = time.perf_counter() + _SECONDS, float("inf")
        while time.perf_counter() < end:
            begin = time.perf_counter()
            jax.block_until_ready(answer(inputs))
            best = min(best, time.perf_counter() - begin)
        times[f"microseconds_{name}"] = round(best * 1e6 / count, 2)
    return times


def _table(found: Mapping[str, Mapping[str, Any]], tests: list[Evaluation]) -> list[str]:
    lines = []
    for (name, each), test in zip(found.items(), tests, strict=True):
        parts = [
            in_words(test.metrics, "test "),
            f"{each['bytes'] / 1000:,.1f} kB",
            f"an example {each['microseconds_alone']:.0f} µs alone, "
            f"{each['microseconds_among_256']:.1f} µs among {_BATCH}",
        ]
        lines.append(f"{name + ':':7} {'; '.join(parts)}")
    return lines
