"""Trains a recipe."""

import dataclasses
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from flax import nnx

from jaxnets.arrays import InputError, called, check_seed, entries, shown
from jaxnets.averaging import Averaging, averaged, ema, swa, update_batch_norm
from jaxnets.data import Dataset, StandardizedDataset
from jaxnets.interop import load_torch
from jaxnets.losses import LOSSES
from jaxnets.recipes.building import build_model, build_optimizer, load_data
from jaxnets.recipes.inputs import (
    build_augmentation,
    build_transform,
    mixes_labels,
    num_classes,
)
from jaxnets.recipes.objectives import OF_OBJECTIVE, OF_UPDATE, objective_of
from jaxnets.recipes.recipe import Recipe, check_recipe
from jaxnets.recipes.sizes import LOSSES_OF_VALUES, settled, sized
from jaxnets.training import TrainingRun, TrainingRuns, evaluate, fit
from jaxnets.training.batching import Batching
from jaxnets.transfer import unfrozen

_Run = TypeVar("_Run", bound=TrainingRun)


InitialWeights = Callable[[int], Any]
"""A function from a seed to initial weights with PyTorch's names and layouts, or to their file."""


def train(
    recipe: Recipe,
    *,
    seed: int = 0,
    data: Dataset | None = None,
    weights: InitialWeights | None = None,
    **options: Any,
) -> TrainingRun:
    """Trains a recipe's network.

    Args:
        recipe: the experiment.
        seed: seed of the initial weights, the order of the examples, augmentation and dropout.
        data: data to use instead of the recipe's; ``sized`` adapts the network to them.
        weights: function from the seed to initial weights with PyTorch's names and layouts, used
            instead of random ones.
        **options: arguments of ``jaxnets.training.fit`` that a recipe does not set: ``devices``,
            ``sharding``, ``accumulate``, ``compute_dtype``, ``save``, ``resume``,
            ``callbacks``, ``non_finite``, ``progress``.

    Raises:
        ValueError: if a setting of the recipe is invalid or does not fit the data.
    """
    check_seed("seed", seed)
    data, settings = fit_settings(recipe, data)
    model = initial_model(sized(recipe, data), seed, weights)
    arguments = with_step(recipe, model, data, {**settings, **options})
    run: TrainingRun = fit(model, data, seed=seed, **arguments)
    return _with_average(recipe, run, data, arguments)


def train_many(
    recipe: Recipe,
    *,
    seeds: int | Sequence[int],
    learning_rates: Sequence[float] | None = None,
    data: Dataset | None = None,
    weights: InitialWeights | None = None,
    **options: Any,
) -> TrainingRuns:
    """Trains a recipe's network from several seeds at once. Each run equals that of ``train``.

    Args:
        recipe: the experiment.
        seeds: see ``fit``.
        learning_rates: see ``fit``.
        data: see ``train``.
        weights: see ``train``.
        **options: see ``train``, except for options that do not work with several seeds.

    Raises:
        ValueError: if a setting is invalid, does not fit the data, or does not work with several
            seeds.
    """
    data, settings = fit_settings(recipe, data)
    network = sized(recipe, data)
    order = iter(range(seeds) if isinstance(seeds, int) else entries(seeds) or ())

    def build(rngs: nnx.Rngs) -> nnx.Module:  # fit calls it once for each seed, in order
        return initial_model(network, next(order), weights)

    arguments = with_step(recipe, build_model(network), data, {**settings, **options})
    runs: TrainingRuns = fit(build, data, seeds=seeds, learning_rates=learning_rates, **arguments)
    members = [
        _with_average(recipe, member, data, arguments) if member.diverged is None else member
        for member in runs.members
    ]
    return dataclasses.replace(runs, members=tuple(members))


def evaluation_of(recipe: Recipe, arguments: Mapping[str, Any]) -> Any:
    """Returns the objective by which ``evaluate`` tests the networks of a recipe.

    Args:
        recipe: the experiment.
        arguments: arguments of ``fit``, see ``fit_settings``.
    """
    objective, update, _ = _divided(arguments)
    return objective_of(recipe).build(objective, update).evaluation


def _divided(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Divides arguments of ``fit`` into those of the objective, of the update, and the others."""
    others = dict(arguments)
    objective = {name: others.pop(name) for name in OF_OBJECTIVE if name in others}
    update = {name: others.pop(name) for name in OF_UPDATE if name in others}
    return objective, update, others


def with_step(
    recipe: Recipe, model: nnx.Module, data: Dataset, arguments: dict[str, Any]
) -> dict[str, Any]:
    """Replaces the arguments of ``fit`` that a step includes, if the recipe needs a step.

    Args:
        recipe: the experiment.
        model: the network to train, whose parameters the recipe may freeze.
        data: the data of the run.
        arguments: arguments of ``fit``, see ``fit_settings``.
    """
    averages = recipe.ema is not None or recipe.swa is not None
    if not recipe.freeze and not averages and recipe.objective == "supervised":
        return arguments
    objective, update, arguments = _divided(arguments)
    if recipe.freeze:
        patterns = (recipe.freeze,) if isinstance(recipe.freeze, str) else recipe.freeze
        update["wrt"] = unfrozen(model, *patterns)
    step = objective_of(recipe).build(objective, update)
    if recipe.ema is not None:
        step = ema(step, recipe.ema, use_buffers=True)
    if recipe.swa is not None:
        batching = Batching(
            data=data,
            batch_size=recipe.batch_size,
            shuffle=True,
            drop_last=False,
            buckets=recipe.buckets,
        )
        steps = batching.steps
        step = swa(step, start=recipe.swa * steps, every=steps)
    return {**arguments, "step": step}


def _with_average(recipe: Recipe, run: _Run, data: Dataset, arguments: Mapping[str, Any]) -> _Run:
    """Returns the run with its averaged weights and their test, if the recipe averages."""
    step = arguments.get("step")
    if not isinstance(step, Averaging):
        return run
    if not run.state.optimizer_state.n_averaged:
        text = f"the run ended before epoch {recipe.swa} did: its weights are not averaged"
        warnings.warn(text, UserWarning, stacklevel=3)
        return run
    model = averaged(run)
    if recipe.swa is not None:
        transform, size = build_transform(recipe), recipe.batch_size
        model = update_batch_norm(model, data.train, transform=transform, batch_size=size)
    test = evaluate(model, data.test, step.evaluation)
    return dataclasses.replace(run, model=model, test=test)


def initial_model(network: Recipe, seed: int, weights: InitialWeights | None) -> nnx.Module:
    """Returns the network before its first training step.

    Args:
        network: a recipe that ``sized`` has completed.
        seed: seed of the weights that ``weights`` does not provide.
        weights: see ``train``.
    """
    model = build_model(network, seed)
    if weights is not None:
        expected = "a function from a seed to weights by PyTorch's names"
        load_torch(model, called("weights", expected, weights, seed))
    return model


def fit_settings(recipe: Recipe, data: Dataset | None) -> tuple[Dataset, dict[str, Any]]:
    """Returns the data of a recipe, and the arguments of ``fit`` except for the model.

    Raises:
        ValueError: if a setting is invalid or does not fit the data.
    """
    check_recipe(recipe, data)
    if recipe.loss not in LOSSES and recipe.loss != "auto":
        raise InputError("loss", f"one of {', '.join(LOSSES)}", shown(recipe.loss))
    objective = objective_of(recipe)
    build_optimizer(recipe)  # so that a bad option is an error before the data are read
    data = load_data(recipe) if data is None else data
    recipe = settled(recipe, data)
    values = recipe.objective == "supervised" and recipe.loss in LOSSES_OF_VALUES
    if values and num_classes(data) is not None and not mixes_labels(recipe):
        expected = "values to predict, as regression=True makes of a table's whole numbers"
        raise InputError(f"labels of {data.name}", expected, f"classes, for the loss {recipe.loss}")
    return data, {
        "loss": LOSSES[recipe.loss],
        "optimizer": build_optimizer(sized(recipe, data), data),
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "transform": build_transform(recipe),
        "augment": build_augmentation(recipe, data),
        "buckets": recipe.buckets,
        **objective.settings(recipe, data),
    }


def error_in_units(recipe: Recipe, run: TrainingRun, data: Dataset) -> float | None:
    """Returns the root mean squared test error in the original units of the labels.

    Returns None if training does not minimize the mean squared error of labels, or if the labels
    have several units.

    Args:
        recipe: the experiment.
        run: the training run, with its test error.
        data: the data of the run.
    """
    if recipe.loss != "mse" or recipe.objective != "supervised":
        return None
    scaler = data.labels_scaler if isinstance(data, StandardizedDataset) else None
    scales = (1.0,) if scaler is None else scaler.std
    return scales[0] * math.sqrt(run.test.loss) if len(scales) == 1 else None
