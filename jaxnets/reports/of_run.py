"""Makes the report of a saved run."""

import dataclasses
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

import jax
import numpy as np

from jaxnets.arrays import InputError, check_choice, check_positive
from jaxnets.data import Dataset
from jaxnets.losses import LOSSES
from jaxnets.networks import OwnNetwork
from jaxnets.pages.wording import listed
from jaxnets.recipes import OPTIONS, Recipe, learning_rate
from jaxnets.reports.data import data_of
from jaxnets.reports.report import WHICH, Report, evaluated, part
from jaxnets.runs import SavedRun
from jaxnets.training.records import Task

_AN_EPOCH = 100  # number of points of a curve in an epoch
_LONGEST = 200  # characters of the description of a change
#: Fields of a recipe that are omitted, or included with other fields.
_LEFT_OUT = {"name", "document", "expect", *OPTIONS}


def of_run(
    saved: SavedRun,
    data: Dataset | None = None,
    split: Literal["test", "train", "all"] = "test",
    *,
    bins: int = 15,
    record: Mapping[str, Any] | None = None,
    command: str | None = None,
) -> Report:
    """Evaluates a saved run like ``report``, and adds its loss, training curves and settings.

    Args:
        saved: the run, from ``jaxnets.load``.
        data: the data set, from ``data_of``; None for the data the run was trained on.
        split: see ``report``.
        bins: see ``report``.
        record: the content of the run's ``run.json``, with seed, versions and machine; None
            without it.
        command: the command line that makes the report again; None if there is none.

    Raises:
        ValueError: see ``report`` and ``data_of``.
    """
    if not isinstance(saved, SavedRun):
        raise InputError("saved", "a run from jaxnets.load", saved)
    check_choice("split", split, WHICH)
    check_positive("bins", bins)
    if record is not None and not isinstance(record, Mapping):
        raise InputError("record", "the content of run.json, a dict, or None", record)
    if command is not None and not isinstance(command, str):
        raise InputError("command", "a string or None", command)
    examples = None
    if data is None:
        data = data_of(saved)
        examples = len(data.train)
    if not isinstance(data, Dataset):
        raise InputError("data", "a Dataset or None", data)
    recipe, record = saved.recipe, record or {}
    name = type(saved.model).__name__ if recipe is None else recipe.name
    loss = None if recipe is None else LOSSES[recipe.loss]
    chosen = part(data, split)
    made = evaluated(saved.model, chosen, _task(saved), loss, None, bins, (name, data, split))
    return dataclasses.replace(
        made,
        history=saved.history,
        rates=None if recipe is None else _rates(recipe, len(saved.history), examples),
        settings=_settings(saved, record),
        versions=record.get("versions") or {},
        machine=record.get("machine") or {},
        command=command,
    )


def _task(saved: SavedRun) -> Task:
    """Returns the kind of data of a run."""
    names = {field.name for field in fields(Task)}
    return Task(**{name: getattr(saved, name) for name in names})


def _rates(recipe: Recipe, epochs: int, examples: int | None) -> np.ndarray | None:
    """Computes the learning rate over the epochs, [2, points]; None if it cannot be computed.

    Without the number of examples, an epoch is assumed to have as many steps as the curve has
    points; this is not possible for a schedule with a fixed number of steps.
    """
    if examples is None:
        if "total_steps" in recipe.scheduler_options:
            return None
        examples = _AN_EPOCH * recipe.batch_size
    rate, steps = learning_rate(recipe, examples), -(-examples // recipe.batch_size)
    if rate is None or not epochs:
        return None
    counts = np.unique(np.linspace(0, epochs * steps - 1, _AN_EPOCH * epochs).astype(np.int32))
    rates = np.full(len(counts), rate) if not callable(rate) else jax.jit(jax.vmap(rate))(counts)
    ends = np.array([[epochs], [rates[-1]]], np.float64)  # the end of the last step
    return np.append(np.array([counts / steps, np.asarray(rates)], np.float64), ends, axis=1)


def _settings(saved: SavedRun, record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the training settings of a run by name, as far as they are recorded."""
    recipe = saved.recipe
    about: dict[str, Any] = {"network": type(saved.model).__name__}
    if recipe is not None:
        values: dict[str, Any] = {each.name: getattr(recipe, each.name) for each in fields(recipe)}
        if isinstance(recipe.model, OwnNetwork):
            values["model"] = recipe.model.target
        about |= {"recipe": recipe.name, "document": recipe.document}
        for name, value in values.items():
            if name in _LEFT_OUT or value is None or value == ():
                continue
            options = values.get(f"{name}_options")
            about[name] = {str(value): options} if options else value
    kept = {name: record.get(name) for name in ("seed", "device", "train_seconds")}
    about |= {name: value for name, value in kept.items() if value is not None}
    if saved.restored is not None:
        about["weights of epoch"] = saved.restored
    if saved.changes:
        about["changes"] = [_cut(f"{each.name} {listed(each.settings)}") for each in saved.changes]
    return about


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
