"""Makes an experiment for two frameworks from a recipe."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import recipes, runs
from jaxnets.arrays import InputError
from jaxnets.compare.experiment import Experiment
from jaxnets.compare.torch_side import loss_of, optimizer_of, with_rates
from jaxnets.data import Dataset
from jaxnets.json_files import WRONG, reason
from jaxnets.networks import OwnNetwork
from jaxnets.recipes import Recipe
from jaxnets.torch_models import twin

#: Settings of a recipe that a comparison does not support.
_OF_OURS = ("freeze", "ema", "swa")
#: Settings of a recipe that do not change the results of a comparison.
_ASIDE = ("name", "document", "expect", "score", "buckets", "objective", *_OF_OURS)
#: Settings of the learning rate, which are recorded if there is a schedule.
_SCHEDULE = ("scheduler", "scheduler_options")


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
    if not recipes.objective_of(recipe).is_compared:
        expected = "'supervised', as a comparison trains with a loss of outputs and labels"
        raise InputError("objective", expected, recipe.objective)
    for name in _OF_OURS:
        if getattr(recipe, name) not in (None, (), []):
            expected = "the default, as comparisons do not support it"
            raise InputError(name, expected, getattr(recipe, name))
    data, fitting = recipes.fit_settings(recipe, data)
    sized = recipes.sized(recipe, data)
    settings = runs.settings(sized)
    ours = sized if port is None else dataclasses.replace(sized, model=port)
    left_out = _ASIDE if recipe.scheduler is not None else (*_ASIDE, *_SCHEDULE)
    return Experiment(
        name=recipe.name,
        description=recipe.document,
        build=lambda seed: recipes.build_model(ours, seed),
        build_torch=_torch_builder(sized),
        data=data,
        loss=fitting["loss"],
        optimizer=fitting["optimizer"],
        torch_loss=loss_of(fitting["loss"]),
        torch_optimizer=_torch_optimizer(sized, len(data.train)),
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        transform=fitting["transform"],
        augment=fitting["augment"],
        ported=port is not None,
        settings={name: value for name, value in settings.items() if name not in left_out},
        reference=_reference(recipe),
        record={"recipe": settings},
    )


def _torch_optimizer(recipe: Recipe, examples: int) -> Callable[[Any], Any]:
    """Returns a function that makes PyTorch's optimizer, with the recipe's learning rates."""
    made = optimizer_of(recipe.optimizer, dict(recipe.optimizer_options))
    if recipe.scheduler is None:
        return made
    schedule = recipes.learning_rate(recipe, examples)
    assert callable(schedule)
    steps = recipe.epochs * -(-examples // recipe.batch_size)
    return with_rates(made, np.asarray(jax.vmap(schedule)(jnp.arange(steps))))


def _torch_builder(recipe: Recipe) -> Callable[[], Any]:
    """Returns a function that makes the PyTorch network."""
    network = recipe.model
    if isinstance(network, OwnNetwork):
        return network.build_torch
    return lambda: twin(recipes.build_model(recipe))


def _reference(recipe: Recipe) -> str | None:
    """Returns the result to expect, with its number of epochs if the recipe has another one."""
    if isinstance(recipe.model, OwnNetwork) or not recipe.expect:
        return None
    usual = recipes.RECIPES.get(recipe.name, recipe).epochs
    after = "" if usual == recipe.epochs else f" after {usual} epochs"
    return f"expected{after}: {recipe.expect}"


def recipe_of(begun: dict[str, Any], directory: Path) -> Recipe:
    """Reads the recipe of a comparison's folder.

    Args:
        begun: the content of ``begun.json``.
        directory: the folder.

    Raises:
        InputError: if the comparison was started from Python.
    """
    if "recipe" not in begun:
        expected = "a comparison of a recipe (others resume with the same call of compare.run)"
        raise InputError("resume", expected, f"one of {begun.get('name')}")
    try:
        return runs.recipe_of(begun["recipe"], directory / runs.NETWORK)
    except WRONG as error:
        raise InputError("resume", "a begun.json written by jaxnets", reason(error)) from error
