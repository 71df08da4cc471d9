"""The training steps that a recipe can name: what training minimizes, and in which steps."""

from collections.abc import Mapping
from typing import Any

from jaxnets.recipes import control, ratings, speech, transformers
from jaxnets.recipes.recipe import Builder
from jaxnets.training import minimize, supervised

#: Arguments of ``fit`` that belong to an objective, and those that belong to an update.
OF_OBJECTIVE = ("loss", "transform", "augment", "compute_dtype", "metrics")
OF_UPDATE = ("optimizer", "accumulate", "non_finite", "wrt")


def _supervised(objective: Mapping[str, Any], update: Mapping[str, Any]) -> Any:
    return minimize(supervised(**objective), **update)


OBJECTIVES: dict[str, Builder] = {
    "supervised": _supervised,
    **transformers.OBJECTIVES,
    **ratings.OBJECTIVES,
    **speech.OBJECTIVES,
    **control.OBJECTIVES,
}
"""The training steps by the name that a recipe has as its ``objective``.

Each is a function (options of the objective, options of the update) → step. The options are
arguments of ``supervised`` and of ``minimize``.
"""
