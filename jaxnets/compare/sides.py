"""The training of one framework, whichever it is, and what is noted of it."""

import contextlib
import time
from collections.abc import Callable
from typing import Protocol

import numpy as np
from flax import nnx

from jaxnets import losses
from jaxnets.compare.experiment import Experiment
from jaxnets.compare.records import Side
from jaxnets.data.batching import Plan
from jaxnets.metrics import Ratio
from jaxnets.training.labels import IGNORED, OF_CLASSES, OF_QUANTITIES, unwrapped
from jaxnets.training.progress import Reporter
from jaxnets.training.records import EpochRecord

EVALUATED = 1000  # test examples at a time, as ``fit`` has them
_PIECES = 16  # in which an epoch is reported

#: Is told that so many more steps are done, the last with this loss.
Advance = Callable[[int, float], None]


class Training(Protocol):
    """A run of another framework under way.

    Attributes:
        compile_seconds: what was spent once so far, before the first step.
    """

    compile_seconds: float

    def epoch(self, number: int, advance: Advance) -> tuple[np.ndarray, float]:
        """Trains an epoch: the loss of each step, and the seconds of all."""

    def evaluate(self) -> tuple[float, np.ndarray]:
        """The mean loss over the test examples, and the outputs for them, classes last."""


class Other(Protocol):
    """The framework that ours is compared with.

    Attributes:
        framework: see ``Side``.
        takes_weights: whether it can begin with the weights of our network.
        threads: with how many it computes; None where that is its own affair.
    """

    framework: str
    takes_weights: bool
    threads: int | None

    def check(self, model: nnx.Module) -> None:
        """Raises unless it can begin with this network's weights."""

    def at_work(self) -> contextlib.AbstractContextManager[None]:
        """Sets what it computes with, and sets it back."""

    def begin(self, seed: int, weights: nnx.Module | None) -> Training:
        """A run from the weights of our network, or from weights that it draws itself."""


def train(other: Other, training: Training, this: Experiment, seed: int, report: Reporter) -> Side:
    """Takes a run through all epochs."""
    steps: list[np.ndarray] = []
    means: list[float] = []
    tests: list[float] = []
    scores: list[float | None] = []
    found = None
    for number in range(this.epochs):
        lost, seconds = training.epoch(number, report.advance)
        steps.append(lost)
        means.append(this.mean_loss(lost, sizes(this.plan(seed, number))))
        test, outputs = training.evaluate()
        found = predicted(outputs, this)
        tests.append(test)
        scores.append(None if found is None else accuracy(found, this))
        tested = {"loss": test} | ({} if scores[-1] is None else {"accuracy": scores[-1]})
        report.epoch(EpochRecord(number + 1, {"loss": means[-1]}, tested, seconds))
    return Side(
        framework=other.framework,
        seed=seed,
        step_losses=np.concatenate(steps),
        train_loss=np.array(means),
        test_loss=np.array(tests),
        test_accuracy=None if found is None else np.array(scores, float),
        predictions=found,
    )


def together(steps: int) -> int:
    """How many steps of an epoch are reported at a time."""
    return -(-steps // _PIECES)


def order(this: Experiment, seed: int, number: int, *, paired: bool) -> list[np.ndarray]:
    """The examples of each batch of an epoch: ours, or of an order that none of ours is."""
    plan = this.plan(seed if paired else seed + 2**31, number)
    return [*plan.full, *([plan.rest] if len(plan.rest) else [])]


def sizes(plan: Plan) -> np.ndarray:
    """How many examples each step of an epoch has."""
    rest = [len(plan.rest)] if len(plan.rest) else []
    return np.array([plan.full.shape[1]] * len(plan.full) + rest)


def predicted(outputs: np.ndarray, this: Experiment) -> np.ndarray | None:
    """The classes that outputs stand for, as ``jaxnets.metrics`` counts; None for regression.

    Args:
        outputs: of the test examples, classes last.
        this: what is trained.
    """
    labels = this.test.labels
    function, _ = unwrapped(this.loss)
    if function in OF_QUANTITIES or labels.dtype.kind == "f":
        return None
    if outputs.shape == labels.shape or outputs.shape == (*labels.shape, 1):
        threshold = 0 if function is losses.binary_cross_entropy_with_logits else 0.5
        return (outputs.reshape(labels.shape) >= threshold).astype(np.int64)
    return outputs.argmax(-1)


def accuracy(found: np.ndarray, this: Experiment) -> float:
    """The share of predictions that are right, of those whose label the loss does not ignore."""
    function, options = unwrapped(this.loss)
    labels = this.test.labels
    counts = np.full(labels.shape, True)
    if function in OF_CLASSES:
        counts = labels != options.get("ignore_index", IGNORED)
    right = np.sum((found == labels) & counts)
    return float(Ratio(right[None], np.sum(counts)[None]).over())


class Clock:
    """Adds up the seconds in which it runs."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> "Clock":
        """Starts."""
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops."""
        self.seconds += time.perf_counter() - self._began
