"""The result of a search: its trials, the best of them, a table and a figure."""

import csv
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxnets.arrays import InputError, check_path
from jaxnets.disk import replacing
from jaxnets.figures import new_figure, save, writable
from jaxnets.recipes import Recipe
from jaxnets.search import space as spaces
from jaxnets.search import studies
from jaxnets.training import TrainingRun
from jaxnets.training.records import is_better_smaller

if TYPE_CHECKING:
    import optuna
    from matplotlib.figure import Figure

#: The files of a search's folder.
RECORD, TABLE, FIGURE = "search.json", "trials.csv", "search.png"
State = Literal["complete", "pruned", "diverged", "failed", "running"]
_LEAST = 6  # least number of trials to compute importances
_BEST = 5  # number of trials in the table
_DRAWN = {"complete": ("o", "C0", "complete"), "pruned": ("x", "0.5", "pruned")}


@dataclass(frozen=True)
class Trial:
    """One trial of a search: a setting and its result.

    Attributes:
        number: the number of the trial, from 1.
        values: the values of the parameters, by name.
        state: ``"complete"``; ``"pruned"`` if it was stopped early; ``"diverged"`` if the loss was
            not finite; ``"failed"``, see ``fault``; or ``"running"`` in another process.
        value: the metric on the held-out examples after the last epoch; None if unknown.
        by_epoch: the metric after each epoch; with several seeds, the mean.
        seconds: the duration in seconds.
        fault: the reason of a failure; None if the trial has not failed.
    """

    number: int
    values: Mapping[str, Any]
    state: State
    value: float | None
    by_epoch: tuple[float, ...]
    seconds: float
    fault: str | None = None

    def line(self, metric: str) -> str:
        """Returns the trial as one line.

        Args:
            metric: the name of the metric.
        """
        value = "" if self.value is None else f"{_shown(metric, self.value)}  "
        ended = {
            "complete": "",
            "pruned": f"pruned after epoch {len(self.by_epoch)}  ",
            "failed": f"failed: {self.fault}  ",
        }.get(self.state, f"{self.state}  ")
        return f"{value}{ended}{spaces.in_words(self.values)}  {self.seconds:.1f} s"


@dataclass(frozen=True, eq=False, repr=False)
class SearchResult:
    """The result of a search.

    Attributes:
        recipe: the recipe that was searched.
        metric: the name of the metric, in which ``test_`` means the held-out examples.
        trials: all trials, in order.
        importance: the importance of each parameter for being among the best trials, by Optuna's
            PED-ANOVA, with sum 1; empty for fewer than 6 trials.
        run: the training of the best setting on all training examples; None if it was not trained.
        trained: the recipe of ``run``, with its sizes; None if it was not trained.
    """

    recipe: Recipe
    metric: str
    trials: tuple[Trial, ...]
    importance: Mapping[str, float]
    run: TrainingRun | None = None
    trained: Recipe | None = None

    @property
    def ranked(self) -> list[Trial]:
        """The complete trials, best first."""
        done = [trial for trial in self.trials if trial.state == "complete"]
        sign = 1 if is_better_smaller(self.metric) else -1
        return sorted(done, key=lambda trial: sign * (trial.value or 0.0))

    @property
    def running(self) -> bool:
        """Whether trials are running in other processes."""
        return any(trial.state == "running" for trial in self.trials)

    @property
    def best(self) -> Trial:
        """The best trial; the first of several equally good ones."""
        return self.ranked[0]

    @property
    def best_recipe(self) -> Recipe:
        """The recipe with the values of the best trial."""
        return spaces.applied(self.recipe, self.best.values)

    @property
    def flags(self) -> list[str]:
        """The flags of ``jaxnets train`` for the values of the best trial."""
        return spaces.flags(self.recipe, self.best.values)

    def __repr__(self) -> str:
        return f"SearchResult of {len(self.trials)} trials\n{self.table()}"

    def table(self) -> str:
        """Returns a table of the best five trials."""
        rows = self.ranked[:_BEST]
        names = list(dict.fromkeys(name for trial in rows for name in trial.values))
        head = ["trial", words_of(self.metric), *names]
        cells = [
            [
                str(trial.number),
                _shown(self.metric, trial.value or 0.0),
                *(_cell(trial.values.get(name, "–")) for name in names),
            ]
            for trial in rows
        ]
        widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
        lines = [head, *cells]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            for line in lines
        )

    def record(self) -> dict[str, Any]:
        """Returns the result as a dict, ready for JSON."""
        return {
            "recipe": self.recipe.name,
            "metric": self.metric,
            "best": dataclasses.asdict(self.best) if self.ranked else None,
            "importance": dict(self.importance),
            "trials": [dataclasses.asdict(trial) for trial in self.trials],
        }

    def write(self, directory: Path | str) -> None:
        """Writes ``search.json``, ``trials.csv`` and ``search.png``, and replaces older ones.

        Args:
            directory: an existing folder.

        Raises:
            InputError: if the folder does not exist.
        """
        folder = check_path("directory", directory, "a folder that exists")
        if not folder.is_dir():
            raise InputError("directory", "a folder that exists", str(directory))
        with replacing(folder / RECORD) as partial:
            partial.write_text(json.dumps(self.record(), indent=2) + "\n", encoding="utf-8")
        self.write_csv(folder / TABLE)
        self.plot(folder / FIGURE, title=f"{self.recipe.name}: {len(self.trials)} trials")

    def write_csv(self, path: Path | str) -> None:
        """Writes a CSV file with a row for each trial.

        Args:
            path: the file, which is replaced if it exists.
        """
        names = list(dict.fromkeys(name for trial in self.trials for name in trial.values))
        with replacing(Path(path)) as partial, partial.open("w", newline="") as file:
            writer = csv.writer(file)
            metric = words_of(self.metric).replace(" ", "_")
            writer.writerow(["trial", "state", metric, "epochs", "seconds", *names])
            for trial in self.trials:
                own = [trial.number, trial.state, trial.value, len(trial.by_epoch)]
                values = [trial.values.get(name) for name in names]
                writer.writerow([*own, round(trial.seconds, 3), *values])

    def plot(self, path: Path | str | None = None, title: str = "") -> "Figure":
        """Draws the trials with the best value so far, and the importance of each parameter.

        Args:
            path: a file to save the figure to, in the format of its suffix; None saves nothing.
            title: the title of the figure.

        Returns:
            The Matplotlib figure.
        """
        place = None if path is None else writable(path)
        figure = new_figure(9.0 if self.importance else 6.0, 3.6)
        axes = figure.subplots(1, 2 if self.importance else 1, squeeze=False)[0]
        _draw_trials(axes[0], self)
        if self.importance:
            names = list(self.importance)[::-1]
            bars = axes[1].barh(names, [100 * self.importance[n] for n in names], color="C0")
            axes[1].bar_label(bars, fmt="%.0f %%", padding=3)
            axes[1].set(xlabel="importance (%)", xlim=(0, 112))
            axes[1].grid(alpha=0.3, axis="x")
        figure.suptitle(title)
        if place is not None:
            save(figure, place)
        return figure


def words_of(metric: str) -> str:
    """Returns the name of a metric for a reader, with ``validation`` instead of ``test``."""
    part, _, name = metric.partition("_")
    return f"{'validation' if part == 'test' else part} {name.replace('_', ' ')}"


def _scaled(metric: str) -> float:
    return 100.0 if metric.endswith("accuracy") else 1.0


def _shown(metric: str, value: float) -> str:
    return f"{value:.2%}" if metric.endswith("accuracy") else f"{value:.5g}"


def _cell(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _draw_trials(axes: Any, result: SearchResult) -> None:
    """Draws a mark for each trial, and a line for the best value so far."""
    from matplotlib.ticker import MaxNLocator

    scale, smaller = _scaled(result.metric), is_better_smaller(result.metric)
    known = [t for t in result.trials if t.value is not None and math.isfinite(t.value)]
    best, line = math.inf if smaller else -math.inf, []
    for trial in known:
        if trial.state == "complete":
            assert trial.value is not None
            best = min(best, trial.value) if smaller else max(best, trial.value)
        line.append(scale * best)
    done = [scale * (t.value or 0.0) for t in known if t.state == "complete"]
    low, high = _limits(done, smaller)
    beyond = [t for t in known if not low <= scale * (t.value or 0.0) <= high]
    for state, (marker, color, label) in _DRAWN.items():
        some = [t for t in known if t.state == state and t not in beyond]
        heights = [scale * (t.value or 0.0) for t in some]
        axes.plot([t.number for t in some], heights, marker, color=color, label=label)
    if beyond:
        edge, marker = (high, "^") if smaller else (low, "v")
        places = [t.number for t in beyond]
        axes.plot(places, [edge] * len(places), marker, color="0.5", label="far worse")
    axes.step([t.number for t in known], line, where="post", color="C3", label="best so far")
    unit = " (%)" if scale != 1 else ""
    axes.set_xlim(0.5, len(result.trials) + 0.5)
    axes.set(xlabel="trial", ylabel=words_of(result.metric) + unit)
    margin = 0.06 * (high - low)
    axes.set_ylim(low - margin, high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "frameon": False}
    axes.legend(ncols=4, fontsize="small", columnspacing=1.2, handletextpad=0.4, **above)


def _limits(values: Sequence[float], smaller: bool) -> tuple[float, float]:
    """Returns the limits of the axis, which exclude values far worse than the median."""
    ordered = sorted(values, reverse=not smaller)
    best, middle = ordered[0], ordered[(len(ordered) - 1) // 2]
    edge = best + 4 * (middle - best)
    worst = min(ordered[-1], edge) if smaller else max(ordered[-1], edge)
    if worst == best:
        worst = best + (1 if smaller else -1)
    return min(best, worst), max(best, worst)


def trials_of(study: "optuna.Study") -> tuple[Trial, ...]:
    """Returns the trials of a study that have begun, except for those of crashed processes."""
    numbered = enumerate(studies.begun(study), start=1)
    return tuple(trial_of(each, number) for number, each in numbered)


#: The keys under which a trial stores its values, as trained, and whether it diverged.
VALUES, DIVERGED = "values", "diverged"


def trial_of(found: "optuna.trial.FrozenTrial", number: int) -> Trial:
    """Converts a trial of Optuna.

    Args:
        found: Optuna's trial.
        number: its number, from 1.
    """
    kept = found.user_attrs
    name = found.state.name.lower()
    state: Any = {"fail": "failed"}.get(name, name)
    if kept.get(DIVERGED):
        state = "diverged"
    took = found.duration.total_seconds() if found.duration is not None else 0.0
    values = json.loads(kept[VALUES]) if VALUES in kept else found.params
    return Trial(
        number=number,
        values={n: tuple(v) if isinstance(v, list) else v for n, v in values.items()},
        state=state,
        value=found.value if state in ("complete", "pruned") else None,
        by_epoch=tuple(found.intermediate_values[e] for e in sorted(found.intermediate_values)),
        seconds=kept.get("seconds", took),
        fault=kept.get(studies.FAULT),
    )


def importances(study: "optuna.Study") -> dict[str, float]:
    """Computes the importance of each parameter for being among the best quarter, with sum 1.

    It is Optuna's PED-ANOVA, which, unlike fANOVA, does not need scikit-learn. A pruned trial has
    its last value, a diverged one the worst value of all.
    """
    optuna = studies.imported()
    state = optuna.trial.TrialState
    ended = study.get_trials(deepcopy=False, states=(state.COMPLETE, state.PRUNED))
    values = [None if each.user_attrs.get(DIVERGED) else each.value for each in ended]
    known = [value for value in values if value is not None]
    if len(known) < _LEAST:
        return {}
    grows = study.direction == optuna.study.StudyDirection.MAXIMIZE
    worst = min(known) if grows else max(known)
    with studies.quiet():
        every = optuna.create_study(direction=study.direction)
        for trial, value in zip(ended, values, strict=True):
            given = {"params": trial.params, "distributions": trial.distributions}
            value = worst if value is None else value
            every.add_trial(optuna.trial.create_trial(**given, value=value))
        judge = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25)
        found = optuna.importance.get_param_importances(every, evaluator=judge)
    return {name: float(share) for name, share in found.items()}
