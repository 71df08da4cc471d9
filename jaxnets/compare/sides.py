"""The interface of a framework in a comparison, and the training loop over epochs."""

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

EVALUATED = 1000  # batch size of the evaluation, as in ``fit``
_PIECES = 16  # number of progress reports in an epoch

#: A function of the number of steps done since its last call, and of the last step's loss.
Advance = Callable[[int, float], None]


class Training(Protocol):
    """A run of another framework in progress.

    Attributes:
        compile_seconds: time spent on compilation before the first step.
    """

    compile_seconds: float

    def epoch(self, number: int, advance: Advance) -> tuple[np.ndarray, float]:
        """Trains an epoch; returns the loss of each step, and the seconds of all steps."""

    def evaluate(self) -> tuple[float, np.ndarray]:
        """Returns the mean loss over the test examples, and their outputs, [..., classes]."""


class Other(Protocol):
    """The framework that jaxnets is compared with.

    Attributes:
        framework: see ``Side``.
        takes_weights: whether its networks can start from the weights of the jaxnets network.
        threads: number of CPU threads; None if the framework chooses it.
    """

    framework: str
    takes_weights: bool
    threads: int | None

    def check(self, model: nnx.Module) -> None:
        """Checks that the framework's network can start from the weights of ``model``."""

    def at_work(self) -> contextlib.AbstractContextManager[None]:
        """Sets the number of threads and the random state within a context."""

    def begin(self, seed: int, weights: nnx.Module | None) -> Training:
        """Starts a run from the weights of a jaxnets network; None for random weights."""


def train(other: Other, training: Training, this: Experiment, seed: int, report: Reporter) -> Side:
    """Trains all epochs, with an evaluation after each.

    Args:
        other: the framework.
        training: its run.
        this: the experiment.
        seed: the seed.
        report: reports the progress.
    """
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
    """Returns the number of steps between two progress reports."""
    return -(-steps // _PIECES)


def order(this: Experiment, seed: int, number: int, *, paired: bool) -> list[np.ndarray]:
    """Returns the rows of each batch of an epoch; if not paired, in an order unlike jaxnets'."""
    plan = this.plan(seed if paired else seed + 2**31, number)  # a seed that jaxnets never uses
    return [*plan.full, *([plan.rest] if len(plan.rest) else [])]


def sizes(plan: Plan) -> np.ndarray:
    """Returns the number of examples of each step of an epoch."""
    rest = [len(plan.rest)] if len(plan.rest) else []
    return np.array([plan.full.shape[1]] * len(plan.full) + rest)


def predicted(outputs: np.ndarray, this: Experiment) -> np.ndarray | None:
    """Returns the predicted classes, as in ``jaxnets.metrics``; None for regression.

    Args:
        outputs: the outputs for the test examples, [..., classes].
        this: the experiment.
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
    """Returns the share of correct predictions among examples whose label is not ignored."""
    function, options = unwrapped(this.loss)
    labels = this.test.labels
    counts = np.full(labels.shape, True)
    if function in OF_CLASSES:
        counts = labels != options.get("ignore_index", IGNORED)
    right = np.sum((found == labels) & counts)
    return float(Ratio(right[None], np.sum(counts)[None]).over())


class Clock:
    """A context manager that sums the seconds spent in it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> "Clock":
        """Starts the clock."""
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops the clock."""
        self.seconds += time.perf_counter() - self._began
