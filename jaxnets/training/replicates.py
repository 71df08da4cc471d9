"""Runs that differ in seed or learning rate alone, and what they say together."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from jaxnets.training.loop import NonFiniteLossError
from jaxnets.training.records import Timings, TrainingRun

CONFIDENCE = 0.95
_SHOWN = 6  # learning rates, of which a person reads the results


@dataclass(frozen=True)
class Summary:
    """Some values of the same kind, as a sample of what other seeds would give.

    Attributes:
        mean: their mean.
        std: their standard deviation, with n - 1 below the sum; None of a single value.
        interval: the 95 % confidence interval of the mean, by Student's t; None of a single value.
        count: how many there are.
    """

    mean: float
    std: float | None
    interval: tuple[float, float] | None
    count: int

    def in_words(self, form: str) -> str:
        """Mean, standard deviation and interval, each number in a format such as ``".2%"``."""
        words = f"mean {self.mean:{form}}"
        if self.std is None or self.interval is None:
            return words
        low, high = (f"{end:{form}}" for end in self.interval)
        return f"{words} ± {self.std:{form}} (n = {self.count}), 95 % interval {low} to {high}"

    @staticmethod
    def of(values: Iterable[float | None]) -> "Summary | None":
        """The summary of some values; None if there are none."""
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
    """One of many runs that were trained at once; the timings are those of all together.

    Attributes:
        seed: its seed.
        learning_rate: its learning rate; None for the optimizer's own.
        diverged: where its loss was not finite; None if it always was. The losses and the history
            end there, and ``test`` is what became of it.
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
    """Many runs that were trained at once.

    Attributes:
        members: one for each learning rate and seed; those of a learning rate follow one another.
        timings: of all together.
        examples_per_second: of training, those of all members counted.
        device: where they ran.
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
        found = [f"{k} {s.in_words(form)}" for k, (s, form) in kinds.items() if s is not None]
        return found + ([f"{len(self.diverged)} diverged"] if self.diverged else [])

    @property
    def diverged(self) -> tuple[MemberRun, ...]:
        """The members that diverged, which no summary counts."""
        return tuple(member for member in self.members if member.diverged is not None)

    @property
    def accuracy(self) -> Summary | None:
        """Of the test accuracies; None for regression, or if all have diverged."""
        return Summary.of(member.test.accuracy for member in self._sound)

    @property
    def loss(self) -> Summary | None:
        """Of the test losses; None if all have diverged."""
        return Summary.of(member.test.loss for member in self._sound)

    @property
    def by_learning_rate(self) -> dict[float | None, "TrainingRuns"]:
        """The members of each learning rate, in the order in which they were given."""
        rates = dict.fromkeys(member.learning_rate for member in self.members)
        return {rate: dataclasses.replace(self, members=self._of(rate)) for rate in rates}

    def _of(self, rate: float | None) -> tuple[MemberRun, ...]:
        return tuple(member for member in self.members if member.learning_rate == rate)

    @property
    def _sound(self) -> Sequence[MemberRun]:
        return [member for member in self.members if member.diverged is None]
