"""The learning-rate range test, in which the rate grows at each step until the loss diverges."""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optax
from flax import nnx

from jaxnets import recipes
from jaxnets.arrays import (
    InputError,
    as_host_array,
    called,
    check_number,
    check_positive,
    check_seed,
    shown,
)
from jaxnets.data import Dataset
from jaxnets.figures import new_figure, save, writable
from jaxnets.optimizers import OPTIMIZERS, Schedule, exponential_lr, sgd
from jaxnets.recipes import InitialWeights, Recipe
from jaxnets.training import Callback, NonFiniteLossError, fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BATCH_SIZE = 64  # the default of ``fit``
_DIVERGED = 4.0  # factor of the least smoothed loss above which the loss has diverged
_LEFT_OUT = 10  # the first tenth of the steps is ignored, as the smoothed loss is not settled


@dataclass(frozen=True, eq=False)
class LRRangeTest:
    """The result of a learning-rate range test.

    Attributes:
        rates: the learning rate of each step, float64 [steps].
        losses: the loss of each step before its update, float64 [steps].
        smoothed: the smoothed loss of each step, float64 [steps]; see ``smoothed``.
        suggestion: the rate at which the smoothed loss falls fastest; None if it never falls.
        diverged: whether the test ended because the loss diverged.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float | None
    diverged: bool

    def __repr__(self) -> str:
        tried = f"{len(self.rates)} steps from {self.rates[0]:.3g} to {self.rates[-1]:.3g}"
        ended = ", where the loss diverges" if self.diverged else ""
        found = (
            "no rate, as the loss never falls"
            if self.suggestion is None
            else (f"learning rate {self.suggestion:.3g}")
        )
        return f"LRRangeTest: {tried}{ended}; suggests {found}"

    def plot(self, path: Path | str | None = None, title: str = "") -> "Figure":
        """Draws the losses against the rates, and marks the suggestion.

        Args:
            path: a file to save the figure to, in the format of its suffix; None saves nothing.
            title: the title of the figure.

        Returns:
            The Matplotlib figure.
        """
        place = None if path is None else writable(path)
        figure = new_figure(6.4, 4.0)
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, color="0.75", label="loss of the step")
        axes.plot(self.rates, self.smoothed, color="C0", linewidth=2, label="smoothed")
        if self.suggestion is not None:
            at = int(np.argmin(abs(self.rates - self.suggestion)))
            label = f"suggestion: {self.suggestion:.2g}"
            axes.axvline(self.suggestion, color="C3", linestyle="--", linewidth=1)
            axes.plot(self.rates[at], self.smoothed[at], "o", color="C3", label=label)
        low, first = float(self.smoothed.min()), float(self.smoothed[0])
        top = max(first, low) + 0.35 * max(abs(first - low), 1e-3)  # cuts off the divergence
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss", title=title)
        axes.set_ylim(low - 0.1 * (top - low), top)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left")
        if place is not None:
            save(figure, place)
        return figure


def smoothed(losses: Any, beta: float = 0.9) -> np.ndarray:
    """Computes the exponential moving average of losses, with bias correction as in Adam.

    mₜ = β mₜ₋₁ + (1 - β) lₜ with m₋₁ = 0, and the smoothed loss is mₜ / (1 - βᵗ⁺¹).

    Args:
        losses: the losses of the steps, [steps].
        beta: β, the decay.

    Returns:
        The smoothed losses, float64 [steps].

    Raises:
        InputError: if the losses are not a vector, or β is not in [0, 1).

    Examples:
        >>> smoothed([4.0, 2.0], beta=0.5).round(3)
        array([4.   , 2.667])
    """
    beta = check_number("beta", beta, least=0, below=1)
    given, mean, found = _vector("losses", losses), 0.0, []
    for step, loss in enumerate(given):
        mean = beta * mean + (1 - beta) * loss
        found.append(mean / (1 - beta ** (step + 1)))
    return np.array(found)


def steepest(rates: Any, losses: Any) -> float | None:
    """Finds the learning rate at which the loss falls fastest by the logarithm of the rate.

    The derivative is computed by central differences, ``np.gradient(losses, np.log(rates))``. The
    first tenth of the steps, and those after the least loss, are ignored.

    Args:
        rates: the learning rates, increasing, [steps].
        losses: the smoothed losses, [steps].

    Returns:
        The rate; None if the loss never falls.

    Raises:
        InputError: if the arguments are not vectors of the same length, of at least 2 steps; if
            the rates are not positive and increasing; or if a loss is not finite.

    Examples:
        >>> steepest([0.001, 0.01, 0.1, 1.0], [2.3, 2.2, 1.0, 0.95])
        0.01
    """
    rates, losses = _vector("rates", rates), _vector("losses", losses)
    if len(rates) != len(losses) or len(rates) < 2:
        expected = "as many rates as losses, and at least 2"
        raise InputError("rates", expected, f"{len(rates)} rates and {len(losses)} losses")
    if not (rates[0] > 0 and np.diff(rates).min() > 0):
        raise InputError("rates", "positive, increasing numbers", rates)
    if not np.isfinite(losses).all():
        raise InputError("losses", "finite numbers", losses)
    slopes = np.gradient(losses, np.log(rates))
    begin, end = len(losses) // _LEFT_OUT, int(losses.argmin()) + 1
    counted = slopes[begin:end]
    if not len(counted) or not counted.min() < 0:
        return None
    return float(rates[begin + int(counted.argmin())])


def _vector(name: str, values: Any) -> np.ndarray:
    array = as_host_array(name, values)
    if array.dtype.kind not in "iuf" or array.ndim != 1 or not len(array):
        raise InputError(name, "a vector of numbers", array)
    return array.astype(np.float64)


class _Done(Exception):
    """Ends the test within an epoch."""


class _Watch(Callback):
    """Ends the test when the loss diverges, or after the last step."""

    def __init__(self, most: int, beta: float) -> None:
        self._most, self._beta = most, beta

    def steps(self, step: int, losses: np.ndarray) -> None:
        """Checks all losses so far."""
        if step >= self._most or _end(self.run.losses, self._beta) < step:
            raise _Done


def _end(losses: np.ndarray, beta: float) -> int:
    """Returns the number of steps before the loss diverges."""
    means = smoothed(losses, beta)
    beyond = ~np.isfinite(means) | (means > _DIVERGED * np.minimum.accumulate(means))
    return int(beyond.argmax()) if beyond.any() else len(losses)


def lr_range_test(
    recipe: Recipe | nnx.Module,
    *,
    data: Dataset | None = None,
    start: float = 1e-6,
    end: float = 10.0,
    steps: int = 200,
    beta: float = 0.9,
    seed: int = 0,
    weights: InitialWeights | None = None,
    optimizer: Callable[[Schedule], optax.GradientTransformation] = sgd,
    **options: Any,
) -> LRRangeTest:
    """Runs a learning-rate range test: trains with a growing rate, and suggests a rate.

    At step t = 0, …, N - 1 the rate is start · (end / start)^(t / (N - 1)). The test ends early if
    the smoothed loss exceeds four times its least value so far, or is not finite. The suggestion is
    the rate at which the smoothed loss falls fastest by log(rate), see ``steepest``. After Smith,
    *Cyclical Learning Rates for Training Neural Networks*, 2017.

    Args:
        recipe: the recipe to train, whose learning rate, schedule and epochs are ignored; or a
            model, which is not changed.
        data: the data set of a model, or one to use instead of the recipe's. Only the training
            split is used.
        start: the learning rate of the first step.
        end: the learning rate of the last step.
        steps: the number of steps, N.
        beta: see ``smoothed``.
        seed: the seed of the order of the examples and of a recipe's initial weights.
        weights: initial weights for a recipe, see ``jaxnets.recipes.train``.
        optimizer: for a model, a function from a schedule to an optimizer, such as
            ``optimizers.adam``.
        **options: arguments of ``jaxnets.training.fit``, such as ``devices``; for a model also
            ``loss``, ``batch_size`` and others.

    Raises:
        InputError: if an argument is invalid, or the loss diverges within the first two steps.

    Examples:
        >>> from jaxnets import recipes
        >>> found = lr_range_test(recipes.recipe("linear-regression"), steps=50, start=1e-3)
        >>> 1e-3 < found.suggestion < 10
        True
    """
    start = check_number("start", start, above=0)
    end = check_number("end", end, above=start)
    check_positive("steps", steps)
    if steps < 2:
        raise InputError("steps", "at least 2", steps)
    beta = check_number("beta", beta, least=0, below=1)
    check_seed("seed", seed)
    if isinstance(recipe, nnx.Module):
        if not isinstance(data, Dataset):
            raise InputError("data", "a Dataset, as a model is given", shown(data))
        model, settings = recipe, dict[str, Any](optimizer=optimizer)
    else:
        model, data, settings = _of_recipe(recipe, data, seed, weights)
    growing = exponential_lr(start, (end / start) ** (1 / (steps - 1)))
    expected = "a function from a schedule to an optimizer"
    settings["optimizer"] = called("optimizer", expected, settings["optimizer"], growing)
    watch = _Watch(steps, beta)
    settings |= {"progress": "none", **options}
    settings["callbacks"] = [*settings.get("callbacks", ()), watch]
    settings["epochs"] = math.ceil(
        steps / math.ceil(len(data.train) / settings.get("batch_size", _BATCH_SIZE))
    )
    if isinstance(recipe, Recipe):
        settings = recipes.with_step(recipe, model, data, settings)
    with contextlib.suppress(_Done, NonFiniteLossError):
        fit(model, dataclasses.replace(data, test=None), seed=seed, **settings)
    return _measured(watch.run.losses[:steps], start, end, steps, beta)


def _of_recipe(
    recipe: Recipe, data: Dataset | None, seed: int, weights: InitialWeights | None
) -> tuple[nnx.Module, Dataset, dict[str, Any]]:
    """Returns a recipe's model, its data and the arguments of ``fit``.

    The optimizer is a function of a schedule.
    """
    recipes.check_recipe(recipe, data)
    recipe = dataclasses.replace(recipe, scheduler=None)
    data, settings = recipes.fit_settings(recipe, data)
    model = recipes.initial_model(recipes.sized(recipe, data), seed, weights)
    options = {name: v for name, v in recipe.optimizer_options.items() if name != "lr"}
    return model, data, settings | {"optimizer": partial(OPTIMIZERS[recipe.optimizer], **options)}


def _measured(losses: np.ndarray, start: float, end: float, steps: int, beta: float) -> LRRangeTest:
    """Makes the result of a test from its losses."""
    losses = losses.astype(np.float64)
    known = _end(losses, beta)
    if known < 2:
        raise InputError("start", "a learning rate at which the loss is finite", start)
    rates = start * (end / start) ** (np.arange(known) / (steps - 1))
    means = smoothed(losses[:known], beta)
    suggestion = steepest(rates, means)
    return LRRangeTest(rates, losses[:known], means, suggestion, known < len(losses))
