"""Hyperparameter search: draws settings, trains them on part of the data and tests on the rest."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnets import recipes, runs
from jaxnets.arrays import (
    InputError,
    called,
    check_bool,
    check_choice,
    check_function,
    check_integer,
    check_positive,
    check_seed,
    shown,
)
from jaxnets.data import Dataset, hold_out
from jaxnets.data.splitting import hold_out_last
from jaxnets.recipes import InitialWeights, Recipe
from jaxnets.search import results, studies
from jaxnets.search.results import SearchResult, Trial
from jaxnets.search.space import Space, applied
from jaxnets.training import EpochRecord, NonFiniteLossError, StopTraining
from jaxnets.training.records import check_metric, goodness, is_better_smaller

if TYPE_CHECKING:
    import optuna

#: A function that prepares a recipe for its data: (recipe, data) → (recipe, initial weights).
Prepare = Callable[[Recipe, Dataset], tuple[Recipe, InitialWeights | None]]
_HOPELESS = 3  # the search ends if this many first trials fail
_NOT_OF_A_SEARCH = ("name", "document", "expect", "data", "data_options")


def _as_it_is(recipe: Recipe, data: Dataset) -> tuple[Recipe, None]:
    return recipe, None


def _prepared(prepare: Any, recipe: Recipe, data: Dataset) -> tuple[Recipe, InitialWeights | None]:
    """Calls ``prepare``, and checks the result."""
    expected = "a function from a recipe and data to a recipe and its initial weights"
    made = called("prepare", expected, prepare, recipe, data)
    if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[0], Recipe):
        raise InputError("prepare", expected, shown(prepare))
    return made


def search(
    recipe: Recipe,
    space: Any,
    *,
    trials: int | None = None,
    data: Dataset | None = None,
    sampler: str = "tpe",
    pruner: str | None = None,
    metric: str | None = None,
    validation: float = 0.1,
    seed: int = 0,
    seeds: int = 1,
    together: int = 1,
    storage: Path | str | None = None,
    name: str | None = None,
    train_best: bool = True,
    prepare: Prepare = _as_it_is,
    report: Callable[[str], Any] | None = print,
    **options: Any,
) -> SearchResult:
    """Searches the hyperparameters of a recipe, and trains the best setting on all training data.

    Each trial trains on part of the training examples and is evaluated on the rest, which is held
    out. The test examples are only used to test the best setting. The first trial is the recipe's
    own setting, as far as the space contains it; the trials of a grid are its points. The draws are
    determined by ``seed``, also in a search that is resumed. All trials have the same initial
    weights and order of examples, as far as their shapes agree.

    Args:
        recipe: the recipe to search.
        space: the parameters to vary, see ``Space.of``.
        trials: the number of settings to try; None for 20, or for all points of a grid.
        data: a data set to use instead of the recipe's; None for the recipe's.
        sampler: ``"tpe"``, Optuna's tree-structured Parzen estimator; ``"random"``; or ``"grid"``,
            every combination of choices and integers.
        pruner: stops trials early that are worse than others after the same number of epochs.
            ``"halving"``: asynchronous successive halving, in which a third continues after epochs
            1, 3, 9, …. ``"median"``: trials worse than the median are stopped, after five trials
            and a quarter of the epochs. ``"none"``: no pruning. None for ``"median"``, or for
            ``"none"`` if several trainings run together.
        metric: the metric to optimize, of an ``EpochRecord``, in which ``test_`` means the held-out
            examples; None for ``"test_accuracy"`` with classes, else ``"test_loss"``.
        validation: the share of the training examples to hold out; for a series, from its end.
        seed: the seed of the search and of the trainings.
        seeds: the number of seeds of each trial, whose value is the mean.
        together: the number of trials in one compiled program, which differ only in the learning
            rate. Faster on accelerators.
        storage: where to store the trials: a database URL, such as ``sqlite:///search.db``, which
            several processes can share, or the path of an SQLite file. A stored search is resumed;
            its unfinished trials are repeated. None does not store them.
        name: the name of the search in the storage; None for the recipe's name.
        train_best: whether to train the best setting on all training examples and test it. If
            trials are running in another process, that process does so.
        prepare: a function (recipe, data) → (recipe ready for training, initial weights or None).
        report: a function to call with a line for each trial; None for no lines.
        **options: arguments of ``jaxnets.training.fit``, such as ``compute_dtype``.

    Returns:
        All trials, and the run of the best setting.

    Raises:
        InputError: if an argument is invalid, the storage cannot be reached or has another search
            with this name, or no trial is complete.
        ImportError: if Optuna is not installed.

    Examples:
        >>> found = search(
        ...     recipes.recipe("linear-regression"), {"lr": "1e-3..1"}, trials=3, report=None
        ... )
        >>> len(found.trials), found.best.state, found.run.test.loss < 1
        (3, 'complete', True)
    """
    space = Space.of(space)
    recipes.check_recipe(recipe, data)
    space.check(recipe)
    check_choice("sampler", sampler, studies.SAMPLERS)
    check_positive("seeds", seeds)
    check_positive("together", together)
    pruner = _pruner(pruner, seeds * together)
    check_seed("seed", seed)
    points = _points(space, recipe, sampler, trials)
    if metric is not None:
        check_metric(metric)
    if name is not None and (not isinstance(name, str) or not name):
        raise InputError("name", "a name or None", name)
    check_bool("train_best", train_best)
    if report is not None:
        check_function("report", report, "a function of a line, or None")
    studies.imported()
    data = recipes.load_data(recipe) if data is None else data
    metric = _metric(data) if metric is None else metric
    kept = _held_out(data, recipe, validation, seed)
    about = _about(recipe, space, data)
    about |= {"metric": metric, "validation": validation, "seed": seed, "seeds": seeds}
    study, joined = studies.opened(
        storage,
        recipe.name if name is None else name,
        grows=not is_better_smaller(metric),
        pruner=studies.made_pruner(pruner, recipe.epochs),
        about=about,
    )
    studies.fill(study, points, joined=joined)
    trainer = _Trainer(recipe, kept, metric, (seed, seeds), prepare, options)
    try:
        _Search(study, space, trainer, together, report).run(sampler, seed)
    except InputError:
        if not joined:
            studies.forget_unbegun(study, storage)
        raise
    found = SearchResult(recipe, metric, results.trials_of(study), results.importances(study))
    if not found.ranked:
        raise InputError("trials", "at least one complete trial", _why_none(found.trials))
    if train_best and not found.running:
        found = trained_best(found, data, seed, prepare, **options)
    return found


def trained_best(
    found: SearchResult, data: Dataset, seed: int, prepare: Prepare = _as_it_is, **options: Any
) -> SearchResult:
    """Trains the best setting on all training examples, and tests it.

    Args:
        found: the result of a search.
        data: the data set, with all training examples.
        seed: see ``jaxnets.recipes.train``.
        prepare: see ``search``.
        **options: see ``search``.

    Returns:
        The result with ``run`` and ``trained``.
    """
    chosen, weights = _prepared(prepare, found.best_recipe, data)
    given = {"progress": "none", **options}
    run = recipes.train(chosen, seed=seed, data=data, weights=weights, **given)
    return dataclasses.replace(found, run=run, trained=recipes.sized(chosen, data))


def _pruner(pruner: str | None, trainings: int) -> str:
    if pruner is None:
        return "median" if trainings == 1 else "none"
    check_choice("pruner", pruner, studies.PRUNERS)
    if pruner != "none" and trainings > 1:
        raise InputError("pruner", "none, as several seeds or trials train together", pruner)
    return pruner


def _points(
    space: Space, recipe: Recipe, sampler: str, trials: int | None
) -> list[Mapping[str, Any]]:
    """Returns the fixed values of each trial; the sampler draws the others."""
    if trials is not None:
        check_positive("trials", trials)
    if sampler == "grid":
        return list(space.points()[:trials])
    rest: list[Mapping[str, Any]] = [{}] * ((20 if trials is None else trials) - 1)
    return [space.start(recipe), *rest]


def _metric(data: Dataset) -> str:
    """Returns the default metric: the accuracy for classes, the loss for values."""
    labels = data.spec.labels
    classes = hasattr(labels, "dtype") and labels.dtype.kind in "iub" and labels.size == 1
    return "test_accuracy" if classes else "test_loss"


def _held_out(data: Dataset, recipe: Recipe, validation: Any, seed: int) -> Dataset:
    """Splits the training examples; the held-out ones replace the test examples."""
    whole: Any = data.train
    window = recipe.data_options.get("window")
    try:
        if isinstance(window, int):
            train, held = hold_out_last(whole, validation)
            # only windows that end before the first held-out one begins
            train = train.between(0, check_integer("fraction", len(train) - window + 1, least=1))
        else:
            train, held = hold_out(whole, validation, seed)
    except InputError as error:
        if error.argument != "fraction":
            raise
        raise InputError("validation", error.expected, error.got) from error
    return dataclasses.replace(data, train=train, test=held)


def _about(recipe: Recipe, space: Space, data: Dataset) -> dict[str, Any]:
    """Returns the settings that must be the same when a stored search is resumed."""
    settings = runs.settings(recipe)
    kept = {name: value for name, value in settings.items() if name not in _NOT_OF_A_SEARCH}
    return {**kept, "space": str(space), "examples": len(data.train)}


def _why_none(trials: Sequence[Trial]) -> str:
    faults = [trial.fault for trial in trials if trial.fault]
    return faults[-1] if faults else f"{len(trials)} pruned or diverged trials"


@dataclass(frozen=True)
class _Outcome:
    """The outcome of a trial: its values by epoch, and the reason if it is not complete."""

    by_epoch: Sequence[float]
    pruned: bool = False
    diverged: bool = False
    fault: str | None = None


@dataclass(frozen=True)
class _Trainer:
    """Trains the settings of trials."""

    recipe: Recipe
    data: Dataset
    metric: str
    seeds: tuple[int, int]  # the first seed, and the number of seeds
    prepare: Prepare
    options: Mapping[str, Any]

    def one(self, trial: "optuna.Trial", values: Mapping[str, Any]) -> _Outcome:
        """Trains one setting; reports each epoch to Optuna, and stops if the trial is pruned."""
        by_epoch: list[float] = []
        epochs = self.recipe.epochs

        def record_epoch(record: EpochRecord) -> None:
            by_epoch.append(self._value(record))
            trial.report(by_epoch[-1], record.epoch)
            if record.epoch < epochs and trial.should_prune():
                raise StopTraining("pruned")

        recipe, weights = _prepared(self.prepare, applied(self.recipe, values), self.data)
        given = {"progress": "none", **self.options}
        given["callbacks"] = [*given.get("callbacks", ()), record_epoch]
        try:
            recipes.train(recipe, seed=self.seeds[0], data=self.data, weights=weights, **given)
        except NonFiniteLossError:
            return _Outcome(by_epoch, diverged=True)
        return _Outcome(by_epoch, pruned=len(by_epoch) < epochs)

    def several(self, values: Sequence[Mapping[str, Any]]) -> list[_Outcome]:
        """Trains several seeds and learning rates in one program."""
        first, count = self.seeds
        recipe, weights = _prepared(self.prepare, applied(self.recipe, values[0]), self.data)
        rates = [each["lr"] for each in values] if len(values) > 1 else None
        given = {"progress": "none", **self.options, "data": self.data, "weights": weights}
        seeds = range(first, first + count)
        try:
            made = recipes.train_many(recipe, seeds=list(seeds), learning_rates=rates, **given)
        except NonFiniteLossError:
            return [_Outcome((), diverged=True)] * len(values)
        return [self._mean(some.members) for some in made.by_learning_rate.values()]

    def _mean(self, members: Sequence[Any]) -> _Outcome:
        """Averages over the seeds of a trial, which has diverged if one of its seeds has."""
        if any(member.diverged is not None for member in members):
            return _Outcome((), diverged=True)
        each = [[self._value(record) for record in member.history] for member in members]
        return _Outcome(np.mean(each, axis=0).tolist())

    def _value(self, record: EpochRecord) -> float:
        sign = -1 if is_better_smaller(self.metric) else 1
        return sign * goodness(record, self.metric)


class _Search:
    """Runs the trials in the queue."""

    def __init__(
        self,
        study: "optuna.Study",
        space: Space,
        trainer: _Trainer,
        together: int,
        report: Callable[[str], Any] | None,
    ) -> None:
        self._study, self._space, self._trainer = study, space, trainer
        self._together, self._write = together, report

    def run(self, sampler: str, seed: int) -> None:
        """Trains trials until the queue is empty."""
        self._sampler = self._study.sampler = studies.seeded_sampler(sampler, seed)
        studies.retry_lost(self._study)
        while not self._hopeless() and (begun := self._begin()):
            try:
                with studies.Heart(self._study, [trial for trial, _ in begun]):
                    for group in _alike(begun):
                        self._train(group)
            except studies.imported().exceptions.UpdateFinishedTrialError:
                # this process was suspended for so long that another one has taken over its trials
                self._give_up([trial for trial, _ in begun])
            except BaseException:  # the trials are queued again, for a resumed search
                self._give_up([trial for trial, _ in begun])
                raise
            studies.retry_lost(self._study)

    def _hopeless(self) -> bool:
        """Whether all trials so far have failed, and there were at least ``_HOPELESS``."""
        begun = studies.begun(self._study)
        failed = [trial for trial in begun if studies.FAULT in trial.user_attrs]
        return len(failed) == len(begun) >= _HOPELESS

    def _begin(self) -> list[tuple["optuna.Trial", dict[str, Any]]]:
        """Takes trials from the queue; they differ from the first one only in the learning rate."""
        begun: list[tuple[Any, dict[str, Any]]] = []
        self._sampler.fixed = {}
        while len(begun) < self._together and (trial := studies.next_trial(self._study)):
            values = self._space.drawn(trial, self._trainer.recipe)
            trial.set_user_attr(results.VALUES, json.dumps(values))
            begun.append((trial, values))
            self._sampler.fixed = {k: v for k, v in begun[0][0].params.items() if k != "lr"}
        return begun

    def _train(self, group: Sequence[tuple["optuna.Trial", dict[str, Any]]]) -> None:
        """Trains trials that differ only in the learning rate."""
        began = time.perf_counter()
        try:
            if len(group) == 1 and self._trainer.seeds[1] == 1:
                outcomes = [self._trainer.one(*group[0])]
            else:
                outcomes = self._trainer.several([values for _, values in group])
                for (trial, _), outcome in zip(group, outcomes, strict=True):
                    for epoch, value in enumerate(outcome.by_epoch, start=1):
                        trial.report(value, epoch)
        except InputError as error:
            if error.argument in ("metric", "prepare"):  # arguments of the search, not the trial
                raise
            outcomes = [_Outcome((), fault=str(error))] * len(group)
        seconds = (time.perf_counter() - began) / len(group)
        for (trial, _), outcome in zip(group, outcomes, strict=True):
            self._record(trial, outcome, seconds)

    def _record(self, trial: "optuna.Trial", outcome: _Outcome, seconds: float) -> None:
        """Stores the outcome of a trial, and reports it."""
        state = studies.imported().trial.TrialState
        trial.set_user_attr("seconds", seconds)
        if outcome.fault is not None:
            trial.set_user_attr(studies.FAULT, outcome.fault)
            ended = state.FAIL
        elif outcome.pruned or outcome.diverged:
            trial.set_user_attr(results.DIVERGED, outcome.diverged)
            ended = state.PRUNED
        else:
            ended = state.COMPLETE
        value = outcome.by_epoch[-1] if ended == state.COMPLETE else None
        with studies.quiet():
            self._study.tell(trial, value, ended, skip_if_finished=True)
        if self._write is not None:
            self._report_trial(trial.number)

    def _report_trial(self, number: int) -> None:
        assert self._write is not None
        begun = studies.begun(self._study)
        place = [each.number for each in begun].index(number) + 1
        found = results.trial_of(begun[place - 1], place)
        metric, count = self._trainer.metric, self._study.user_attrs[studies.COUNT]
        self._write(f"trial {place}/{count}  {found.line(metric)}")

    def _give_up(self, trials: "Sequence[optuna.Trial]") -> None:
        running = studies.imported().trial.TrialState.RUNNING
        under_way = {each.number for each in self._study.get_trials(states=(running,))}
        for trial in trials:
            if trial.number in under_way:
                studies.give_up(self._study, trial.number)


def _alike(
    begun: Sequence[tuple[Any, dict[str, Any]]],
) -> list[list[tuple[Any, dict[str, Any]]]]:
    """Groups trials that differ only in the learning rate."""
    groups: dict[str, list[Any]] = {}
    for trial, values in begun:
        rest = {name: value for name, value in values.items() if name != "lr"}
        group = groups.setdefault(repr(rest), [])
        if any(values.get("lr") == other.get("lr") for _, other in group):
            group = groups.setdefault(repr(values), [])
        group.append((trial, values))
    return list(groups.values())
