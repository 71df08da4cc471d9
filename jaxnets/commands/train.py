"""The commands that train and show a recipe's network."""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
from flax import nnx

from jaxnets import recipes, runs
from jaxnets.commands.flags import PathArgument, changed, network_flags, recipe_flags
from jaxnets.models import LanguageModel
from jaxnets.training import TrainingRun


@click.command("train")
@click.argument("recipe")
@recipe_flags
@click.option("--seed", type=int, default=0, show_default=True, help="Seeds everything random.")
@click.option("--out", type=PathArgument(), help="A new folder for record, curves and weights.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the result as one JSON object, and no more."
)
@click.option("--quiet", "-q", is_flag=True, help="Print the result alone.")
def train_command(
    recipe: str, seed: int, out: Path | None, as_json: bool, quiet: bool, **flags: Any
) -> None:
    """Train the network of RECIPE and test it on every test example.

    With --json the progress goes to standard error, so that standard output is the result alone.
    """
    chosen = changed(recipes.recipe(recipe), flags)
    progress = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
    with progress, contextlib.nullcontext() if out is None else runs.new_folder(out) as folder:
        runs.settings(chosen)
        data = recipes.load_data(chosen)
        chosen = recipes.sized(chosen, data)
        run = recipes.train(chosen, seed=seed, data=data, progress="none" if quiet else "auto")
        if folder is not None:
            runs.write(folder, chosen, seed, run, data)
    rmse = recipes.error_in_units(chosen, run, data)
    if as_json:
        click.echo(json.dumps({**runs.summarize(chosen, seed, run), "test_rmse": rmse}))
    else:
        click.echo(_result(run, rmse))


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
