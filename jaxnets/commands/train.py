"""The commands that train and show a recipe's network."""

import contextlib
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
from jaxnets.commands import monitoring
from jaxnets.commands.flags import PathArgument, changed, network_flags, recipe_flags
from jaxnets.data import Dataset
from jaxnets.models import LanguageModel
from jaxnets.training import TrainingRun
from jaxnets.training.processes import joined, launched


@click.command("train")
@click.argument("recipe", required=False)
@recipe_flags
@click.option("--seed", type=int, help="Seeds everything random.  [default: 0]")
@click.option("--out", type=PathArgument(), help="A new folder for record, curves and weights.")
@click.option(
    "--save-every", type=int, metavar="STEPS", help="Save into --out every so many steps as well."
)
@click.option("--save-minutes", type=float, help="Save into --out every so many minutes as well.")
@click.option("--keep", type=int, help="How many of the newest checkpoints to keep.  [default: 3]")
@click.option(
    "--resume", type=PathArgument(), metavar="DIR", help="Go on with the run that saved into DIR."
)
@click.option(
    "--devices", type=int, help="How many devices share each batch, those of all processes."
)
@click.option(
    "--parallel",
    type=click.Choice(["shard_map", "pmap"]),
    default="shard_map",
    show_default=True,
    help="How they do so.",
)
@monitoring.watching_flags
@click.option(
    "--coordinator",
    metavar="HOST:PORT",
    help="Where process 0 of several is; 'auto' asks JAX, which knows several launchers.",
)
@click.option("--processes", type=int, metavar="N", help="How many processes train together.")
@click.option("--process-id", type=int, metavar="I", help="Which of them this is, from 0.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the result as one JSON object, and no more."
)
@click.option("--quiet", "-q", is_flag=True, help="Print the result alone.")
def train_command(
    recipe: str | None,
    seed: int | None,
    out: Path | None,
    resume: Path | None,
    as_json: bool,
    quiet: bool,
    devices: int | None,
    parallel: str,
    coordinator: str | None,
    processes: int | None,
    process_id: int | None,
    save_every: int | None,
    save_minutes: float | None,
    keep: int | None,
    **flags: Any,
) -> None:
    """Train the network of RECIPE and test it on every test example.

    With --save-every or --save-minutes the run can be killed at any moment: --resume goes on with
    it, and ends as if nothing had happened. Ctrl-C and SIGTERM then save first.

    Several processes, on one machine or on many, train together if each is told where process 0
    is, how many there are and which it is. Started by SLURM, Open MPI or as a Cloud TPU pod they
    know. Process 0 alone speaks and writes.

    With --json the progress goes to standard error, so that standard output is the result alone.
    """
    saving = {"steps": save_every, "minutes": save_minutes, "keep": keep}
    saving = {name: value for name, value in saving.items() if value is not None}
    watching = monitoring.take(flags)
    _check_flags(recipe, out, resume, saving)
    monitoring.check_apart(watching, None if saving else out)
    if devices is not None and devices > 0:
        with contextlib.suppress(RuntimeError):  # of a process in which JAX runs already
            own = devices // max(1, processes or 1)
            jax.config.update("jax_num_cpu_devices", max(1, own))
    begun = None if resume is None else runs.resume(resume)
    named = recipes.recipe(recipe) if recipe is not None else begun.recipe  # type: ignore[union-attr]
    chosen = changed(named, flags)
    seed = seed if seed is not None else 0 if begun is None else begun.seed
    watching = watching if begun is None else {**begun.watching, **watching}
    options: dict[str, Any] = {
        "devices": devices,
        "parallel": parallel,
        "progress": "none" if quiet else "auto",
    }
    with _together(coordinator, processes, process_id):
        progress = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
        with progress:
            data = recipes.load_data(chosen)
            chosen = recipes.sized(chosen, data)
            options |= monitoring.fit_options(watching, data)
            if begun is not None:
                begun = runs.go_on(begun, chosen, seed)
            elif saving and out is not None:
                begun = runs.begin(out, chosen, seed, monitoring.kept(watching), **saving)
            if begun is None:
                run = _run(chosen, seed, data, out, options)
            else:
                options |= {"save": begun.saving, "resume": resume is not None}
                run = recipes.train(chosen, seed=seed, data=data, **options)
                runs.finish(begun.directory, chosen, seed, run, data)
        if jax.process_index() == 0:
            rmse = recipes.error_in_units(chosen, run, data)
            record = {**runs.summarize(chosen, seed, run), "test_rmse": rmse}
            click.echo(json.dumps(record) if as_json else _result(run, rmse))


def _together(
    coordinator: str | None, count: int | None, process_id: int | None
) -> contextlib.AbstractContextManager[None]:
    """Joins other processes, where flags or a launcher say that there are some."""
    told = [flag is not None for flag in (coordinator, count, process_id)]
    if all(told):
        return joined(coordinator, count, process_id)
    if coordinator == "auto" or (not any(told) and launched(os.environ)):
        return joined()
    if any(told):
        raise click.UsageError("--coordinator, --processes and --process-id come together.")
    return contextlib.nullcontext()


def _run(
    recipe: recipes.Recipe, seed: int, data: Dataset, out: Path | None, options: dict[str, Any]
) -> TrainingRun:
    """A run that saves nothing before its end."""
    writes = out is not None and jax.process_index() == 0
    with runs.new_folder(out) if writes else contextlib.nullcontext() as folder:  # type: ignore[arg-type]
        runs.settings(recipe)
        run = recipes.train(recipe, seed=seed, data=data, **options)
        if out is not None:
            runs.write(folder or out, recipe, seed, run, data)
    return run


def _check_flags(
    recipe: str | None, out: Path | None, resume: Path | None, saving: dict[str, Any]
) -> None:
    if recipe is None and resume is None:
        raise click.UsageError("Missing argument 'RECIPE'.")
    if resume is not None and (out is not None or saving):
        raise click.UsageError("--resume goes on in its own folder, and saves as often as before.")
    if saving and out is None:
        raise click.UsageError("--save-every, --save-minutes and --keep need --out.")
    if saving.keys() == {"keep"}:
        raise click.UsageError("--keep needs --save-every or --save-minutes.")


def _result(run: TrainingRun, rmse: float | None) -> str:
    if run.test.accuracy is None:
        units = "" if rmse is None else f", off by {rmse:.6g} in the data's units"
        return f"test loss: {run.test.loss:.6g}{units}"
    if isinstance(run.model, LanguageModel):
        return f"test loss: {run.test.loss:.4f} nats a token, accuracy: {run.test.accuracy:.2%}"
    return f"test accuracy: {run.test.accuracy:.2%} ({run.test.correct}/{run.test.total})"


@click.command("recipes")
def recipes_command() -> None:
    """List the recipes: what they reproduce and what to expect."""
    for entry in recipes.RECIPES.values():
        click.echo(f"{entry.name}\n  document {entry.document}\n  expect {entry.expect}\n")


@click.command("summary")
@click.argument("recipe")
@network_flags
def summary_command(recipe: str, **flags: Any) -> None:
    """Show the layers of RECIPE's network with their shapes and parameters."""
    chosen = changed(recipes.recipe(recipe), flags)
    transform = recipes.build_transform(chosen)
    data = recipes.load_data(chosen)
    model = recipes.build_model(recipes.sized(chosen, data))
    first = np.arange(min(chosen.batch_size, len(data.train)))
    example = transform(data.train.gather(first)[0])
    click.echo(nnx.tabulate(model, example, console_kwargs={"width": 110}))
