"""The command ``compare``: trains the same network in two frameworks and compares the results."""

import contextlib
import dataclasses
import json
import shlex
import statistics
import sys
from pathlib import Path
from typing import Any

import click
import jax

from jaxnets import recipes, runs
from jaxnets.arrays import InputError, check_number, check_positive
from jaxnets.commands import own
from jaxnets.commands.flags import PathArgument, added, changed, compared_flags, named
from jaxnets.commands.seeds import Numbers
from jaxnets.compare import report
from jaxnets.compare.engine import Terms, compared
from jaxnets.compare.experiment import Experiment
from jaxnets.compare.from_recipe import from_recipe, recipe_of
from jaxnets.compare.peers import PEERS
from jaxnets.compare.records import Comparison
from jaxnets.compare.report.verdict import verdict
from jaxnets.compare.report.wording import Scale, names
from jaxnets.compare.store import new_directory, read_begun
from jaxnets.networks import OwnNetwork
from jaxnets.pages.plain import plain

_FLAGS = (
    click.option(
        "--seeds",
        type=Numbers("N or S,S,…", int),
        help="Number of seeds, counted from 0, or the seeds themselves.  [default: 5]",
    ),
    click.option(
        "--peer",
        type=click.Choice(PEERS),
        help="The framework to compare with.  [default: torch]",
    ),
    click.option(
        "--weights-from",
        type=click.Choice(["jaxnets", "torch"]),
        help="The framework that draws the initial weights of both.  [default: jaxnets; torch with "
        "--torch]",
    ),
    click.option(
        "--independent",
        is_flag=True,
        help="Let each framework draw its own weights, order of examples and dropout. This "
        "compares distributions instead of pairs.",
    ),
    click.option(
        "--margin",
        type=float,
        help="The largest difference that counts as equivalent, in percentage points of accuracy "
        "or in test loss.  [default: 0.3 points, or 1 % of the peer's loss]",
    ),
    click.option(
        "--control/--no-control",
        default=True,
        help="Also train PyTorch a second time, with another number of threads and with reversed "
        "batches, to show the effect of rounding.",
    ),
    click.option(
        "--timing/--no-timing",
        default=True,
        help="Measure the time of one separate run in each framework.",
    ),
    click.option(
        "--device", type=click.Choice(["cpu", "gpu"]), help="The device of both.  [default: JAX's]"
    ),
    click.option(
        "--out",
        type=PathArgument(),
        help="A new folder for the report.  [default: comparisons/RECIPE or comparisons/Class]",
    ),
    click.option(
        "--resume",
        type=PathArgument(),
        metavar="DIR",
        help="Resume the comparison in DIR, and keep its finished trainings.",
    ),
)
_OWN = (
    *("seeds", "peer", "weights_from", "independent", "margin", "control", "timing", "device"),
    *("out", "resume"),
)
_EXAMPLES = """\b
Examples:
  jaxnets compare mnist-mlp --seeds 5 --epochs 10
  jaxnets compare mnist-lenet --seeds 3 --epochs 3 --out comparisons/lenet
  jaxnets compare mnist-lstm --independent --epochs 2
  jaxnets compare --resume comparisons/lenet --seeds 5
  jaxnets compare --torch nets.py:Net --args "width=8" --data mnist --epochs 3
"""
_SEEDS = 5
#: The settings that a resumed comparison reads from its folder.
_KEPT = ("seeds", "paired", "weights_from", "peer", "margin")
_TORCH_DEVICES = {None: None, "cpu": "cpu", "gpu": "cuda"}


@click.command("compare", epilog=_EXAMPLES)
@click.argument("recipe", required=False)
@compared_flags
@lambda command: added(_FLAGS, command)
@click.option("--json", "as_json", is_flag=True, help="Print only the result, as one JSON object.")
@click.option("--quiet", "-q", is_flag=True, help="Print only the result.")
def compare_command(recipe: str | None, as_json: bool, quiet: bool, **flags: Any) -> None:
    """Train RECIPE's network in PyTorch and in jaxnets, and compare the results.

    --torch FILE.py:Class ports your own PyTorch network and trains both on --data, with or without
    RECIPE.

    For each seed, both networks start from the same weights and train on the same batches in the
    same order, with the same optimizer, in float32. The report in --out contains the accuracy of
    each seed, the paired difference with a test of equivalence, the differences of the training
    losses (also of two PyTorch runs that differ only by rounding, for comparison), the
    predictions that differ, and time and memory.

    Dropout is off in both networks, as the frameworks draw different masks. Images are augmented
    by jaxnets for both, with the same results.

    Every finished training is kept in --out. Use --resume DIR after Ctrl-C, or to add seeds.
    """
    chosen = {name: flags.pop(name) for name in _OWN}
    out, resume = chosen.pop("out"), chosen.pop("resume")
    _take_torch(flags, chosen)
    known = None if recipe is None and resume is not None else named(recipe, flags)
    before = _begun(known, out, resume)
    this = changed(known or recipe_of(before, resume), flags)
    _compute_on(chosen["device"])
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        directory = new_directory(out, this.name) if resume is None else resume
        experiment = _experiment(this)
        terms = _terms(chosen, before, experiment.data.num_classes is not None)
        if isinstance(this.model, OwnNetwork):
            this.model.write(directory / runs.NETWORK)
        comparison = compared(experiment, terms, directory, "none" if quiet else "auto")
        report.write(comparison, directory)
    click.echo(_as_json(comparison, directory) if as_json else summary(comparison, directory))


def _take_torch(flags: dict[str, Any], chosen: dict[str, Any]) -> None:
    """Makes the network of --torch the model, and sets the defaults that follow from it."""
    network = flags.pop("torch")
    if network is None:
        return
    if flags["model"] is not None:
        raise click.UsageError("--torch cannot be used with --model.")
    if chosen["peer"] not in (None, "torch"):
        raise click.UsageError("--torch is always compared with PyTorch: omit --peer.")
    flags["model"] = network
    chosen["weights_from"] = chosen["weights_from"] or "torch"


def _experiment(recipe: recipes.Recipe) -> Experiment:
    """Makes an experiment of the recipe, and ports a user's PyTorch network."""
    if not isinstance(recipe.model, OwnNetwork):
        return from_recipe(recipe)
    own.imported(recipe)
    if not recipe.model.is_torch:
        expected = "a torch.nn.Module, or a function that returns one"
        raise InputError("torch", expected, recipe.model.target)
    data = recipes.load_data(recipe)
    return from_recipe(recipe, data, own.ported(recipes.sized(recipe, data), data))


def _begun(known: recipes.Recipe | None, out: Path | None, resume: Path | None) -> dict[str, Any]:
    """Reads the settings of the comparison to resume; returns an empty dict for a new one."""
    if known is None and resume is None:
        raise click.UsageError("Missing argument 'RECIPE', or --torch FILE.py:Class.")
    if resume is not None and out is not None:
        raise click.UsageError("--resume continues in its own folder: omit --out.")
    return {} if resume is None else read_begun(resume)


def _terms(chosen: dict[str, Any], before: dict[str, Any], classes: bool) -> Terms:
    """Returns the settings of the flags; for a resumed comparison its own are the defaults."""
    given = {name: value for name, value in chosen.items() if value is not None}
    if given.pop("independent", False):
        given["paired"] = False
    if "seeds" in given and len(given["seeds"]) == 1:
        given["seeds"] = list(range(check_positive("seeds", given["seeds"][0])))
    if classes and "margin" in given:
        given["margin"] = check_number("margin", given["margin"], above=0) / 100
    given["device"] = _TORCH_DEVICES[chosen["device"]]
    kept = {name: before[name] for name in _KEPT if name in before}
    command = shlex.join(["jaxnets", *sys.argv[1:]])
    return Terms(**{"seeds": range(_SEEDS), **kept, **given, "command": command})


def _compute_on(device: str | None) -> None:
    """Makes JAX compute on the CPU, or checks that it computes on a GPU."""
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    if device is not None and jax.default_backend() != device:
        expected = f"the device of JAX, {jax.default_backend()}"
        raise InputError("device", expected, device)


def summary(comparison: Comparison, directory: Path) -> str:
    """Returns a table of the seeds, the verdict, times, findings and the path of the report.

    Args:
        comparison: the results.
        directory: the folder of the report.
    """
    scale, (ours, theirs) = Scale.of(comparison), names(comparison)
    lines = [f"{'seed':<6}{ours:>12}{theirs:>12}{'difference':>12}"]
    for pair in comparison.pairs:
        scores = f"{scale.score(pair.ours.score):>12}{scale.score(pair.theirs.score):>12}"
        apart = scale.signed(pair.ours.score - pair.theirs.score)
        lines.append(f"{pair.seed:<6}{scores}{apart:>12}")
    lines += ["", verdict(comparison).text, *_times(comparison)]
    lines += [f"finding: {finding.text}" for finding in comparison.findings]
    return "\n".join([*lines, f"report: {directory / 'report.html'}"])


def _times(comparison: Comparison) -> list[str]:
    """Returns a line with the time of an epoch; no line without timings."""
    if not comparison.timings:
        return []
    seconds = [statistics.median(each.epoch_seconds) for each in comparison.timings]
    each = [
        f"{timing.framework} {epoch:.2f} s"
        + (f" (and {timing.compile_seconds:.1f} s to compile)" if timing.compile_seconds else "")
        for timing, epoch in zip(comparison.timings, seconds, strict=True)
    ]
    ours, theirs = names(comparison)
    ratio = f"{theirs} takes {seconds[1] / seconds[0]:.2f} times as long as {ours}"
    return [f"an epoch of a separate run takes {', '.join(each)}: {ratio}"]


def _as_json(comparison: Comparison, directory: Path) -> str:
    """Returns the main results as JSON; ``report.json`` in the folder has all numbers."""
    found = comparison.equivalence
    rows = [
        {"seed": pair.seed, "ours": pair.ours.score, "theirs": pair.theirs.score}
        for pair in comparison.pairs
    ]
    equivalence = dataclasses.asdict(found) | {"equivalent": found.equivalent}
    return json.dumps(
        plain(
            {
                "name": comparison.name,
                "frameworks": comparison.frameworks,
                "measure": comparison.measure,
                "seeds": rows,
                "equivalence": equivalence,
                "findings": [dataclasses.asdict(finding) for finding in comparison.findings],
                "timings": [dataclasses.asdict(timing) for timing in comparison.timings],
                "directory": str(directory),
            }
        )
    )
