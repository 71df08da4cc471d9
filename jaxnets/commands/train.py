"""The commands that train and show a recipe's network."""

import contextlib
import dataclasses
import json
import os
import sys
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
from jaxnets.models import LANGUAGE_MODELS
from jaxnets.training import TrainingRun
from jaxnets.training.processes import joined, launched


@dataclasses.dataclass(frozen=True)
class _Job:
    """What is to be trained, and how ``fit`` is to do it."""

    recipe: recipes.Recipe
    seed: int
    data: Dataset
    computing: dict[str, Any]
    options: dict[str, Any]
    weights: recipes.InitialWeights | None = None

    def train(self, **saving: Any) -> TrainingRun:
        """Trains it."""
        options = {**self.options, **computing.fit_options(self.computing), **saving}
        given: dict[str, Any] = {"seed": self.seed, "data": self.data, "weights": self.weights}
        return recipes.train(self.recipe, **given, **options)

    def written(self, run: TrainingRun) -> tuple[Any, ...]:
        """What ``runs.write`` takes after the folder."""
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
    help="Begin with the weights of a run's folder, or in a file with PyTorch's names (.pt, "
    ".safetensors, .npz), as far as they fit; what is new is named. --weights is its old name.",
)
@click.option(
    "--head",
    multiple=True,
    metavar="NAME",
    help="With --from: draw this layer anew, although weights may fit; repeatable.",
)
@click.option("--seed", type=int, help="Seeds everything random.  [default: 0]")
@saving_flags
@click.option(
    "--same-bits",
    is_flag=True,
    help="With --resume: refuse where the run may not end with the bits that it would have had.",
)
@computing.computing_flags
@seeds.seeds_flags
@monitoring.watching_flags
@joining_flags
@click.option(
    "--json", "as_json", is_flag=True, help="Print the result as one JSON object, and no more."
)
@click.option("--quiet", "-q", is_flag=True, help="Print the result alone.")
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

    --model FILE.py:Class trains a network of your own on --data, with RECIPE or without: by
    cross-entropy (values: mean squared error) and Adam, if no flag says otherwise. One in
    PyTorch is ported first, and begins with the weights that PyTorch draws from the seed.
    The run keeps a copy of the file.

    With --save-every or --save-minutes the run can be killed at any moment: --resume continues
    it, and ends as if nothing had happened. Ctrl-C and SIGTERM then save first. It continues as it
    began, with as many devices if they are there; flags may give it others, and more epochs.

    Several processes, on one machine or on many, train together if each is told where process 0
    is, how many there are and which it is. Started by SLURM, Open MPI or as a Cloud TPU pod they
    know. Process 0 alone speaks and writes.

    --from RUN begins with the weights of another run, and --freeze keeps some of them.

    With --seeds or --learning-rates many runs are trained at once: see docs/training.md.

    With --json the progress goes to standard error, so that standard output is the result alone.
    """
    out, resume, saving = take_saving(flags)
    joining = {name: flags.pop(name) for name in ("coordinator", "processes", "process_id")}
    watching, given = monitoring.take(flags), computing.take(flags)
    many = seeds.take(flags, seed)
    if head and source is None:
        raise click.UsageError("--head needs --from.")
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
        raise click.UsageError("--same-bits needs --resume.")
    if source is not None and resume is not None:
        raise click.UsageError("--from does not go with --resume: the run has weights.")
    begun = None if resume is None else _begun(resume, same_bits)
    if begun is not None:
        watching = {**begun.watching, **watching}
        seed = begun.seed if seed is None else seed
    before = {} if begun is None else begun.computing
    chosen = changed(known or begun.recipe, flags)  # type: ignore[union-attr]
    computing.make_cpu_devices({**before, **given}.get("devices"), joining["processes"])
    with _together(**joining):
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            own.imported(chosen)
            data = recipes.load_data(chosen)
            _tell_of(data, quiet)
            ready, initial = own.ready(chosen, data, _pretrained(source, head))
            options = {
                **monitoring.fit_options(watching, data),
                "progress": "none" if quiet else "auto",
            }
            settled = computing.settled(given, before)
            job = _Job(ready, seed or 0, data, settled, options, initial)
            if begun is not None:
                begun = runs.go_on(begun, job.recipe, job.seed, settled)
                job = dataclasses.replace(job, weights=_initial(begun))
            elif saving and out is not None:
                kept: dict[str, Any] = {"watching": monitoring.kept(watching), "computing": settled}
                kept |= {"weights": initial and initial(job.seed)}
                begun = runs.begin(out, job.recipe, job.seed, **kept, **saving)
            run = _run(job, out) if begun is None else _run_saving(job, begun, resume is not None)
        if jax.process_index() == 0:
            _show(job, run, as_json)
            folder = out if begun is None else begun.directory
            if folder is not None and not as_json and not quiet:
                click.echo(saved_in(folder, folder, run.model))


def _pretrained(source: Path | None, head: tuple[str, ...]) -> own.Pretrained | None:
    """What a run begins with: a run's network, or the weights in a file."""
    if source is None:
        return None
    network = opened(source).model if runs.is_run(source) else source
    return own.Pretrained(network, str(source), head)


def _initial(begun: runs.BegunRun) -> recipes.InitialWeights | None:
    """The weights that a run began with, where the seed does not draw them."""
    return None if begun.initial is None else lambda seed: begun.initial


def _begun(folder: Path, same_bits: bool) -> runs.BegunRun:
    """The run in a folder, and all that its record says looked at."""
    begun = runs.resume(folder, same_bits=same_bits)
    with runs.understood("resume", folder / runs.BEGUN):
        monitoring.check(begun.watching)
        computing.check(begun.computing)
    return begun


def _tell_of(data: Dataset, quiet: bool) -> None:
    """Says which columns of a table of the user's are the inputs."""
    encoder = data.encoder if isinstance(data, TableDataset | StandardizedDataset) else None
    if encoder is None or quiet or data.origin == ORIGIN or jax.process_index() > 0:
        return
    names = [name if name.isprintable() else repr(name) for name in encoder.inputs]
    click.echo(f"{data.name}: {data.origin}; inputs {listed(names)}", err=True)


def _together(
    coordinator: str | None, processes: int | None, process_id: int | None
) -> contextlib.AbstractContextManager[None]:
    """Joins other processes, where flags or a launcher say that there are some."""
    told = [flag is not None for flag in (coordinator, processes, process_id)]
    if all(told):
        return joined(coordinator, processes, process_id)
    if coordinator == "auto" or (not any(told) and launched(os.environ)):
        return joined()
    if any(told):
        raise click.UsageError("--coordinator, --processes and --process-id come together.")
    return contextlib.nullcontext()


def _run(job: _Job, out: Path | None) -> TrainingRun:
    """A run that saves nothing before its end."""
    writes = out is not None and jax.process_index() == 0
    with runs.new_folder(out) if writes else contextlib.nullcontext() as folder:  # type: ignore[arg-type]
        runs.settings(job.recipe)
        run = job.train()
        if out is not None:
            runs.write(folder or out, *job.written(run))
    return run


def _run_saving(job: _Job, begun: runs.BegunRun, resume: bool) -> TrainingRun:
    """A run that saves while it continues."""
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
        raise click.UsageError("--save-every, --save-minutes and --keep need --out.")
    if saving.keys() == {"keep"}:
        raise click.UsageError("--keep needs --save-every or --save-minutes.")


def _show(job: _Job, run: TrainingRun, as_json: bool) -> None:
    rmse = recipes.error_in_units(job.recipe, run, job.data)
    record = {**runs.summarize(job.recipe, job.seed, run), "test_rmse": rmse}
    click.echo(
        json.dumps(record) if as_json else f"{_result(run, rmse)}{_averaged(job.recipe, run)}"
    )


def _averaged(recipe: recipes.Recipe, run: TrainingRun) -> str:
    """What the test of averaged weights is to be compared with."""
    if recipe.ema is None and recipe.swa is None:
        return ""
    before = run.epoch.test
    last = f"{before['accuracy']:.2%}" if "accuracy" in before else f"{before['loss']:.6g}"
    return f"; {last} before the weights were averaged"


def _result(run: TrainingRun, rmse: float | None) -> str:
    if run.test.accuracy is None:
        units = "" if rmse is None else f", RMSE {rmse:.6g}"
        return f"test loss: {run.test.loss:.6g}{units}"
    if isinstance(run.model, LANGUAGE_MODELS):
        return f"test loss: {run.test.loss:.4f} nats a token, accuracy: {run.test.accuracy:.2%}"
    return f"test accuracy: {run.test.accuracy:.2%} ({run.test.correct}/{run.test.total})"


@click.command("recipes")
def recipes_command() -> None:
    """List the recipes: what they reproduce and what to expect."""
    for entry in recipes.RECIPES.values():
        click.echo(f"{entry.name}\n  document {entry.document}\n  expect {entry.expect}\n")


@click.command("summary")
@click.argument("recipe", required=False, shell_complete=complete_recipe)
@network_flags
def summary_command(recipe: str | None, **flags: Any) -> None:
    """Show the layers of RECIPE's network, or of --model, with their shapes and parameters."""
    known = named(recipe, flags)
    if known is None:
        raise click.UsageError("Missing argument 'RECIPE', or --model FILE.py:Class.")
    chosen = changed(known, flags)
    own.imported(chosen)
    data = recipes.load_data(chosen)
    chosen, _ = own.ready(chosen, data)
    model, transform = recipes.build_model(chosen), recipes.build_transform(chosen)
    first = np.arange(min(chosen.batch_size, len(data.train)))
    example = transform(data.train.gather(first)[0])
    click.echo(nnx.tabulate(model, example, console_kwargs={"width": 110}))
