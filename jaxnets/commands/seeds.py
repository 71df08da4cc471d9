"""Training from many seeds at once: flags, table and folder."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from jaxnets import recipes, runs
from jaxnets.arrays import shown
from jaxnets.commands import own
from jaxnets.commands.flags import added
from jaxnets.commands.predict import saved_in
from jaxnets.disk import new_folder
from jaxnets.recipes import Recipe
from jaxnets.training import MemberRun, Summary, TrainingRuns

_RECORD = "runs.json"
_ALSO = {"accumulate", "compute_dtype", "non_finite"}


class Numbers(click.ParamType):
    """Comma-separated numbers.

    Args:
        name: the metavariable in the help.
        kind: a function from a word to a number.
    """

    def __init__(self, name: str, kind: Callable[[str], float]) -> None:
        self.name, self._kind = name, kind

    def convert(self, value: Any, param: Any, ctx: Any) -> list[float]:
        """Returns the numbers."""
        try:
            return [self._kind(word) for word in value.split(",")]
        except ValueError:
            self.fail(f"expected {self.name}, got {shown(value)}", param, ctx)


_FLAGS = (
    click.option(
        "--seeds",
        type=Numbers("N or S,S,…", int),
        help="Train from N seeds at once, counted from 0, or from the given seeds.",
    ),
    click.option(
        "--learning-rates",
        type=Numbers("LR,LR,…", float),
        help="Train with each of these learning rates at once, for each seed.",
    ),
)


@dataclasses.dataclass(frozen=True)
class Many:
    """The seeds and learning rates of runs that train at once.

    Attributes:
        seeds: the number of seeds, or the seeds.
        rates: learning rates; None for the recipe's.
    """

    seeds: int | list[int]
    rates: list[float] | None


def seeds_flags(command: Any) -> Any:
    """Adds the flags."""
    return added(_FLAGS, command)


def take(flags: dict[str, Any], seed: int | None) -> Many | None:
    """Removes this module's flags from ``flags``.

    Returns:
        The seeds and learning rates; None if neither flag was given.

    Raises:
        UsageError: if a flag contradicts another.
    """
    given, rates = flags.pop("seeds"), flags.pop("learning_rates")
    if given is None and rates is None:
        return None
    if given is not None and seed is not None:
        raise click.UsageError("--seed cannot be used with --seeds.")
    if rates is not None and flags["lr"] is not None:
        raise click.UsageError("--lr cannot be used with --learning-rates.")
    if given is None:
        return Many([seed or 0], rates)
    return Many(given[0] if len(given) == 1 else given, rates)


def check_alone(others: Mapping[str, Any]) -> None:
    """Checks that no other flag excludes training many runs at once.

    Raises:
        UsageError: if one does.
    """
    for name, value in others.items():
        if value is not None and name not in _ALSO and (name, value) != ("devices", 1):
            flag = name.replace("_", "-")
            raise click.UsageError(f"--{flag} cannot be used with --seeds or --learning-rates.")


def train(
    many: Many,
    recipe: Recipe,
    others: Mapping[str, Any],
    out: Path | None,
    *,
    pretrained: own.Pretrained | None = None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Trains all runs at once, writes them into a folder, and prints a table.

    Args:
        many: the seeds and learning rates.
        recipe: the recipe of all runs.
        others: the other flags, checked by ``check_alone``.
        out: the new folder; None to write nothing.
        pretrained: the weights that all runs start from; None for random weights.
        as_json: whether to print the record instead of the table.
        quiet: whether to print no progress.

    Raises:
        ValueError: see ``fit``.
    """
    options = {name: value for name, value in others.items() if name in _ALSO}
    options |= {"progress": "none" if quiet else "auto"}
    with contextlib.ExitStack() as stack:
        if as_json:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        folder = None if out is None else stack.enter_context(new_folder(out))
        own.imported(recipe)
        data = recipes.load_data(recipe)
        recipe, options["weights"] = own.ready(recipe, data, pretrained)
        runs.settings(recipe)
        made = recipes.train_many(
            recipe, seeds=many.seeds, learning_rates=many.rates, data=data, **options
        )
        record = described(recipe, made)
        if folder is not None:
            _write(folder, recipe, made, data, record)
    click.echo(json.dumps(record) if as_json else table(made))
    sound = [member for member in made.members if member.diverged is None]
    if out is not None and not as_json and not quiet:
        click.echo(saved_in(out, out / _name(sound[0]), sound[0].model))


def described(recipe: Recipe, made: TrainingRuns) -> dict[str, Any]:
    """Returns the record of many runs, ready for JSON.

    It contains each run, and the summary for each learning rate.
    """
    return {
        "recipe": recipe.name,
        "epochs": recipe.epochs,
        "members": [_member(member) for member in made.members],
        "summary": [
            {"learning_rate": rate, "accuracy": _plain(some.accuracy), "loss": _plain(some.loss)}
            for rate, some in made.by_learning_rate.items()
        ],
        "train_seconds": made.timings.train_seconds,
        "compile_seconds": made.timings.compile_seconds,
        "examples_per_second": made.examples_per_second,
        "device": made.device,
    }


def table(made: TrainingRuns) -> str:
    """Returns a line for each run, and one with the mean for each learning rate."""
    lines = []
    for rate, some in made.by_learning_rate.items():
        lines += [] if rate is None else [f"learning rate {rate:g}"]
        lines += [f"seed {member.seed:<6} {_result(member)}" for member in some.members]
        if some.accuracy is not None:
            lines.append(f"accuracy    {some.accuracy.in_words('.2%')}")
        elif some.loss is not None:
            lines.append(f"test loss   {some.loss.in_words('.6g')}")
    return "\n".join(lines)


def _result(member: MemberRun) -> str:
    if (error := member.diverged) is not None:
        where = "the test" if error.step is None else f"step {error.step}"
        return f"diverged at epoch {error.epoch}, {where}"
    loss = f"test loss {member.test.loss:.6g}"
    if member.test.accuracy is None:
        return loss
    return f"test accuracy {member.test.accuracy:.2%}  {loss}"


def _member(member: MemberRun) -> dict[str, Any]:
    sound = member.diverged is None
    return {
        "seed": member.seed,
        "learning_rate": member.learning_rate,
        "test_accuracy": member.test.accuracy if sound else None,
        "test_loss": member.test.loss if sound else None,
        "diverged": None if sound else str(member.diverged),
    }


def _plain(summary: Summary | None) -> dict[str, Any] | None:
    return None if summary is None else dataclasses.asdict(summary)


def _write(
    folder: Path, recipe: Recipe, made: TrainingRuns, data: Any, record: dict[str, Any]
) -> None:
    """Writes the record, and a run directory for each run that has not diverged."""
    (folder / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for member in made.members:
        if member.diverged is not None:
            continue
        its, name = recipe, _name(member)
        if member.learning_rate is not None:
            options = {**recipe.optimizer_options, "lr": member.learning_rate}
            its = dataclasses.replace(recipe, optimizer_options=options)
        (folder / name).mkdir()
        runs.write(folder / name, its, member.seed, member, data)


def parts(folder: Path) -> list[Path]:
    """Returns the run directories in a folder that ``train`` wrote, or the folder itself."""
    if not (folder / _RECORD).is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob("*/run.json"))


def _name(member: MemberRun) -> str:
    """Returns the name of a run's folder."""
    rate = member.learning_rate
    return f"seed-{member.seed}" if rate is None else f"lr-{rate!r}-seed-{member.seed}"
