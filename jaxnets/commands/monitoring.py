"""The flags for logging, early stopping and steps that are not finite."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import click

from jaxnets.arrays import InputError, check_choice, check_positive
from jaxnets.commands.flags import PathArgument, added
from jaxnets.data import Dataset
from jaxnets.data.survey import is_image
from jaxnets.training import Callback, EarlyStopping
from jaxnets.training.minimize import NonFinite
from jaxnets.training.monitoring import JsonLines, Profile, TensorBoard
from jaxnets.training.records import Metric

_IMAGES = 16
_FLAGS = (
    click.option(
        "--tensorboard", type=PathArgument(), metavar="DIR", help="Write TensorBoard events."
    ),
    click.option(
        "--jsonl", type=PathArgument(), metavar="FILE", help="Write a line of JSON for each epoch."
    ),
    click.option(
        "--log-every",
        type=int,
        metavar="STEPS",
        help="With --jsonl and --tensorboard: also write every STEPS training steps.",
    ),
    click.option(
        "--early-stopping",
        type=int,
        metavar="PATIENCE",
        help="Stop after PATIENCE epochs without improvement of --metric.",
    ),
    click.option(
        "--restore-best/--no-restore-best",
        default=None,
        help="Return the weights of the best epoch instead of those of the last one.",
    ),
    click.option(
        "--metric",
        metavar="NAME",
        help="The metric that defines the best epoch, for early stopping, --restore-best and "
        "--keep, such as test_accuracy.  [default: test_loss]",
    ),
    click.option(
        "--non-finite",
        type=click.Choice(get_args(NonFinite)),
        help="At a step whose loss or gradient is not finite: stop, or skip the step.  [default: "
        "stop]",
    ),
    click.option(
        "--profile",
        type=PathArgument(),
        metavar="DIR",
        help="Write a profile of some steps into DIR.",
    ),
)
_STOPPING = ("early_stopping", "restore_best", "metric")
_KEPT = ("tensorboard", "jsonl", "log_every", *_STOPPING, "non_finite")
_PATHS = ("tensorboard", "jsonl", "profile")


def monitoring_flags(command: Any) -> Any:
    """Adds the flags."""
    return added(_FLAGS, command)


def take(flags: dict[str, Any]) -> dict[str, Any]:
    """Removes this module's flags from ``flags``, and returns those given, with paths as text."""
    given = {name: flags.pop(name) for name in (*_KEPT, "profile")}
    given |= {name: str(given[name].absolute()) for name in _PATHS if given[name] is not None}
    return {name: value for name, value in given.items() if value is not None}


def kept(watching: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings that a resumed run uses again."""
    return {name: watching[name] for name in _KEPT if name in watching}


def check(watching: Mapping[str, Any]) -> None:
    """Checks the monitoring settings in the record of a run.

    Raises:
        ValueError: if a value is invalid.
    """
    for name in ("log_every", "early_stopping"):
        if name in watching:
            check_positive(name, watching[name])
    for name in ("tensorboard", "jsonl"):
        if not isinstance(watching.get(name, ""), str):
            raise InputError(name, "a path", watching[name])
    check_choice("non_finite", watching.get("non_finite", "stop"), get_args(NonFinite))


def check_apart(watching: dict[str, Any], out: Path | None) -> None:
    """Checks that no log is written into --out, which is created when the run ends.

    Raises:
        UsageError: naming the flag.
    """
    if out is None:
        return
    for name in _PATHS:
        if name in watching and Path(watching[name]).resolve().is_relative_to(out.resolve()):
            late = "which is only created when the run ends, unless it saves (--save-every)"
            raise click.UsageError(f"--{name} is inside --out, {late}.")


def fit_options(watching: dict[str, Any], data: Dataset) -> dict[str, Any]:
    """Returns the arguments of ``fit``.

    Raises:
        ValueError: if a number is not positive.
    """
    callbacks: list[Callback] = []
    every = watching.get("log_every")
    if "tensorboard" in watching:
        images = _IMAGES if is_image(data.spec.inputs) else 0
        board = TensorBoard(watching["tensorboard"], every=every or 100, images=images)
        callbacks.append(board)
    if "jsonl" in watching:
        callbacks.append(JsonLines(watching["jsonl"], every=every))
    if "profile" in watching:
        callbacks.append(Profile(watching["profile"]))
    if any(name in watching for name in _STOPPING):
        callbacks.append(_early_stopping(*(watching.get(name) for name in _STOPPING)))
    return {"callbacks": callbacks, "non_finite": watching.get("non_finite", "stop")}


def _early_stopping(
    patience: int | None, restore_best: bool | None, metric: Metric | None
) -> EarlyStopping:
    best: Any = {"restore_best": restore_best, "metric": metric}
    return EarlyStopping(patience, **{k: v for k, v in best.items() if v is not None})
