"""The command ``lr-find``: suggests a learning rate."""

import json
from pathlib import Path
from typing import Any

import click

from jaxnets import recipes
from jaxnets.arrays import InputError
from jaxnets.commands import own
from jaxnets.commands.flags import PathArgument, changed, complete_recipe, named, recipe_flags
from jaxnets.search import LRRangeTest, lr_range_test


@click.command("lr-find")
@click.argument("recipe", required=False, shell_complete=complete_recipe)
@recipe_flags
@click.option(
    "--start", type=float, default=1e-6, show_default=True, help="Learning rate of the first step."
)
@click.option(
    "--end", type=float, default=10.0, show_default=True, help="Learning rate of the last step."
)
@click.option("--steps", type=int, default=200, show_default=True, help="Number of steps.")
@click.option(
    "--beta", type=float, default=0.9, show_default=True, help="Decay of the smoothed loss."
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of weights, order and dropout."
)
@click.option(
    "--out",
    type=PathArgument(),
    metavar="FILE.png",
    help="File for a plot of loss against learning rate.  [default: lr-find.png]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def lr_find_command(
    recipe: str | None,
    start: float,
    end: float,
    steps: int,
    beta: float,
    seed: int,
    out: Path | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Suggest a learning rate for RECIPE, or for --model FILE.py:Class, by a range test.

    The network trains with a learning rate that grows exponentially from --start to --end, until
    the loss diverges. The suggestion is the rate at which the smoothed loss falls fastest.
    """
    known = named(recipe, flags)
    if known is None:
        raise click.UsageError("Missing argument 'RECIPE', or --model FILE.py:Class.")
    chosen = changed(known, flags)
    if out is None and not as_json:
        out = Path("lr-find.png")
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise InputError("out", "a file in a folder that exists", repr(str(out)))
    own.imported(chosen)
    data = recipes.load_data(chosen)
    chosen, weights = own.ready(chosen, data)
    given: dict[str, Any] = {"start": start, "end": end, "steps": steps, "beta": beta}
    found = lr_range_test(chosen, data=data, seed=seed, weights=weights, **given)
    if out is not None:
        found.plot(out, title=f"{chosen.name}: learning-rate range test")
    click.echo(json.dumps(_record(found)) if as_json else _text(found, out))


def _record(found: LRRangeTest) -> dict[str, Any]:
    arrays = {name: getattr(found, name).tolist() for name in ("rates", "losses", "smoothed")}
    return {"suggestion": found.suggestion, "diverged": found.diverged, **arrays}


def _text(found: LRRangeTest, out: Path | None) -> str:
    if found.suggestion is None:
        suggestion = "no suggestion: the loss never falls; try a lower --start or more --steps"
    else:
        suggestion = f"suggested learning rate: {found.suggestion:.2g}"
    ended = ", where the loss diverges" if found.diverged else ""
    tried = f"{len(found.rates)} steps from {found.rates[0]:.2g} to {found.rates[-1]:.2g}{ended}"
    return f"{suggestion}\n{tried}; plotted in {out}"
