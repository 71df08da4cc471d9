"""The training steps that a recipe can name: what training minimizes, and in which steps."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxnets.arrays import InputError
from jaxnets.models.seq2seq import teacher_forcing
from jaxnets.training import minimize, supervised

#: Arguments of ``fit`` that belong to an objective, and those that belong to an update.
OF_OBJECTIVE = ("loss", "transform", "augment", "compute_dtype")
OF_UPDATE = ("optimizer", "accumulate", "non_finite", "wrt")

#: A function that builds a step from the options of its objective and those of its update.
Builder = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]


def _supervised(objective: Mapping[str, Any], update: Mapping[str, Any]) -> Any:
    return minimize(supervised(**objective), **update)


def _teacher_forcing(objective: Mapping[str, Any], update: Mapping[str, Any]) -> Any:
    if objective.get("compute_dtype") is not None:
        expected = "None, with the objective teacher-forcing"
        raise InputError("compute_dtype", expected, objective["compute_dtype"])
    return minimize(teacher_forcing, **update)


OBJECTIVES: dict[str, Builder] = {
    "supervised": _supervised,
    "teacher-forcing": _teacher_forcing,
}
"""The training steps by the name that a recipe has as its ``objective``.

Each is a function (options of the objective, options of the update) → step. The options are
arguments of ``supervised`` and of ``minimize``.
"""
