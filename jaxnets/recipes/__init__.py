"""The documented experiments: data, network, optimizer and number of epochs in one table."""

from jaxnets.recipes.building import (
    SCHEDULERS,
    build_model,
    build_network,
    build_optimizer,
    data_options,
    learning_rate,
    load_data,
    load_named,
)
from jaxnets.recipes.inputs import AUGMENTATIONS, build_augmentation, build_transform
from jaxnets.recipes.objectives import OBJECTIVES, objective_of
from jaxnets.recipes.recipe import OPTIONS, Objective, Recipe, check_recipe
from jaxnets.recipes.sizes import sized
from jaxnets.recipes.table import RECIPES, of_own, recipe
from jaxnets.recipes.training import (
    InitialWeights,
    error_in_units,
    evaluation_of,
    fit_settings,
    initial_model,
    train,
    train_many,
    with_step,
)

__all__ = [
    "AUGMENTATIONS",
    "OBJECTIVES",
    "OPTIONS",
    "RECIPES",
    "SCHEDULERS",
    "InitialWeights",
    "Objective",
    "Recipe",
    "build_augmentation",
    "build_model",
    "build_network",
    "build_optimizer",
    "build_transform",
    "check_recipe",
    "data_options",
    "error_in_units",
    "evaluation_of",
    "fit_settings",
    "initial_model",
    "learning_rate",
    "load_data",
    "load_named",
    "objective_of",
    "of_own",
    "recipe",
    "sized",
    "train",
    "train_many",
    "with_step",
]
