"""The training steps that a recipe can name: what training minimizes, and in which steps."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxnets.training import minimize, supervised

#: Arguments of ``fit`` that belong to an objective, and those that belong to an update.
OF_OBJECTIVE = ("loss", "transform", "augment", "compute_dtype")
OF_UPDATE = ("optimizer", "accumulate", "non_finite", "wrt")

#: A function that builds a step from the options of its objective and those of its update.
Builder = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]


def _supervised(objective: Mapping[str, Any], update: Mapping[str, Any]) -> Any:
    return minimize(supervised(**objective), **update)


OBJECTIVES: dict[str, Builder] = {"supervised": _supervised}
"""The training steps by the name that a recipe has as its ``objective``.

Each is a function (options of the objective, options of the update) → step. The options are
arguments of ``supervised`` and of ``minimize``.
"""
