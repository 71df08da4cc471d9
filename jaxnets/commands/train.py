"""The commands ``train``, ``recipes`` and ``summary``."""

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import jax
import numpy as np
from flax import nnx

from jaxnets import recipes, runs
from jaxnets.commands import computing, monitoring, own, seeds
from jaxnets.commands.flags import (
    PathArgument,
    changed,
    complete_recipe,
    joining_flags,
    named,
    network_flags,
    recipe_flags,
    saving_flags,
    scheduler_flag,
    take_saving,
    tuning_flags,
)
from jaxnets.commands.predict import saved_in
from jaxnets.commands.saved import opened
from jaxnets.data import Dataset, StandardizedDataset, TableDataset
from jaxnets.data.bundled import ORIGIN
from jaxnets.data.table_files import listed
from jaxnets.disk import new_folder
from jaxnets.models import LANGUAGE_MODELS
from jaxnets.training import TrainingRun
from jaxnets.training.objective import Objective
from jaxnets.training.processes import joined, launched
from jaxnets.training.records import in_words


@dataclasses.dataclass(frozen=True)
class _Job:
    """A training: the recipe, the data and the arguments of ``fit``."""

    recipe: recipes.Recipe
    seed: int
    data: Dataset
    computing: dict[str, Any]
    options: dict[str, Any]
    weights: recipes.InitialWeights | None = None

    def train(self, **saving: Any) -> TrainingRun:
        """Trains the network."""
        options = {**self.options, **computing.fit_options(self.computing), **saving}
        given: dict[str, Any] = {"seed": self.seed, "data": self.data, "weights": self.weights}
        return recipes.train(self.recipe, **given, **options)

    def written(self, run: TrainingRun) -> tuple[Any, ...]:
        """Returns the arguments of ``runs.write`` after the folder."""
        return self.recipe, self.seed, run, self.data, self.computing


@click.command("train")
@click.argument("recipe", required=False, shell_complete=complete_recipe)
@recipe_flags
@scheduler_flag
@tuning_flags
@click.option(
    "--from",
    "--weights",
    "source",
    type=PathArgument(),
    metavar="RUN|FILE",
    help="Start from the weights in a run directory, or in a file with PyTorch's names (.pt, "
    ".safetensors, .npz). Weights that do not fit are drawn anew and listed. --weights is the old "
    "name of this flag.",
)
@click.option(
    "--head",
    multiple=True,
    metavar="NAME",
    help="With --from: draw the weights of this layer anew, even if they fit; repeatable.",
)
@click.option(
    "--seed", type=int, help="Seed of weights, order, augmentation and dropout.  [default: 0]"
)
@saving_flags
@click.option(
    "--same-bits",
    is_flag=True,
    help="With --resume: fail if the result may not be bitwise equal to that of an uninterrupted "
    "run.",
)
@computing.computing_flags
@seeds.seeds_flags
@monitoring.monitoring_flags
@joining_flags
@click.option("--json", "as_json", is_flag=True, help="Print only the result, as one JSON object.")
@click.option("--quiet", "-q", is_flag=True, help="Print only the result.")
def train_command(
    recipe: str | None,
    source: Path | None,
    head: tuple[str, ...],
    seed: int | None,
    same_bits: bool,
    as_json: bool,
    quiet: bool,
    **flags: Any,
) -> None:
    """Train the network of RECIPE, or of --model, and test it on every test example.

    --model FILE.py:Class trains your own network on --data, with or without RECIPE. The default
    loss is cross-entropy (for a regression mean squared error), the default optimizer Adam. A
    network in PyTorch is ported first, and starts from the weights that PyTorch draws from the
    seed. The run directory contains a copy of the file.

    With --save-every or --save-minutes the run saves checkpoints, and also at Ctrl-C and SIGTERM.
    --resume continues an interrupted run with the same result. It uses the settings and the number
    of devices that the run began with; flags can change the devices and the number of epochs.

    Several processes, on one or more machines, train together if each has the flags --coordinator,
    --processes and --process-id. Under SLURM, Open MPI and on Cloud TPU pods these are detected.
    Only process 0 prints and writes.

    --from RUN starts from the weights of another run, and --freeze keeps some of them fixed.

    With --seeds or --learning-rates, many runs are trained at once: see docs/training.md.

    With --json, progress is printed to standard error, and only the result to standard output.
    """
    out, resume, saving = take_saving(flags)
    joining = {name: flags.pop(name) for name in ("coordinator", "processes", "process_id")}
    watching, given = monitoring.take(flags), computing.take(flags)
    many = seeds.take(flags, seed)
    if head and source is None:
        raise click.UsageError("--head requires --from.")
    known = None if recipe is None and resume is not None else named(recipe, flags)
    _check_flags(known, out, resume, saving)
    if many is not None:
        others = {**watching, **given, **joining, "save_every": saving or None, "resume": resume}
        seeds.check_alone(others)
        chosen = changed(known, flags)  # type: ignore[arg-type]
        start = _pretrained(source, head)
        seeds.train(many, chosen, others, out, pretrained=start, as_json=as_json, quiet=quiet)
        return
    monitoring.check_apart(watching, None if saving else out)
    if same_bits and resume is None:
        raise click.UsageError("--same-bits requires --resume.")
    if source is not None and resume is not None:
        raise click.UsageError("--from cannot be used with --resume, as the run has weights.")
    begun = None if resume is None else _begun(resume, same_bits)
    if begun is not None:
        watching = {**begun.monitoring, **watching}
        seed = begun.seed if seed is None else seed
    before = {} if begun is None else begun.computing
    chosen = changed(known or begun.recipe, flags)  # type: ignore[union-attr]
    computing.make_cpu_devices({**before, **given}.get("devices"), joining["processes"])
    with _together(**joining):
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            own.imported(chosen)
            data = recipes.load_data(chosen)
            _print_inputs(data, quiet)
            ready, initial = own.ready(chosen, data, _pretrained(source, head))
            options = {
                **monitoring.fit_options(watching, data),
                "progress": "none" if quiet else "auto",
            }
            settled = computing.settled(given, before)
            job = _Job(ready, seed or 0, data, settled, options, initial)
            if begun is not None:
                begun = runs.extend(begun, job.recipe, job.seed, settled)
                job = dataclasses.replace(job, weights=_initial(begun))
            elif saving and out is not None:
                kept: dict[str, Any] = {
                    "monitoring": monitoring.kept(watching),
                    "computing": settled,
                }
                kept |= {"weights": initial and initial(job.seed)}
                begun = runs.begin(out, job.recipe, job.seed, **kept, **saving)
            run = _run(job, out) if begun is None else _run_saving(job, begun, resume is not None)
        if jax.process_index() == 0:
            _show(job, run, as_json)
            folder = out if begun is None else begun.directory
            if folder is not None and not as_json and not quiet:
                click.echo(saved_in(folder, folder, run.model))


def _pretrained(source: Path | None, head: tuple[str, ...]) -> own.Pretrained | None:
    """Returns the weights of --from: a run's network, or a file."""
    if source is None:
        return None
    network = opened(source).model if runs.is_run(source) else source
    return own.Pretrained(network, str(source), head)


def _initial(begun: runs.BegunRun) -> recipes.InitialWeights | None:
    """Returns the initial weights of a resumed run; None if they are drawn from the seed."""
    return None if begun.initial is None else lambda seed: begun.initial


def _begun(folder: Path, same_bits: bool) -> runs.BegunRun:
    """Reads the run to resume, and checks its record."""
    begun = runs.resume(folder, same_bits=same_bits)
    with runs.understood("resume", folder / runs.BEGUN):
        monitoring.check(begun.monitoring)
        computing.check(begun.computing)
    return begun


def _print_inputs(data: Dataset, quiet: bool) -> None:
    """Prints which columns of a user's table are the inputs."""
    encoder = data.encoder if isinstance(data, TableDataset | StandardizedDataset) else None
    if encoder is None or quiet or data.origin == ORIGIN or jax.process_index() > 0:
        return
    names = [name if name.isprintable() else repr(name) for name in encoder.inputs]
    click.echo(f"{data.name}: {data.origin}; inputs {listed(names)}", err=True)


def _together(
    coordinator: str | None, processes: int | None, process_id: int | None
) -> contextlib.AbstractContextManager[None]:
    """Connects to the other processes, if flags or a launcher define any."""
    given = [flag is not None for flag in (coordinator, processes, process_id)]
    if all(given):
        return joined(coordinator, processes, process_id)
    if coordinator == "auto" or (not any(given) and launched(os.environ)):
        return joined()
    if any(given):
        raise click.UsageError("--coordinator, --processes and --process-id require each other.")
    return contextlib.nullcontext()


def _run(job: _Job, out: Path | None) -> TrainingRun:
    """Trains without checkpoints, and writes the run directory at the end."""
    writes = out is not None and jax.process_index() == 0
    with new_folder(out) if writes else contextlib.nullcontext() as folder:  # type: ignore[arg-type]
        runs.settings(job.recipe)
        run = job.train()
        if out is not None:
            runs.write(folder or out, *job.written(run))
    return run


def _run_saving(job: _Job, begun: runs.BegunRun, resume: bool) -> TrainingRun:
    """Trains with checkpoints, and completes the run directory."""
    run = job.train(save=begun.saving, resume=resume)
    runs.finish(begun.directory, *job.written(run))
    return run


def _check_flags(
    known: recipes.Recipe | None, out: Path | None, resume: Path | None, saving: dict[str, Any]
) -> None:
    if known is None and resume is None:
        raise click.UsageError("Missing argument 'RECIPE', or --model FILE.py:Class.")
    if resume is not None and (out is not None or saving):
        raise click.UsageError("--resume continues in its own folder and saves as often as before.")
    if saving and out is None:
        raise click.UsageError("--save-every, --save-minutes and --keep require --out.")
    if saving.keys() == {"keep"}:
        raise click.UsageError("--keep requires --save-every or --save-minutes.")


def _show(job: _Job, run: TrainingRun, as_json: bool) -> None:
    rmse = recipes.error_in_units(job.recipe, run, job.data)
    record = {**runs.summarize(job.recipe, job.seed, run), "test_rmse": rmse}
    click.echo(
        json.dumps(record) if as_json else f"{_result(run, rmse)}{_averaged(job.recipe, run)}"
    )


def _averaged(recipe: recipes.Recipe, run: TrainingRun) -> str:
    """Returns the test result before the weights were averaged, for comparison."""
    if recipe.ema is None and recipe.swa is None:
        return ""
    before = run.epoch.test
    last = f"{before['accuracy']:.2%}" if "accuracy" in before else f"{before['loss']:.6g}"
    return f"; {last} before the weights were averaged"


def _result(run: TrainingRun, rmse: float | None) -> str:
    if run.test.accuracy is None:
        units = "" if rmse is None else f", RMSE {rmse:.6g}"
        others = {name: value for name, value in run.test.metrics.items() if name != "loss"}
        measured = "".join(f", {words}" for words in in_words(others).split("  ") if words)
        return f"test loss: {run.test.loss:.6g}{units}{measured}"
    if isinstance(run.model, LANGUAGE_MODELS):
        return f"test loss: {run.test.loss:.4f} nats a token, accuracy: {run.test.accuracy:.2%}"
    return f"test accuracy: {run.test.accuracy:.2%} ({run.test.correct}/{run.test.total})"


@click.command("recipes")
def recipes_command() -> None:
    """List the recipes, with the result that each reproduces and the one to expect."""
    for entry in recipes.RECIPES.values():
        expected = entry.expect or "not measured yet"
        click.echo(f"{entry.name}\n  document {entry.document}\n  expect {expected}\n")


@contextlib.contextmanager
def _restored(model: nnx.Module) -> Iterator[None]:
    """Removes what ``nnx.tabulate`` adds to the classes of a model.

    It leaves copies of inherited methods, which ``nnx.capture`` would then record without end.
    """
    before = {type(part): set(vars(type(part))) for _, part in nnx.iter_modules(model)}
    try:
        yield
    finally:
        for kind, names in before.items():
            for name in set(vars(kind)) - names:
                delattr(kind, name)


@click.command("summary")
@click.argument("recipe", required=False, shell_complete=complete_recipe)
@network_flags
def summary_command(recipe: str | None, **flags: Any) -> None:
    """Show the layers of RECIPE's network, or of --model, with shapes and parameters."""
    known = named(recipe, flags)
    if known is None:
        raise click.UsageError("Missing argument 'RECIPE', or --model FILE.py:Class.")
    chosen = changed(known, flags)
    own.imported(chosen)
    data = recipes.load_data(chosen)
    chosen, _ = own.ready(chosen, data)
    model, transform = recipes.build_model(chosen), recipes.build_transform(chosen)
    first = data.train.gather(np.arange(min(chosen.batch_size, len(data.train))))
    example: Any = transform(first[0])
    if chosen.objective != "supervised" and not _takes(model, example):
        _, settings = recipes.fit_settings(chosen, data)
        model = Training(model, recipes.evaluation_of(chosen, settings))
        example = {"inputs": first[0], "labels": first[1]}
    columns: dict[str, Any] = example if isinstance(example, dict) else {}
    given = () if columns else (example,)
    with _restored(model):
        click.echo(nnx.tabulate(model, *given, console_kwargs={"width": 110}, **columns))


class Training(nnx.Module):
    """A network as an objective calls it, for example with noise or with the tokens before."""

    def __init__(self, network: nnx.Module, objective: Objective) -> None:
        """Creates the module."""
        self.network = network
        self.objective = objective

    def __call__(self, **batch: Any) -> jax.Array:
        """Returns the loss of a batch."""
        made = self.objective(self.network, batch, jax.random.key(0))
        loss: jax.Array = made[0] if isinstance(made, tuple) else made
        return loss


def _takes(model: nnx.Module, example: Any) -> bool:
    """Whether a network can be called with the inputs of a data set alone."""
    columns = example if isinstance(example, dict) else {}
    try:
        nnx.eval_shape(model, *(() if columns else (example,)), **columns)
    except (TypeError, ValueError):
        return False
    return True
