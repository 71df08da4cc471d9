"""What a training run leaves behind."""

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, check_integer, check_number, check_path
from jaxnets.training.state import TrainState


def share(correct: int, total: int) -> float:
    """The share of correct predictions; NaN of no prediction."""
    return correct / total if total else math.nan


def mean_loss(losses: np.ndarray, sizes: np.ndarray, adds_up: bool) -> float:
    """The mean loss over the examples.

    Args:
        losses: of some batches.
        sizes: examples in each batch.
        adds_up: whether a batch's loss is a sum over its examples, and not a mean.
    """
    if adds_up:
        return float(np.sum(losses, dtype=np.float64) / np.sum(sizes))
    return float(np.average(losses.astype(np.float64), weights=sizes))


@dataclass(frozen=True)
class Evaluation:
    """How a model does on every example of a split.

    Attributes:
        loss: mean loss over the examples; see ``fit``.
        correct: correct predictions; None where the notion has no meaning.
        total: out of how many: see ``correct`` of ``fit``; the number of examples where there are
            no correct predictions.
    """

    loss: float
    correct: int | None
    total: int

    @property
    def accuracy(self) -> float | None:
        """The share of correct predictions, in [0, 1]; NaN of no prediction."""
        return None if self.correct is None else share(self.correct, self.total)


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


def check_record(record: EpochRecord, epoch: int) -> None:
    """Checks the values of a record that was read from a file.

    Args:
        record: what was read.
        epoch: which epoch's it should be.

    Raises:
        InputError: naming the value that is wrong.
    """
    check_integer("epoch", record.epoch, least=epoch, most=epoch)
    check_integer("skipped", record.skipped, least=0)
    for name in ("train_loss", "test_loss", "seconds"):
        check_number(name, getattr(record, name))
    for name in ("train_accuracy", "test_accuracy"):
        value = getattr(record, name)
        if value is not None and not (isinstance(value, float) and math.isnan(value)):
            check_number(name, value, least=0, most=1)


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
        state: the state after the last step.
        history: one record an epoch.
        step_losses: the loss of each step, float [steps]; not finite at most where it was skipped.
        test: the final evaluation.
        timings: compilation apart from training.
        examples_per_second: of training.
        device: where it ran.
        stopped: why a callback ended it before its last epoch; None if none did.
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


def count_parameters(model: nnx.Module) -> int:
    """How many numbers training changes.

    Args:
        model: any ``nnx.Module``.

    Returns:
        The elements of all its ``nnx.Param``, together.

    Raises:
        InputError: if the model is none.
    """
    if not isinstance(model, nnx.Module):
        raise InputError("model", "an nnx.Module", model)
    return sum(value.size for value in nnx.to_flat_state(nnx.state(model, nnx.Param)).leaves)


def history_rows(history: Sequence[EpochRecord]) -> list[dict[str, Any]]:
    """The history as plain values, ready for JSON."""
    return [asdict(record) for record in history]


def write_history(history: Sequence[EpochRecord], path: Path | str) -> None:
    """Writes the history as CSV, one line an epoch; a value that does not exist stays empty.

    Args:
        history: that of a run.
        path: where to, replacing what is there.

    Raises:
        InputError: if the history is none, or the file is not in a folder that exists.
    """
    _check_history(history)
    with _writable(path).open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(EpochRecord)])
        writer.writeheader()
        writer.writerows(history_rows(history))


def plot_history(history: Sequence[EpochRecord], path: Path | str, title: str = "") -> None:
    """Draws the curves of loss and, where there is one, accuracy, as a PNG.

    Args:
        history: that of a run; losses in the loss' own unit, accuracies in percent.
        path: where to, replacing what is there.
        title: what stands above.

    Raises:
        InputError: if the history is none, or the file is not in a folder that exists.
    """
    _check_history(history)
    place = _writable(path)
    if not isinstance(title, str):
        raise InputError("title", "a string", title)
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
    figure.savefig(place, dpi=150, format="png")


def _check_history(history: Any) -> None:
    if not isinstance(history, Sequence) or not all(isinstance(e, EpochRecord) for e in history):
        raise InputError("history", "a sequence of EpochRecord", history)


def _writable(path: Any) -> Path:
    place = check_path("path", path, "a file")
    if place.is_dir() or not place.parent.is_dir():
        raise InputError("path", "a file in a folder that exists", str(path))
    return place
