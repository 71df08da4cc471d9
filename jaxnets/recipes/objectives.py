"""The training steps that a recipe can name: what training minimizes, and in which steps."""

from collections.abc import Mapping
from typing import Any

from jaxnets.arrays import InputError, shown
from jaxnets.recipes import (
    control,
    detection,
    generation,
    ratings,
    speech,
    transformers,
    unsupervised,
)
from jaxnets.recipes.recipe import Objective, Recipe
from jaxnets.training import minimize, supervised

#: Arguments of ``fit`` that belong to an objective, and those that belong to an update.
OF_OBJECTIVE = ("loss", "transform", "augment", "compute_dtype", "metrics", "train")
OF_UPDATE = ("optimizer", "accumulate", "non_finite", "wrt")


def _supervised(objective: Mapping[str, Any], update: Mapping[str, Any]) -> Any:
    return minimize(supervised(**objective), **update)


OBJECTIVES: dict[str, Objective] = {
    "supervised": Objective(_supervised, is_compared=True),
    **transformers.OBJECTIVES,
    **ratings.OBJECTIVES,
    **speech.OBJECTIVES,
    **detection.OBJECTIVES,
    **control.OBJECTIVES,
    **generation.OBJECTIVES,
    **unsupervised.OBJECTIVES,
}
"""The objectives by the name that a recipe has as its ``objective``."""


def objective_of(recipe: Recipe) -> Objective:
    """Returns the objective of a recipe.

    Args:
        recipe: ``objective`` names it.

    Raises:
        InputError: if its name is unknown.
    """
    if recipe.objective not in OBJECTIVES:
        raise InputError("objective", f"one of {', '.join(OBJECTIVES)}", shown(recipe.objective))
    return OBJECTIVES[recipe.objective]
