"""Builds the parts of a recipe: data, network, optimizer and schedule."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import optax
from flax import nnx

from jaxnets.arrays import InputError, check_positive, check_seed, shown
from jaxnets.data import Dataset, load
from jaxnets.models import MODELS
from jaxnets.networks import OwnNetwork
from jaxnets.optimizers import (
    OPTIMIZERS,
    Schedule,
    constant_lr,
    cosine_annealing_lr,
    cosine_annealing_warm_restarts,
    exponential_lr,
    linear_lr,
    multi_step_lr,
    one_cycle_lr,
    per_epoch,
    polynomial_lr,
    step_lr,
    swalr,
)
from jaxnets.recipes.objectives import objective_of
from jaxnets.recipes.recipe import Recipe, check_recipe

SCHEDULERS: dict[str, Callable[..., Schedule]] = {
    "step": step_lr,
    "multistep": multi_step_lr,
    "exponential": exponential_lr,
    "cosine": cosine_annealing_lr,
    "cosine-restarts": cosine_annealing_warm_restarts,
    "onecycle": one_cycle_lr,
    "linear": linear_lr,
    "constant": constant_lr,
    "polynomial": polynomial_lr,
    "swa": swalr,
}
"""The learning-rate schedules by name."""


def build_model(recipe: Recipe, seed: int = 0) -> nnx.Module:
    """Builds the recipe's network with random initial weights.

    Args:
        recipe: names the network and its options.
        seed: seed of the initial weights.

    Raises:
        ValueError: if the model is unknown or does not take one of its options.
    """
    check_recipe(recipe)
    if isinstance(recipe.model, OwnNetwork):
        return recipe.model.build(nnx.Rngs(check_seed("seed", seed)))
    return build_network(recipe.model, recipe.model_options, seed)


def build_network(name: str, options: Mapping[str, Any], seed: int = 0) -> nnx.Module:
    """Builds a documented network with random initial weights.

    Args:
        name: a name in ``jaxnets.models.MODELS``.
        options: arguments of the network by name, except for ``rngs``.
        seed: seed of the initial weights.

    Raises:
        ValueError: if the name is unknown, if an option is not an argument of the network, or if
            a required argument is missing.
    """
    check_seed("seed", seed)
    return _call(MODELS, name, "model", options, rngs=nnx.Rngs(seed))


def build_optimizer(recipe: Recipe, data: Dataset | None = None) -> optax.GradientTransformation:
    """Builds the recipe's optimizer.

    Args:
        recipe: names the optimizer, its options and its schedule.
        data: the training data, which determine the number of steps in an epoch of the schedule.
            Without data the optimizer has no schedule.

    Raises:
        ValueError: if the optimizer is unknown, or an option is not one of its arguments.
    """
    check_recipe(recipe, data)
    options = dict(recipe.optimizer_options)
    if recipe.scheduler is not None and data is not None:
        options["lr"] = learning_rate(recipe, len(data.train))
    return _call(OPTIMIZERS, recipe.optimizer, "optimizer", options)


def learning_rate(recipe: Recipe, examples: int) -> Schedule | float | None:
    """Returns the recipe's learning rate: a schedule, or a number if it is constant.

    Args:
        recipe: the optimizer and the schedule; see ``sized`` for the length of a schedule.
        examples: number of training examples, which determines the number of steps in an epoch.

    Returns:
        A function from the step count to the learning rate; the rate if it is constant; None for
        an optimizer without a default learning rate.

    Raises:
        ValueError: if the schedule is unknown, or an option is not one of its arguments.
    """
    check_recipe(recipe)
    check_positive("examples", examples)
    kind = OPTIMIZERS.get(recipe.optimizer)
    usual = None if kind is None else inspect.signature(kind).parameters["lr"].default
    rate = recipe.optimizer_options.get("lr", usual)
    if recipe.scheduler is not None:
        return _schedule(recipe, rate, examples)
    return rate if isinstance(rate, int | float) else None


def _schedule(recipe: Recipe, rate: Any, examples: int) -> Schedule:
    """Returns the recipe's schedule: a function from the step count to the learning rate."""
    name, steps = str(recipe.scheduler), -(-examples // recipe.batch_size)
    if name == "onecycle":  # counts steps, as in PyTorch
        given = {"max_lr": rate}
        if "epochs" in recipe.scheduler_options:
            given["steps_per_epoch"] = steps
        return _call(SCHEDULERS, name, "scheduler", recipe.scheduler_options, **given)
    schedule = _call(SCHEDULERS, name, "scheduler", recipe.scheduler_options, lr=rate)
    return per_epoch(schedule, steps)


def load_data(recipe: Recipe) -> Dataset:
    """Loads the recipe's data.

    Args:
        recipe: names the data, and the options of ``jaxnets.data.load``.

    Raises:
        ValueError: if the data are not found or are damaged, or an option is not an argument of
            ``load``.
    """
    options = data_options(recipe)
    return load_named(recipe.data, options)


def data_options(recipe: Recipe) -> dict[str, Any]:
    """Returns the options of ``jaxnets.data.load`` for a recipe's data.

    Args:
        recipe: the experiment, whose objective may add options.

    Raises:
        ValueError: if it is not a recipe, or its objective is unknown.
    """
    check_recipe(recipe)
    return {**objective_of(recipe).data_options, **recipe.data_options}


def load_named(name: str, options: Mapping[str, Any]) -> Dataset:
    """Loads a data set by name, with options by name.

    Args:
        name: name or path of the data set.
        options: arguments of ``jaxnets.data.load`` by name.

    Raises:
        ValueError: if the data set is not found or is damaged, or an option is not an argument of
            ``load``.
    """
    return _call({name: partial(load, name)}, name, "data", options)


def _call(
    table: Mapping[str, Any], name: str, kind: str, options: Mapping[str, Any], **given: Any
) -> Any:
    """Calls an entry of a table with the user's options.

    Args:
        table: functions or classes by name.
        name: the entry.
        kind: what the entries are, for messages.
        options: arguments by name, from the user.
        **given: further arguments, which the user cannot set.

    Raises:
        InputError: if the name or an option is unknown, or a required option is missing.
    """
    if not isinstance(name, str) or name not in table:
        raise InputError(kind, f"one of {', '.join(table)}", shown(name))
    if not isinstance(options, Mapping):
        raise InputError("options", "arguments by name", options)
    # the signature of an nnx.Module class is that of its metaclass
    entry = table[name]
    signature = inspect.signature(entry.__init__ if inspect.isclass(entry) else entry)
    taken = {
        option: parameter
        for option, parameter in signature.parameters.items()
        if option not in ("self", "param_dtype", *given)
    }
    for option, value in options.items():
        if option not in taken:
            raise InputError(f"{kind} option", f"one of {', '.join(taken)} for {name}", option)
        if taken[option].annotation is bool and not isinstance(value, bool):
            raise InputError(option, "True or False", shown(value))
    needed = [option for option, parameter in taken.items() if parameter.default is parameter.empty]
    missing = [option for option in needed if option not in options]
    if missing:
        raise InputError(f"{kind} option", f"{', '.join(needed)} for {name}", f"no {missing[0]}")
    return entry(**options, **given)
