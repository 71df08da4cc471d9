"""What a training run leaves behind."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from flax import nnx

from jaxnets.arrays import InputError
from jaxnets.training.state import TrainState

#: What tells how good an epoch is. A loss is better the smaller, an accuracy the larger.
Metric = Literal["test_loss", "test_accuracy", "train_loss", "train_accuracy"]


@dataclass(frozen=True)
class Evaluation:
    """How a model does on every example of a split.

    Attributes:
        loss: mean loss over the examples.
        correct: correct predictions; None where the notion has no meaning.
        total: predictions: as many as examples or, where labels are classes at each position,
            as positions.
    """

    loss: float
    correct: int | None
    total: int

    @property
    def accuracy(self) -> float | None:
        """The share of correct predictions, in [0, 1]."""
        return None if self.correct is None else self.correct / self.total


@dataclass(frozen=True)
class EpochRecord:
    """One epoch.

    Attributes:
        epoch: counted from 1.
        train_loss: mean over the epoch's examples, each measured before its step's update.
        train_accuracy: likewise, in [0, 1]; None for regression.
        test_loss: after the epoch, over every test example.
        test_accuracy: likewise.
        seconds: training time of the epoch, without compilation and evaluation.
        skipped: steps whose update was left out, as the loss or the gradient was not finite; the
            means are over the others.
    """

    epoch: int
    train_loss: float
    train_accuracy: float | None
    test_loss: float
    test_accuracy: float | None
    seconds: float
    skipped: int = 0


def goodness(record: EpochRecord, metric: Metric) -> float:
    """How good an epoch is by a metric: larger is better.

    Raises:
        InputError: if the run does not measure the metric.
    """
    value = getattr(record, metric)
    if value is None:
        raise InputError("metric", "one that the run measures", metric)
    return -value if metric.endswith("loss") else value


def best_epoch(history: Sequence[EpochRecord], metric: Metric) -> int:
    """The number of the best epoch, counted from 1; of equally good ones the last."""
    return max((goodness(record, metric), record.epoch) for record in history)[1]


@dataclass(frozen=True)
class Timings:
    """Where the time of a run went, in seconds.

    Attributes:
        compile_seconds: tracing and compiling.
        train_seconds: training steps alone.
        evaluate_seconds: evaluation after each epoch.
    """

    compile_seconds: float
    train_seconds: float
    evaluate_seconds: float


@dataclass(frozen=True)
class TrainingRun:
    """A finished run.

    Attributes:
        model: the trained model, in evaluation mode.
        state: the state after the last step, or after the best epoch if that is restored.
        history: one record an epoch.
        step_losses: the loss of each step, float [steps]; not finite at most where it was skipped.
        test: the evaluation of ``model``.
        timings: compilation apart from training.
        examples_per_second: of training.
        device: where it ran.
        stopped: why a callback ended it before its last epoch; None if none did.
        restored: the best epoch, whose weights ``model`` has; None if it has the last ones.
    """

    model: nnx.Module
    state: TrainState
    history: tuple[EpochRecord, ...]
    step_losses: np.ndarray
    test: Evaluation
    timings: Timings
    examples_per_second: float
    device: str
    stopped: str | None = None
    restored: int | None = None

    @property
    def epoch(self) -> EpochRecord:
        """The record of the epoch whose weights ``model`` has."""
        return self.history[-1 if self.restored is None else self.restored - 1]


def count_parameters(model: nnx.Module) -> int:
    """How many numbers training changes.

    Args:
        model: any ``nnx.Module``.

    Returns:
        The elements of all its ``nnx.Param``, together.
    """
    return sum(value.size for value in nnx.to_flat_state(nnx.state(model, nnx.Param)).leaves)


def history_rows(history: Sequence[EpochRecord]) -> list[dict[str, Any]]:
    """The history as plain values, ready for JSON."""
    return [asdict(record) for record in history]


def write_history(history: Sequence[EpochRecord], path: Path | str) -> None:
    """Writes the history as CSV, one line an epoch; a value that does not exist stays empty.

    Args:
        history: that of a run.
        path: where to, replacing what is there.
    """
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(EpochRecord)])
        writer.writeheader()
        writer.writerows(history_rows(history))


def plot_history(history: Sequence[EpochRecord], path: Path | str, title: str = "") -> None:
    """Draws the curves of loss and, where there is one, accuracy, as a PNG.

    Args:
        history: that of a run; losses in the loss' own unit, accuracies in percent.
        path: where to, replacing what is there.
        title: what stands above.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    curves = {"loss": [("train", "train_loss"), ("test", "test_loss")]}
    if history and history[0].test_accuracy is not None:
        curves["accuracy (%)"] = [("train", "train_accuracy"), ("test", "test_accuracy")]
    figure = Figure(figsize=(4.5 * len(curves), 3.5), layout="constrained")
    epochs = [record.epoch for record in history]
    for axes, (label, lines) in zip(
        figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True
    ):
        scale = 1 if label == "loss" else 100
        for name, attribute in lines:
            values = [scale * getattr(record, attribute) for record in history]
            axes.plot(epochs, values, marker="o", markersize=4, label=name)
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
