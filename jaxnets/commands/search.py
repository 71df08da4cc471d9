"""The command ``search``: searches hyperparameters, in one process or in several."""

import contextlib
import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from jaxnets import recipes, runs
from jaxnets.arrays import InputError, check_positive
from jaxnets.commands import own
from jaxnets.commands.flags import (
    PathArgument,
    added,
    changed,
    complete_recipe,
    fixed_flags,
    named,
    scheduler_flag,
)
from jaxnets.data import Dataset
from jaxnets.disk import new_folder
from jaxnets.json_files import read_object
from jaxnets.networks import OwnNetwork
from jaxnets.recipes import InitialWeights, Recipe
from jaxnets.search import SearchResult, search
from jaxnets.search.results import FIGURE, words_of
from jaxnets.search.results import RECORD as FILE
from jaxnets.search.searching import trained_best
from jaxnets.search.space import Space, joined
from jaxnets.search.studies import PRUNERS, SAMPLERS
from jaxnets.training.records import RECORD

_STORED, _BEST = "search.db", "best"
_RANGE = "A..B|A,B,…"
_SEARCHED = (
    click.option("--lr", metavar=_RANGE, help="Learning rate, on a logarithmic scale."),
    click.option("--momentum", metavar=_RANGE, help="Momentum of sgd or rmsprop."),
    click.option("--weight-decay", metavar=_RANGE, help="Weight decay, on a logarithmic scale."),
    click.option("--optimizer", metavar="A,B,…", help="Optimizers, each with its default options."),
    click.option("--batch-size", metavar=_RANGE, help="Number of examples in a batch."),
    click.option(
        "--option",
        "options",
        metavar="NAME=A..B|A,B,…",
        multiple=True,
        help="An argument of the network; repeatable.",
    ),
    click.option(
        "--optimizer-option",
        "optimizer_options",
        metavar="NAME=A..B|A,B,…",
        multiple=True,
        help="Another argument of the optimizer; repeatable.",
    ),
)
_HOW = (
    click.option(
        "--trials",
        type=int,
        metavar="N",
        help="Number of settings to try.  [default: 20, or the whole grid]",
    ),
    click.option(
        "--sampler",
        type=click.Choice(SAMPLERS),
        default="tpe",
        show_default=True,
        help="How settings are chosen: by Optuna's Bayesian sampler (tpe), at random, or every "
        "combination (grid).",
    ),
    click.option(
        "--pruner",
        type=click.Choice(PRUNERS),
        help="Stop unpromising trials early: by successive halving, or if they are worse than the "
        "median.  [default: median; none with --seeds or --together]",
    ),
    click.option(
        "--validation",
        type=float,
        default=0.1,
        show_default=True,
        metavar="SHARE",
        help="The share of the training examples that is held out to compare the trials.",
    ),
    click.option(
        "--metric",
        help="The metric to optimize, such as test_loss; here 'test' means the held-out examples.  "
        "[default: test_accuracy, or test_loss for a regression]",
    ),
    click.option(
        "--seed",
        type=int,
        default=0,
        show_default=True,
        help="Seed of the search and of the trainings.",
    ),
    click.option(
        "--seeds",
        type=int,
        default=1,
        show_default=True,
        metavar="N",
        help="Train each trial from N seeds at once, and use the mean of their results.",
    ),
    click.option(
        "--together",
        type=int,
        default=1,
        show_default=True,
        metavar="N",
        help="Train N learning rates with each choice of the rest at once; faster on accelerators.",
    ),
    click.option(
        "--jobs",
        type=int,
        default=1,
        show_default=True,
        metavar="N",
        help="Number of processes on this machine.",
    ),
    click.option(
        "--storage",
        metavar="FILE|URL",
        help="Store the trials in an SQLite file or a database, such as postgresql://HOST/NAME. "
        "The same command resumes the search, also on other machines at the same time.  "
        "[default: search.db in --out]",
    ),
    click.option("--name", help="The name of the search in --storage.  [default: RECIPE]"),
    click.option(
        "--out", type=PathArgument(), help="A folder for the table, the figure and the best run."
    ),
    click.option(
        "--json", "as_json", is_flag=True, help="Print only the result, as one JSON object."
    ),
    click.option("--quiet", "-q", is_flag=True, help="Print only the result."),
    click.option("--worker", is_flag=True, hidden=True, help="Search, and print only the trials."),
)
#: The parameters of ``search`` that ``train`` does not have, or has with another meaning.
_NOT_TRAINING = {
    "recipe",  # which comes first
    *("lr", "momentum", "weight_decay", "optimizer", "batch_size", "options", "optimizer_options"),
    *("trials", "sampler", "pruner", "validation", "metric", "seeds", "together", "jobs"),
    *("storage", "name", "out", "as_json", "quiet", "worker"),
}


class _Command(click.Command):
    """Stores the command line, for ``_training`` and the workers."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["words"] = list(args)
        return super().parse_args(ctx, args)


def _searching_flags(command: Any) -> Any:
    return added((*_SEARCHED, *_HOW), command)


@click.command("search", cls=_Command)
@click.argument("recipe", required=False, shell_complete=complete_recipe)
@_searching_flags
@fixed_flags
@scheduler_flag
@click.pass_context
def search_command(
    context: click.Context,
    recipe: str | None,
    trials: int | None,
    jobs: int,
    storage: str | None,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    worker: bool,
    **flags: Any,
) -> None:
    """Search the hyperparameters of RECIPE, or of --model FILE.py:Class, and train the best.

    A..B is a range, of integers if both ends are integers; A..B:log is a range on a logarithmic
    scale; A,B,… are choices. Each trial trains on part of the training examples and is evaluated on
    the rest. The best setting is then trained on all of them, and only this run uses the test
    examples.

    With --out or --storage, the same command resumes an interrupted search. Machines that run the
    same command with the same --storage share the trials; the last one trains the best setting.

    For example: jaxnets search mnist-mlp --lr 1e-4..1e-1 --batch-size 32,64,128 --out runs/search
    """
    check_positive("jobs", jobs)
    space = _space(flags)
    how = {name: flags.pop(name) for name in ("sampler", "pruner", "validation", "metric")}
    how |= {name: flags.pop(name) for name in ("seed", "seeds", "together", "name")}
    known = named(recipe, flags)
    if known is None:
        raise click.UsageError("Missing argument 'RECIPE', or --model FILE.py:Class.")
    chosen = changed(known, flags)
    report = None if quiet else click.echo
    with contextlib.ExitStack() as stack:
        if as_json:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        own.imported(chosen)
        space.check(chosen)
        data = recipes.load_data(chosen)
        place = storage
        if out is not None:
            stack.enter_context(_folder(out))
            place = storage or str(out / _STORED)
        if place is None and jobs > 1:
            place = f"{stack.enter_context(tempfile.TemporaryDirectory())}/{_STORED}"
        ready = _Ready()
        how |= {
            "trials": trials,
            "data": data,
            "storage": place,
            "prepare": ready,
            "report": report,
        }
        words = [*context.meta["words"], "--jobs=1", "--worker", f"--storage={place}"]
        with _workers(jobs - 1, words, sys.stderr if as_json else sys.stdout):
            found = search(chosen, space, **how, train_best=False)
        if worker:
            return
        if jobs > 1:  # reads the result again, now with the trials of the workers
            found = search(chosen, space, **how, train_best=False)
        tested = {} if found.running else _best(found, data, how["seed"], ready, out)
    result = {**found.record(), "test": tested, "command": _training(context, found)}
    if out is not None:
        found.write(out)
    click.echo(json.dumps(result) if as_json else _text(found, result, out))


def _space(flags: dict[str, Any]) -> Space:
    """Removes the ranges from ``flags``, and returns them as a space to search."""
    simple = ("lr", "momentum", "weight_decay", "optimizer", "batch_size")
    given = {name: value for name in simple if (value := flags.pop(name)) is not None}
    for flag, kind in (("options", "model"), ("optimizer_options", "optimizer")):
        for text in flags.pop(flag):
            name, _, value = text.partition("=")
            if not name.isidentifier() or not value:
                option = "--option" if kind == "model" else "--optimizer-option"
                raise InputError(option, "NAME=A..B or NAME=A,B,…", text)
            given[f"{kind}.{name}"] = value
    if not given:
        raise click.UsageError("Nothing to search: give --lr, --option or another range.")
    return Space.of(given)


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Makes the folder of a search, unless it exists; removes it after an error if it is empty."""
    known = any((out / name).exists() for name in (_STORED, FILE))
    if out.exists() and not known and (not out.is_dir() or any(out.iterdir())):
        raise InputError("out", "a new folder, or one of an earlier search", repr(str(out)))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        got = f"{str(out)!r}: {error.strerror}"
        raise InputError("out", "a folder that can be made", got) from error
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            out.rmdir()
        raise


class _Ready:
    """Prepares recipes for training; ports a PyTorch network once for each set of arguments."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Recipe, InitialWeights | None]] = {}

    def __call__(self, recipe: Recipe, data: Dataset) -> tuple[Recipe, InitialWeights | None]:
        """Returns the recipe with its sizes, and its initial weights or None."""
        if not isinstance(recipe.model, OwnNetwork):
            return recipe, None
        structure = recipe.model.arguments
        if structure not in self._known:
            self._known[structure] = own.ready(recipe, data)
        made, weights = self._known[structure]
        return dataclasses.replace(recipe, model=made.model, document=made.document), weights


@contextlib.contextmanager
def _workers(count: int, words: Sequence[str], output: Any) -> Iterator[None]:
    """Starts other processes that search as well, and waits for them."""
    command = [sys.executable, "-m", "jaxnets", "search", *words]
    started = [subprocess.Popen(command, stdout=output) for _ in range(count)]
    try:
        yield
        for each in started:
            each.wait()
    finally:
        for each in started:
            if each.poll() is None:
                each.terminate()


def _best(
    found: SearchResult, data: Dataset, seed: int, ready: _Ready, out: Path | None
) -> dict[str, Any]:
    """Trains the best setting, writes its run directory, and returns its test results."""
    place = None if out is None else out / _BEST
    if place is not None and (known := _known(place, found, data, seed, ready)) is not None:
        return _tests(known)
    found = trained_best(found, data, seed, ready)
    assert found.run is not None
    assert found.trained is not None
    if place is not None:
        shutil.rmtree(place, ignore_errors=True)
        with new_folder(place) as folder:
            runs.write(folder, found.trained, seed, found.run, data)
    return _tests(found.run.measured())


def _known(
    place: Path, found: SearchResult, data: Dataset, seed: int, ready: _Ready
) -> dict[str, Any] | None:
    """Returns the record of the best setting's run if ``place`` has it already, else None."""
    if not runs.is_run(place):
        return None
    chosen = recipes.sized(ready(found.best_recipe, data)[0], data)
    settings = json.loads(json.dumps(runs.settings(chosen)))
    record = read_object(place / RECORD)
    same = record.get("settings") == settings and record.get("seed") == seed
    return record if same else None


def _tests(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record.get(name) for name in ("test_accuracy", "test_loss")}


def _training(context: click.Context, found: SearchResult) -> str:
    """Returns the command that trains the best setting.

    That is the command line of the search, with ``train`` and the best values instead of ranges.
    """
    options, _, order = context.command.make_parser(context).parse_args(list(context.meta["words"]))
    replaced = {"arguments"} if "--args" in found.flags else set()
    recipe = context.params["recipe"]
    words = ["jaxnets", "train", *([] if recipe is None else [recipe])]
    for parameter in dict.fromkeys(order):
        if parameter.name not in _NOT_TRAINING | replaced:
            given = options[parameter.name]
            for value in given if parameter.multiple else [given]:
                words += [parameter.opts[0], *([value] if isinstance(value, str) else value)]
    return joined([*words, *found.flags])


def _text(found: SearchResult, result: Mapping[str, Any], out: Path | None) -> str:
    """Returns the best five settings, the test of the best one and the command to train it."""
    lines = ["", found.table(), ""]
    if found.running:
        lines.append("other processes are still searching; the last one trains the best setting")
    else:
        lines.append(f"best setting, trained on all examples: {_result(result['test'])}")
    lines.append(result["command"])
    if out is not None:
        lines.append(f"{words_of(found.metric)} by trial, importances: {out / FIGURE}")
    return "\n".join(lines)


def _result(test: Mapping[str, Any]) -> str:
    if test["test_accuracy"] is None:
        return f"test loss {test['test_loss']:.6g}"
    return f"test accuracy {test['test_accuracy']:.2%}"
