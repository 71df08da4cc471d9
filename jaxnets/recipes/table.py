"""The documented experiments, put together from the files of each domain."""

import difflib
from dataclasses import replace

from jaxnets.arrays import InputError, shortened, shown
from jaxnets.networks import OwnNetwork
from jaxnets.recipes import (
    control,
    detection,
    generation,
    images,
    ratings,
    residual,
    series,
    speech,
    texts,
    transformers,
    unsupervised,
)
from jaxnets.recipes.measured import expectation, records
from jaxnets.recipes.recipe import Recipe

_DOMAINS = (
    *(images, residual, texts, transformers, series, ratings, speech, generation, detection),
    *(unsupervised, control),
)


def _expecting(recipe: Recipe) -> Recipe:
    """The recipe with the recorded score and time, if there is a record, before its remark."""
    record = records().get(recipe.name)
    if record is None:
        return recipe
    return replace(recipe, expect="; ".join(filter(None, (expectation(record), recipe.expect))))


RECIPES: dict[str, Recipe] = {
    recipe.name: _expecting(recipe) for domain in _DOMAINS for recipe in domain.RECIPES
}
"""The documented recipes by name."""


def recipe(name: str) -> Recipe:
    """Returns the recipe with this name.

    Args:
        name: a name that ``jaxnets recipes`` lists.

    Raises:
        ValueError: if no recipe has this name. The message lists the first names, and suggests
            the closest one.
    """
    if not isinstance(name, str) or name not in RECIPES:
        near = difflib.get_close_matches(shown(name), RECIPES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise InputError(
            "recipe", f"one of {shortened(tuple(RECIPES), 150)}", f"{shown(name)}{hint}"
        )
    return RECIPES[name]


def of_own(network: OwnNetwork, data: str) -> Recipe:
    """Returns a recipe for a network of the user's own, with default training settings.

    The loss is cross-entropy for classes and mean squared error for values; the optimizer is Adam.

    Args:
        network: the network.
        data: see ``Recipe``.
    """
    return Recipe(
        name=network.name,
        document=f"{network.target} on {data}",
        expect="no documented figure",
        data=data,
        model=network,
        loss="auto",
        optimizer="adam",
        optimizer_options={"lr": 0.001},
        epochs=10,
        layout="auto",
    )
