"""The training in jaxnets: all seeds of a comparison at once, or one separate run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from flax import nnx

from jaxnets.compare.experiment import Experiment
from jaxnets.compare.records import Side
from jaxnets.compare.sides import predicted
from jaxnets.training import MemberRun, TrainingRun, TrainingRuns, fit, predict
from jaxnets.training.progress import Progress


def train_together(
    this: Experiment, seeds: Sequence[int], models: Sequence[nnx.Module], progress: Progress
) -> list[Side]:
    """Trains a network for each seed, from its current weights.

    Args:
        this: the experiment.
        seeds: the seeds.
        models: a network for each seed.
        progress: see ``fit``.
    """
    following = iter(models)  # ``fit`` calls ``build`` once for each seed, in order

    def build(rngs: nnx.Rngs) -> nnx.Module:
        return next(following)

    runs: TrainingRuns = fit(build, this.data, seeds=seeds, progress=progress, **options(this))
    return [_side(this, member) for member in runs.members]


def options(this: Experiment) -> dict[str, Any]:
    """Returns the arguments of ``fit``, except for the model and the seeds."""
    names = ("loss", "optimizer", "epochs", "batch_size", "transform", "augment")
    return {name: getattr(this, name) for name in names}


def train_alone(
    this: Experiment, seed: int, model: nnx.Module, epochs: int, callback: Any
) -> TrainingRun:
    """Trains one network, and calls ``callback`` after each epoch.

    Args:
        this: the experiment.
        seed: the seed.
        model: the network with its initial weights.
        epochs: number of epochs.
        callback: a callback of ``fit``.
    """
    given = options(this) | {"epochs": epochs, "callbacks": [callback], "progress": "none"}
    run: TrainingRun = fit(model, this.data, seed=seed, **given)
    return run


def _side(this: Experiment, member: MemberRun) -> Side:
    """Returns the measurements of a run; NaN after a loss that is not finite."""
    steps = this.epochs * this.plan(member.seed, 0).steps
    scores = [record.test_accuracy for record in member.history]
    outputs = predict(member.model, this.test.inputs, transform=this.transform)
    found = predicted(outputs, this)
    return Side(
        framework="jaxnets",
        seed=member.seed,
        step_losses=_filled(member.step_losses, steps),
        train_loss=_filled([record.train_loss for record in member.history], this.epochs),
        test_loss=_filled([record.test_loss for record in member.history], this.epochs),
        test_accuracy=None if found is None else _filled(scores, this.epochs),
        predictions=found,
    )


def _filled(values: Any, length: int) -> np.ndarray:
    array = np.asarray(values, float)
    return np.pad(array, (0, length - len(array)), constant_values=np.nan)
