"""The command ``combine``: combines several trained networks into one."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from flax import nnx

from jaxnets import runs
from jaxnets.arrays import InputError
from jaxnets.averaging import greedy_soup, soup
from jaxnets.changes import Change
from jaxnets.commands import seeds
from jaxnets.commands.flags import PathArgument
from jaxnets.commands.saved import data_of, opened
from jaxnets.data import Dataset
from jaxnets.data.dataset import AnySplit, in_memory
from jaxnets.ensembles import Ensemble, How
from jaxnets.losses import LOSSES
from jaxnets.training import Evaluation, Summary, checkpoints, evaluate

_HOW = ("mean", "vote", "soup", "greedy-soup")
#: Losses of logits or log-probabilities. With these, an ensemble averages probabilities; with other
#: losses it averages the outputs.
_OF_CLASSES = ("cross-entropy", "negative-log-likelihood")


class _Member(NamedTuple):
    """One network to combine, from a run or from one of its checkpoints."""

    name: str
    folder: Path
    saved: runs.SavedRun
    model: nnx.Module


@click.command("combine")
@click.argument("run", type=PathArgument(), nargs=-1, required=True)
@click.option(
    "--how",
    type=click.Choice(_HOW),
    default="mean",
    show_default=True,
    help="mean: an ensemble that averages the probabilities; vote: an ensemble that takes the "
    "majority vote; soup: one network with the mean of the weights; greedy-soup: a soup to which "
    "a network is added only if the result is no worse.",
)
@click.option(
    "--checkpoints",
    "of_checkpoints",
    is_flag=True,
    help="Combine all saved checkpoints of the runs (train --save-every, --keep).",
)
@click.option("--out", type=PathArgument(), help="The new run directory for the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
def combine_command(
    run: tuple[Path, ...], how: str, of_checkpoints: bool, out: Path | None, as_json: bool
) -> None:
    """Combine several trained networks into one, and test all of them.

    Each RUN is a run directory, or the folder that jaxnets train --seeds writes. All runs must have
    been trained on the same data. An ensemble may combine different networks. A soup needs networks
    of one architecture that were trained from the same initial weights.

    greedy-soup selects on every other test example, and is tested on the remaining ones.
    """
    members = _members(run, of_checkpoints)
    split, chooses = _parts(_data(members), how)
    tests = [_tested(member.saved, member.model, split) for member in members]
    made, what = _combined(members, how, chooses)
    if isinstance(made, Ensemble):
        test = evaluate(made, split, loss=_loss(members[0].saved))
    else:
        test = _tested(members[0].saved, made, split)
    if out is not None:
        _write(out, members, made, test, how)
    if as_json:
        click.echo(json.dumps(_record(members, tests, test, what)))
        return
    for line in _table(members, tests, test, what):
        click.echo(line)
    if out is not None:
        click.echo(f"saved in {out}")


def _members(folders: Sequence[Path], of_checkpoints: bool) -> list[_Member]:
    """Returns the networks in the run directories, or those of all their checkpoints."""
    found = []
    for folder in (part for whole in folders for part in seeds.parts(whole)):
        saved = opened(folder)
        if not of_checkpoints:
            found.append(_Member(str(folder), folder, saved, saved.model))
            continue
        kept = folder / runs.CHECKPOINTS
        for step in checkpoints.steps(kept):
            checkpoint = checkpoints.read(kept, step)
            if checkpoint is not None:
                name = f"{folder} step {step}"
                found.append(_Member(name, folder, saved, checkpoint.model(saved.model)))
    if len(found) < 2:
        what = "checkpoints" if of_checkpoints else "runs"
        raise InputError("run", f"two {what} or more", str(len(found)))
    return found


def _data(members: Sequence[_Member]) -> Dataset:
    """Loads the data set that all runs were trained on.

    Raises:
        InputError: if the runs were trained on different data.
    """
    data = data_of(members[0].saved, "run")
    first = _named(members[0].saved)
    for member in members[1:]:
        if _named(member.saved) != first:
            other = member.saved.recipe and member.saved.recipe.data
            raise InputError(
                "run", f"runs on the same data, {first[0]}", f"{member.name} on {other}"
            )
    return data


def _named(saved: runs.SavedRun) -> Any:
    recipe = saved.recipe
    return None if recipe is None else (recipe.data, dict(recipe.data_options))


def _parts(data: Dataset, how: str) -> tuple[AnySplit, AnySplit | None]:
    """Returns the examples to test on and, for a greedy soup, those to select on."""
    if how != "greedy-soup":
        return data.test, None
    test = in_memory(data.test)
    return test.chosen(np.arange(1, len(test), 2)), test.chosen(np.arange(0, len(test), 2))


def _loss(saved: runs.SavedRun) -> Any:
    assert saved.recipe is not None  # checked by data_of
    return LOSSES[saved.recipe.loss]


def _tested(saved: runs.SavedRun, model: nnx.Module, split: AnySplit) -> Evaluation:
    return evaluate(model, split, loss=_loss(saved), transform=saved.transform)


def _combined(
    members: Sequence[_Member], how: str, chooses: AnySplit | None
) -> tuple[nnx.Module, str]:
    """Returns the combined network and its name in the table."""
    models, saved = [member.model for member in members], members[0].saved
    if how == "soup":
        return soup(models), "soup"
    if chooses is not None:
        found = greedy_soup(models, lambda model: _score(_tested(saved, model, chooses)))
        return found.model, f"greedy soup of {len(found.chosen)}"
    if how == "vote" and not saved.classifies:
        raise InputError("how", "mean or soup, as the runs have no classes", how)
    recipe = saved.recipe
    assert recipe is not None
    of_mean: How = "probabilities" if recipe.loss in _OF_CLASSES else "outputs"
    chosen: How = "votes" if how == "vote" else of_mean
    transforms = [member.saved.transform for member in members]
    name = "votes" if how == "vote" else f"mean of {of_mean}"
    return Ensemble(models, chosen, transforms=transforms), f"ensemble ({name})"


def _score(test: Evaluation) -> float:
    return -test.loss if test.accuracy is None else test.accuracy


def _write(
    out: Path, members: Sequence[_Member], made: nnx.Module, test: Evaluation, how: str
) -> None:
    """Writes the result as a run directory.

    Raises:
        InputError: if an ensemble has different networks, which a run directory cannot store.
    """
    change = Change(how, {})
    if isinstance(made, Ensemble):
        kinds = {(_kind(member.model), member.saved.transform) for member in members}
        if len(kinds) > 1:
            expected = "none, as the networks have different structures or different inputs"
            raise InputError("out", expected, str(out))
        made = Ensemble([member.model for member in members], made.how)
        change = Change("ensemble", {"count": len(members), "how": made.how})
    runs.write_changed(out, members[0].folder, made, change, test)


def _kind(model: nnx.Module) -> Any:
    """Returns a value that is equal for two networks that can load each other's weights."""
    state = nnx.to_flat_state(nnx.state(model, nnx.Not(nnx.RngState)))
    return type(model), tuple((path, leaf.shape, leaf.dtype) for path, leaf in state)


def _record(
    members: Sequence[_Member], tests: Sequence[Evaluation], test: Evaluation, made: str
) -> dict[str, Any]:
    """Returns the content of the table, ready for JSON."""
    singles = [
        {"run": member.name, "test_accuracy": one.accuracy, "test_loss": one.loss}
        for member, one in zip(members, tests, strict=True)
    ]
    together = {"test_accuracy": test.accuracy, "test_loss": test.loss, "examples": test.total}
    return {"made": made, "runs": singles, **together}


def _table(
    members: Sequence[_Member], tests: Sequence[Evaluation], test: Evaluation, made: str
) -> list[str]:
    """Returns a line for each network, one for their mean and one for the combined network."""
    values = [one.loss if test.accuracy is None else one.accuracy for one in tests]
    name, form = ("test loss", ".6g") if test.accuracy is None else ("test accuracy", ".2%")
    mean = Summary.of(values)
    assert mean is not None
    spread = "" if mean.std is None else f" ± {mean.std:{form}}"
    result = test.loss if test.accuracy is None else test.accuracy
    rows = [(member.name, f"{value:{form}}") for member, value in zip(members, values, strict=True)]
    rows += [("mean", f"{mean.mean:{form}}{spread}"), (made, f"{result:{form}}")]
    width = max(len(label) for label, _ in rows)
    return [f"{label:{width}}  {name} {value}" for label, value in rows]
