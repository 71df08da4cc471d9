"""What a training run leaves behind."""

import contextlib
import csv
import functools
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import InputError
from jaxnets.data import Dataset, StandardizedDataset, Standardizer
from jaxnets.data.text import TextDataset, TextEncoder
from jaxnets.data.transforms import Transform
from jaxnets.data.transforms.record import describe_transform
from jaxnets.training.folders import check_path, new_folder
from jaxnets.training.state import TrainState
from jaxnets.training.weights import save_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The files of a run's folder.
RECORD, WEIGHTS, TEXT = "run.json", "weights", "text.json"
_PACKAGES = ("jaxnets", "jax", "jaxlib", "flax", "optax", "numpy")

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
class Task:
    """What a model takes and gives: of the data what it needs to be used.

    Attributes:
        transform: what inputs go through first; None for nothing.
        inputs: the shape and dtype of one example.
        class_names: the name of each class, or None.
        encoder: makes a text the model's input; None if it takes no text.
        inputs_scaler: standardizes the inputs; None if they are in their own units.
        labels_scaler: its ``inverse`` brings outputs to the labels' units, likewise.
    """

    transform: Transform | None = None
    inputs: jax.ShapeDtypeStruct | None = None
    class_names: tuple[str, ...] | None = None
    encoder: TextEncoder | None = None
    inputs_scaler: Standardizer | None = None
    labels_scaler: Standardizer | None = None

    @classmethod
    def of(cls, data: Dataset | None, transform: Transform | None = None) -> "Task":
        """The task of a data set."""
        if data is None:
            return cls(transform)
        scalers: tuple[Any, Any] = (None, None)
        if isinstance(data, StandardizedDataset):
            scalers = data.inputs_scaler, data.labels_scaler
        encoder = data.encoder if isinstance(data, TextDataset) else None
        return cls(transform, data.spec.inputs, data.class_names, encoder, *scalers)

    def described(self) -> dict[str, Any]:
        """What a run's record says of it, but for the transform and the encoder."""
        spec, inputs, labels = self.inputs, self.inputs_scaler, self.labels_scaler
        scalers = {"inputs": inputs and asdict(inputs), "labels": labels and asdict(labels)}
        return {
            "inputs": spec and {"shape": list(spec.shape), "dtype": str(spec.dtype)},
            "class_names": self.class_names,
            "standardized": scalers if inputs is not None else None,
        }


@dataclass(frozen=True, repr=False)
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
        task: what the model takes and gives; None if that is not known.
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
    task: Task | None = None

    def __repr__(self) -> str:
        return "\n  ".join(self._lines())

    def _lines(self) -> list[str]:
        """What a person sees of the run."""
        size, done = count_parameters(self.model), len(self.history)
        epochs = "1 epoch" if done == 1 else f"{done} epochs"
        head = f"{type(self).__name__} of {type(self.model).__name__}, {size:,} parameters"
        lines = [f"{head}, {epochs} on {self.device}"]
        if self.history:
            lines.append(f"train  {_result(self.epoch.train_loss, self.epoch.train_accuracy)}")
        right = "" if self.test.correct is None else f" ({self.test.correct}/{self.test.total})"
        lines.append(f"test   {_result(self.test.loss, self.test.accuracy)}{right}")
        spent = f"{self.timings.train_seconds:.1f} s of training"
        lines.append(f"{spent}, {self.examples_per_second:,.0f} examples a second")
        if self.restored is not None:
            lines.append(f"restored: epoch {self.restored}")
        if self.stopped is not None:
            lines.append(f"stopped: {self.stopped}")
        return lines

    def plot(self, path: Path | str | None = None, title: str = "") -> "Figure":
        """Draws the curves of loss and, where there is one, accuracy.

        Args:
            path: where to save them too, as a PNG or by the ending's format; None saves nothing.
            title: what stands above.

        Returns:
            Matplotlib's figure, which a notebook shows.
        """
        return plot_history(self.history, path, title)

    def save(self, directory: Path | str) -> None:
        """Writes the run into a new folder, which ``jaxnets.load`` reads.

        The folder appears whole or not at all. It holds ``weights``, ``run.json``, ``history.csv``
        and ``curves.png``; of texts also ``text.json``, which turns a new text into the network's
        input. Several processes call this together; the first one writes.

        Args:
            directory: must not exist yet, or be empty.

        Raises:
            ValueError: if the folder holds something already, or cannot be made.
            OSError: if something cannot be written.
        """
        first = jax.process_index() == 0
        transform = None if self.task is None else self.task.transform
        made = {"model": _how_made(self.model), "transform": describe_transform(transform)}
        record = {**self.measured(), "epochs": len(self.history), **made}
        folder = new_folder(directory, "directory") if first else contextlib.nullcontext(directory)
        with folder as place:
            self.write(Path(place), record)

    def write(self, folder: Path, record: dict[str, Any], title: str = "") -> None:
        """Writes the run's files into a folder that is there; see ``save``.

        Args:
            folder: where.
            record: what ``run.json`` says beside the history and the task, ready for JSON.
            title: of the curves.
        """
        save_weights(self.model, folder / WEIGHTS)
        if jax.process_index() > 0:
            return
        task = self.task or Task()
        record = {
            **record,
            **task.described(),
            "history": history_rows(self.history),
            "timings": asdict(self.timings),
            "versions": {package: metadata.version(package) for package in _PACKAGES},
        }
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        write_history(self.history, folder / "history.csv")
        if task.encoder is not None:
            task.encoder.save(folder / TEXT)
        plot_history(self.history, folder / "curves.png", title)

    def measured(self) -> dict[str, Any]:
        """What the run measured in one flat record, ready for JSON; accuracy is in [0, 1]."""
        restored = {} if self.restored is None else {"restored": self.restored}
        return {
            "test_accuracy": self.test.accuracy,
            "test_correct": self.test.correct,
            "test_total": self.test.total,
            "test_loss": self.test.loss,
            "train_loss": self.epoch.train_loss,
            "parameters": count_parameters(self.model),
            "train_seconds": self.timings.train_seconds,
            "compile_seconds": self.timings.compile_seconds,
            "examples_per_second": self.examples_per_second,
            "device": self.device,
            "stopped": self.stopped,
            **restored,
        }

    @property
    def epoch(self) -> EpochRecord:
        """The record of the epoch whose weights ``model`` has."""
        return self.history[-1 if self.restored is None else self.restored - 1]


def _result(loss: float, accuracy: float | None) -> str:
    return f"loss {loss:.4f}" + ("" if accuracy is None else f"  accuracy {accuracy:.2%}")


def _how_made(model: nnx.Module) -> dict[str, Any]:
    """The model's class, and its arguments where it tells them."""
    kind, options = type(model), getattr(model, "options", None)
    try:
        json.dumps(options)
    except (TypeError, ValueError):  # of a user's own network
        options = None
    parameters = nnx.to_flat_state(nnx.state(model, nnx.Param)).leaves
    name = f"{kind.__module__}.{kind.__qualname__}"
    return {"class": name, "options": options, "dtype": str(parameters[0].dtype)}


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


def plot_history(
    history: Sequence[EpochRecord], path: Path | str | None = None, title: str = ""
) -> "Figure":
    """Draws the curves of loss and, where there is one, accuracy.

    Args:
        history: that of a run; losses in the loss' own unit, accuracies in percent.
        path: where to save them, as a PNG or by the ending's format, replacing what is there; None
            saves nothing.
        title: what stands above.

    Returns:
        Matplotlib's figure, which a notebook shows.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    curves = {"loss": [("train", "train_loss"), ("test", "test_loss")]}
    if history and history[0].test_accuracy is not None:
        curves["accuracy (%)"] = [("train", "train_accuracy"), ("test", "test_accuracy")]
    figure: Any = Figure(figsize=(4.5 * len(curves), 3.5), layout="constrained")
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
    if path is not None:
        figure.savefig(check_path("path", path), dpi=150)
    figure._repr_png_ = functools.partial(_png, figure)  # pyplot does this for its own figures
    return figure


def _png(figure: "Figure") -> bytes:
    with io.BytesIO() as file:
        figure.savefig(file, format="png", dpi=100)
        return file.getvalue()
