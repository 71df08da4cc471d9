"""A recipe as an experiment of two frameworks."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxnets import recipes, runs
from jaxnets.arrays import InputError
from jaxnets.compare.experiment import Experiment
from jaxnets.compare.torch_side import loss_of, optimizer_of
from jaxnets.compare.torch_twins import twin
from jaxnets.data import Dataset
from jaxnets.json_files import WRONG, reason
from jaxnets.networks import OwnNetwork
from jaxnets.recipes import Recipe

#: Settings of a recipe that a comparison does not support.
_OF_OURS = ("freeze", "ema", "swa")
#: Settings that do not change a comparison's numbers.
_ASIDE = (
    *(
        "name",
        "document",
        "expect",
        "score",
        "buckets",
        "scheduler",
        "scheduler_options",
        "objective",
    ),
    *_OF_OURS,
)


def from_recipe(
    recipe: Recipe, data: Dataset | None = None, port: OwnNetwork | None = None
) -> Experiment:
    """Returns the experiment that trains a recipe's network in jaxnets and in PyTorch.

    Texts are padded to their full length on both sides, which changes only the time.

    Args:
        recipe: the recipe.
        data: data to use instead of the recipe's.
        port: the port of the recipe's network, if the recipe has a PyTorch network of the user's.

    Raises:
        ValueError: if a setting is invalid, does not fit the data, or is not supported here.
        ImportError: if torch is not installed.
    """
    if recipe.scheduler is not None:
        expected = "None, as both sides of a comparison keep their learning rate"
        raise InputError("scheduler", expected, recipe.scheduler)
    if recipe.objective != "supervised":
        expected = "'supervised', as a comparison trains with a loss of outputs and labels"
        raise InputError("objective", expected, recipe.objective)
    for name in _OF_OURS:
        if getattr(recipe, name) not in (None, (), []):
            expected = "the default, as both sides of a comparison train all their weights"
            raise InputError(name, expected, getattr(recipe, name))
    data, told = recipes.fit_settings(recipe, data)
    sized = recipes.sized(recipe, data)
    settings = runs.settings(sized)
    ours = sized if port is None else dataclasses.replace(sized, model=port)
    return Experiment(
        name=recipe.name,
        description=recipe.document,
        build=lambda seed: recipes.build_model(ours, seed),
        build_torch=_torch_builder(sized),
        data=data,
        loss=told["loss"],
        optimizer=told["optimizer"],
        torch_loss=loss_of(told["loss"]),
        torch_optimizer=optimizer_of(recipe.optimizer, dict(recipe.optimizer_options)),
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        transform=told["transform"],
        augment=told["augment"],
        ported=port is not None,
        settings={name: value for name, value in settings.items() if name not in _ASIDE},
        reference=_reference(recipe),
        record={"recipe": settings},
    )


def _torch_builder(recipe: Recipe) -> Callable[[], Any]:
    """What makes PyTorch's network."""
    network = recipe.model
    if isinstance(network, OwnNetwork):
        return network.build_torch
    return lambda: twin(recipes.build_model(recipe))


def _reference(recipe: Recipe) -> str | None:
    """The documented figure, and after how many epochs, where this takes other ones."""
    if isinstance(recipe.model, OwnNetwork):
        return None
    usual = recipes.RECIPES.get(recipe.name, recipe).epochs
    after = "" if usual == recipe.epochs else f"; after {usual} epochs"
    return f"documented: {recipe.expect}{after}"


def recipe_of(begun: dict[str, Any], directory: Path) -> Recipe:
    """The recipe that a comparison's folder was begun with.

    Args:
        begun: what the folder says of it.
        directory: the folder.

    Raises:
        InputError: if it was begun from Python, with networks of your own.
    """
    if "recipe" not in begun:
        expected = "a comparison of a recipe (what compare.run began continues it)"
        raise InputError("resume", expected, f"one of {begun.get('name')}")
    try:
        return runs.recipe_of(begun["recipe"], directory / runs.NETWORK)
    except WRONG as error:
        raise InputError("resume", "a begun.json written by jaxnets", reason(error)) from error
