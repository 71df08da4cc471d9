"""Several runs trained in one program, one for each seed and learning rate, and their summary."""

import dataclasses
import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxnets import optimizers
from jaxnets.arrays import (
    InputError,
    called,
    check_number,
    check_positive,
    check_seed,
    entries,
    shown,
)
from jaxnets.data.streaming import StreamedSplit
from jaxnets.training.batching import Batching
from jaxnets.training.evaluation import check_model
from jaxnets.training.loop import Member, NonFiniteLossError
from jaxnets.training.minimize import Minimize
from jaxnets.training.records import Timings, TrainingRun, check_metric
from jaxnets.training.saving import Journal
from jaxnets.training.state import TrainState, initialize
from jaxnets.training.steps import Step

#: A function that makes a model and draws its initial weights from these streams.
Build = Callable[[nnx.Rngs], nnx.Module]
# Other generators draw other numbers under ``vmap`` than for each key alone.
_GENERATOR = "threefry2x32"
_PROBE = 0.271828
CONFIDENCE = 0.95
_SHOWN = 6  # number of learning rates in ``repr``


@dataclass(frozen=True)
class Summary:
    """The mean and spread of a value over seeds.

    Attributes:
        mean: the mean.
        std: the sample standard deviation (with n - 1); None for a single value.
        interval: the 95 % confidence interval of the mean, by Student's t; None for a single value.
        count: number of values.
    """

    mean: float
    std: float | None
    interval: tuple[float, float] | None
    count: int

    def in_words(self, form: str) -> str:
        """Formats mean, standard deviation and interval with a format such as ``".2%"``."""
        words = f"mean {self.mean:{form}}"
        if self.std is None or self.interval is None:
            return words
        low, high = (f"{end:{form}}" for end in self.interval)
        return f"{words} ± {self.std:{form}} (n = {self.count}), 95 % interval {low} to {high}"

    @staticmethod
    def of(values: Iterable[float | None]) -> "Summary | None":
        """Summarizes the values that are not None; returns None if there are none."""
        known = np.array([value for value in values if value is not None], np.float64)
        if not len(known):
            return None
        mean, count = float(known.mean()), len(known)
        if count == 1:
            return Summary(mean, None, None, count)
        from scipy.special import stdtrit

        std = float(known.std(ddof=1))
        half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * std / math.sqrt(count)
        return Summary(mean, std, (mean - half, mean + half), count)


@dataclass(frozen=True, kw_only=True, repr=False)
class MemberRun(TrainingRun):
    """One of several runs trained together; ``timings`` is the time of all runs.

    Attributes:
        seed: the seed of the run.
        learning_rate: the learning rate of the run; None for the optimizer's own.
        diverged: the error with the step at which the loss was not finite; None if it always was.
            ``step_losses`` and ``history`` end there, and ``test`` evaluates the diverged weights.
    """

    seed: int
    learning_rate: float | None
    diverged: NonFiniteLossError | None

    def _lines(self) -> list[str]:
        head, *lines = super()._lines()
        rate = "" if self.learning_rate is None else f", learning rate {self.learning_rate:g}"
        ended = [] if self.diverged is None else [f"diverged: {self.diverged}"]
        return [head, f"seed {self.seed}{rate}", *lines, *ended]


@dataclass(frozen=True, repr=False)
class TrainingRuns:
    """The results of several runs trained together.

    Attributes:
        members: one run for each learning rate and seed, grouped by learning rate.
        timings: the time of all runs together.
        examples_per_second: training speed, summed over all runs.
        device: name and number of the devices.
    """

    members: tuple[MemberRun, ...]
    timings: Timings
    examples_per_second: float
    device: str

    def __repr__(self) -> str:
        model = type(self.members[0].model).__name__ if self.members else "nothing"
        lines = [f"TrainingRuns: {len(self.members)} of {model} on {self.device}"]
        for rate, some in list(self.by_learning_rate.items())[:_SHOWN]:
            of = "" if rate is None else f"learning rate {rate:g}: "
            lines += [f"{of}{text}" for text in some._results()]
        if len(self.by_learning_rate) > _SHOWN:
            lines.append(f"and {len(self.by_learning_rate) - _SHOWN} more learning rates")
        return "\n  ".join(lines)

    def _results(self) -> list[str]:
        kinds = {"test accuracy": (self.accuracy, ".2%"), "test loss": (self.loss, ".4f")}
        if self.loss is None:
            kinds = {"train loss": (self.summary("train_loss"), ".4f")}
        found = [f"{k} {s.in_words(form)}" for k, (s, form) in kinds.items() if s is not None]
        return found + ([f"{len(self.diverged)} diverged"] if self.diverged else [])

    @property
    def diverged(self) -> tuple[MemberRun, ...]:
        """The members that diverged; summaries do not include them."""
        return tuple(member for member in self.members if member.diverged is not None)

    @property
    def accuracy(self) -> Summary | None:
        """The summary of the test accuracies; None for regression, or if every member diverged."""
        return self._of_tests(lambda test: test.accuracy)

    @property
    def loss(self) -> Summary | None:
        """The summary of the test losses; None without a test split, or if all members diverged."""
        return self._of_tests(lambda test: test.loss)

    def summary(self, metric: str) -> Summary | None:
        """Summarizes a scalar metric of the last epoch.

        Args:
            metric: the full name of the metric, such as ``"test_f1"``.

        Returns:
            The summary over the members that did not diverge; None if the metric was not measured.
        """
        values = [member.epoch.value(check_metric(metric)) for member in self._not_diverged]
        return Summary.of(value for value in values if not np.ndim(value))

    def _of_tests(self, value: Callable[[Any], float | None]) -> Summary | None:
        tests = [member.test for member in self._not_diverged if member.test is not None]
        return Summary.of(map(value, tests))

    @property
    def by_learning_rate(self) -> dict[float | None, "TrainingRuns"]:
        """The members grouped by learning rate, in the order of ``learning_rates``."""
        rates = dict.fromkeys(member.learning_rate for member in self.members)
        return {rate: dataclasses.replace(self, members=self._of(rate)) for rate in rates}

    def _of(self, rate: float | None) -> tuple[MemberRun, ...]:
        return tuple(member for member in self.members if member.learning_rate == rate)

    @property
    def _not_diverged(self) -> Sequence[MemberRun]:
        return [member for member in self.members if member.diverged is None]

    @staticmethod
    def of(members: Sequence[Member], runs: Sequence[TrainingRun]) -> "TrainingRuns":
        """Combines a loop's members and their results."""
        made = []
        for member, run in zip(members, runs, strict=True):
            own = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
            rate, diverged = member.learning_rate, member.diverged
            made.append(MemberRun(**own, seed=member.seed, learning_rate=rate, diverged=diverged))
        first = runs[0]
        speed = first.examples_per_second * len(runs)
        return TrainingRuns(tuple(made), first.timings, speed, first.device)


def begun_members(
    step: Step, batching: Batching, build: Any, seeds: Any, learning_rates: Any
) -> list[Member]:
    """Makes a member with an initial state for each learning rate and seed; see ``fit``.

    Raises:
        InputError: if an argument is invalid, or cannot be combined with ``seeds``.
    """
    if seeds is None:
        raise InputError("seeds", "seeds or their number, with learning_rates", seeds)
    if jax.process_count() > 1:
        raise InputError("seeds", "None with several processes", seeds)
    chosen = _checked_seeds(seeds)
    rates = None if learning_rates is None else _checked_rates(learning_rates)
    _check_batching(batching)
    if isinstance(build, nnx.Module) or not callable(build):
        expected = "a function of nnx.Rngs that makes the model, with seeds"
        raise InputError("model", expected, f"a {type(build).__name__}")
    begun = _begun(step, build, chosen)
    if rates is not None:
        _check_rate_counts(step, begun[0])
    # Each model is made once per seed and shared by all learning rates.
    pairs = itertools.product(rates or [None], range(len(chosen)))  # type: ignore[list-item]
    return [
        Member(chosen[place], Journal(_with_rate(begun[place], rate)), rate)
        for rate, place in pairs
    ]


def stacked(members: Sequence[Member]) -> TrainState:
    """Stacks the states of all members into one, each array [members, …]."""
    states = [member.journal.state for member in members]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def _checked_seeds(seeds: Any) -> list[int]:
    given = entries(seeds)
    if given is None:
        return list(range(check_positive("seeds", seeds)))
    checked = [check_seed("seeds", seed) for seed in given]
    if not checked or len(set(checked)) < len(checked):
        raise InputError("seeds", "a number of seeds, or different seeds", seeds)
    return checked


def _checked_rates(rates: Any) -> list[float]:
    expected = "different learning rates"
    checked = [check_number("learning_rates", rate, least=0) for rate in entries(rates) or ()]
    if not checked or len(set(checked)) < len(checked):
        raise InputError("learning_rates", expected, rates)
    return checked


def _check_batching(batching: Batching) -> None:
    """Checks that every member's batches have the same shapes."""
    if batching.buckets not in (None, 1):
        raise InputError("buckets", "None or 1 with seeds", batching.buckets)
    for split in batching.data.splits.values():
        if isinstance(split, StreamedSplit):
            raise InputError("data", "splits in memory with seeds", "a streamed split")


def _begun(step: Step, build: Build, seeds: Sequence[int]) -> list[TrainState]:
    """Returns the initial state of each seed."""
    made = []
    for seed in seeds:
        model = built(build, seed)
        check_model(model)
        made.append(initialize(model, step, seed))
    # A model may choose its structure by random numbers, which ``vmap`` cannot express.
    first = made[0]
    for seed, state in zip(seeds, made, strict=True):
        if _shapes(state) != _shapes(first):
            got = f"different shapes for seeds {seed} and {seeds[0]}"
            raise InputError("model", "arrays of the same shapes for every seed", got)
    _check_generators(first)
    # All states get the static parts of the first, because ``stacked`` requires equal structures.
    like = jax.tree.structure(first)
    return [jax.tree.unflatten(like, jax.tree.leaves(state)) for state in made]


def built(build: Build, seed: int) -> nnx.Module:
    """Calls a function of ``nnx.Rngs`` with a seed; returns the model."""
    return called(
        "model", "a function of nnx.Rngs that makes a model", _made, build, seed, got=shown(build)
    )


def _made(build: Build, seed: int) -> nnx.Module:
    parameters = inspect.signature(build).parameters.values()
    several = inspect.Parameter.VAR_KEYWORD  # all that the signature of some classes shows
    by_name = any(each.name == "rngs" or each.kind is several for each in parameters)
    rngs = nnx.Rngs(seed)
    return build(rngs=rngs) if by_name else build(rngs)  # type: ignore[call-arg]


def _shapes(state: TrainState) -> list[Any]:
    leaves = jax.tree.leaves_with_path(state)
    return [(jax.tree_util.keystr(path), leaf.shape, leaf.dtype) for path, leaf in leaves]


def _check_generators(state: TrainState) -> None:
    for leaf in jax.tree.leaves(state):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            kind = str(jax.random.key_impl(leaf))
            if kind != _GENERATOR:
                raise InputError("seeds", f"None except with {_GENERATOR} keys", f"{kind} keys")


def _check_rate_counts(step: Step, state: TrainState) -> None:
    """Checks that the optimizer reads the learning rate from its state."""
    expected = "one of jaxnets.optimizers, with learning_rates"
    if not isinstance(step, Minimize):
        raise InputError("step", "one made by minimize, with learning_rates", "another")
    try:
        before = optimizers.set_learning_rate(state.optimizer_state, _PROBE)
    except InputError as error:
        raise InputError("optimizer", expected, "another") from error
    # A schedule overwrites the learning rate in the state at the first update.
    trained = nnx.split(state.model, step.wrt, ...)[1]
    nothing = jax.tree.map(jnp.zeros_like, trained)
    update = optax.with_extra_args_support(step.optimizer).update
    _, after = update(nothing, before, trained, value=jnp.zeros(()), grad=nothing)
    rates = optimizers.learning_rates
    if any(old != new for old, new in zip(rates(before), rates(after), strict=True)):
        expected = "one without a schedule, with learning_rates"
        raise InputError("optimizer", expected, "one that follows a schedule")


def _with_rate(state: TrainState, rate: float | None) -> TrainState:
    """Sets the learning rate in a state; returns the state itself if ``rate`` is None."""
    if rate is None:
        return state
    changed = optimizers.set_learning_rate(state.optimizer_state, rate)
    return dataclasses.replace(state, optimizer_state=changed)
