"""The results of a training run: its history, and the files of its run directory."""

import contextlib
import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, check_integer, check_number
from jaxnets.data import (
    AudioDataset,
    AudioFormat,
    Dataset,
    RatingsDataset,
    RatingsEncoder,
    StandardizedDataset,
    Standardizer,
    TableDataset,
    TableEncoder,
)
from jaxnets.data.survey import background_of
from jaxnets.data.text import TextDataset, TextEncoder
from jaxnets.data.transforms import Transform
from jaxnets.data.transforms.record import describe_transform
from jaxnets.disk import new_folder
from jaxnets.figures import new_figure, save, writable
from jaxnets.training.evaluation import Evaluation
from jaxnets.training.fingerprint import machine
from jaxnets.training.state import TrainState
from jaxnets.training.weights import save_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Names of the files in a run directory.
RECORD, WEIGHTS, TEXT, RATINGS = "run.json", "weights", "text.json", "ratings.json"
_PACKAGES = ("jaxnets", "jax", "jaxlib", "flax", "optax", "numpy")

#: The full name of a scalar metric: ``train_`` or ``test_`` and its name, such as ``"test_loss"``.
Metric = str

_SMALLER = ("loss", "error", "perplexity")  # endings of metrics of which smaller is better


@dataclass(frozen=True)
class EpochRecord:
    """The results of one epoch.

    Attributes:
        epoch: number of the epoch, counted from 1.
        train: metrics by name over the epoch's training examples, measured at each step before its
            update: ``"loss"``, ``"accuracy"`` if it was computed, and all other metrics of the
            objective; floats, or arrays for metrics with several values.
        test: metrics by name over all test examples, measured after the epoch; empty without a
            test split.
        seconds: training time of the epoch, without compilation and evaluation.
        skipped: number of steps that were skipped because the loss or the gradient was not finite;
            the metrics in ``train`` do not include them.
    """

    epoch: int
    train: Mapping[str, Any]
    test: Mapping[str, Any]
    seconds: float
    skipped: int = 0

    @property
    def train_loss(self) -> float:
        """The mean loss over the training examples, measured before each step's update."""
        return self.train["loss"]

    @property
    def train_accuracy(self) -> float | None:
        """Training accuracy in [0, 1], or None if accuracy was not computed."""
        return self.train.get("accuracy")

    @property
    def test_loss(self) -> float | None:
        """The mean loss over the test examples after the epoch, or None without a test split."""
        return self.test.get("loss")

    @property
    def test_accuracy(self) -> float | None:
        """Test accuracy in [0, 1], or None if accuracy was not computed."""
        return self.test.get("accuracy")

    def value(self, metric: Metric) -> Any:
        """Returns a metric by its full name, such as ``"test_loss"``; None if not measured."""
        part, _, name = metric.partition("_")
        return {"train": self.train, "test": self.test}.get(part, {}).get(name)

    def row(self) -> dict[str, Any]:
        """Returns the record as plain values by full name, for JSON and CSV."""
        # Loss and accuracy are always included, so that all CSV files have these columns.
        named = {
            f"{part}_{name}": value.tolist() if isinstance(value, np.ndarray) else value
            for part, metrics in (("train", self.train), ("test", self.test))
            for name, value in {"loss": None, "accuracy": None, **metrics}.items()
        }
        return {"epoch": self.epoch, **named, "seconds": self.seconds, "skipped": self.skipped}

    @classmethod
    def of_row(cls, row: Mapping[str, Any], epoch: int) -> "EpochRecord":
        """Makes the record from what ``row`` returned, and checks its values.

        Args:
            row: the values read from a file.
            epoch: the expected number of the epoch.

        Raises:
            InputError: if a value is invalid.
            LookupError: if a value is missing.
        """
        check_integer("epoch", row["epoch"], least=epoch, most=epoch)
        check_integer("skipped", row.get("skipped", 0), least=0)
        check_number("seconds", row["seconds"])
        metrics: dict[str, dict[str, Any]] = {"train": {}, "test": {}}
        for whole in row.keys() - {"epoch", "skipped", "seconds"}:
            part, _, name = whole.partition("_")
            if part not in metrics or not name:
                raise InputError("history", "metrics that begin with train_ or test_", whole)
            if row[whole] is not None:
                metrics[part][name] = _checked_value(whole, row[whole])
        check_number("train_loss", row["train_loss"])
        rest = row["seconds"], row.get("skipped", 0)
        return cls(row["epoch"], metrics["train"], metrics["test"], *rest)


def _checked_value(name: str, value: Any) -> Any:
    if isinstance(value, list):
        try:
            array = np.asarray(value)
        except ValueError as error:  # rows of different lengths
            raise InputError(name, "numbers", value) from error
        if array.dtype.kind not in "iuf":
            raise InputError(name, "numbers", value)
        return array
    if name in ("train_loss", "test_loss"):
        return check_number(name, value)
    if name in ("train_accuracy", "test_accuracy") and value == value:
        return check_number(name, value, least=0, most=1)
    if isinstance(value, float):  # such as a perplexity, which may be infinite
        return value
    return check_number(name, value)


def goodness(record: EpochRecord, metric: Metric) -> float:
    """Returns an epoch's metric, negated if smaller is better, so that larger is better.

    Raises:
        InputError: if the run does not measure the metric.
    """
    value = record.value(metric)
    if value is None or np.ndim(value):
        raise InputError("metric", "one that the run measures", metric)
    return -value if is_better_smaller(metric) else value


def is_better_smaller(metric: Metric) -> bool:
    """Whether smaller values of a metric are better: of losses, errors and perplexities."""
    return metric.endswith(_SMALLER)


def check_metric(metric: Any) -> Metric:
    """Checks that a value is the full name of a metric."""
    if not isinstance(metric, str) or not metric.startswith(("train_", "test_")):
        expected = "a metric of an epoch, such as 'test_loss' or 'train_accuracy'"
        raise InputError("metric", expected, metric)
    return metric


def best_epoch(history: Sequence[EpochRecord], metric: Metric) -> int:
    """Returns the number of the best epoch, counted from 1; the last if several are equal."""
    return max((goodness(record, metric), record.epoch) for record in history)[1]


def _names(history: Sequence[EpochRecord]) -> list[str]:
    """Returns the names of all metrics, starting with the loss and the accuracy."""
    every = [name for record in history for name in (*record.train, *record.test)]
    return list(dict.fromkeys(["loss", "accuracy", *every]))


@dataclass(frozen=True)
class Timings:
    """The duration of the parts of a run, in seconds.

    Attributes:
        compile_seconds: time of tracing and compiling.
        train_seconds: time of the training steps, without compilation.
        evaluate_seconds: time of the evaluations after each epoch.
    """

    compile_seconds: float
    train_seconds: float
    evaluate_seconds: float


@dataclass(frozen=True)
class Task:
    """Describes a model's inputs and outputs: the facts about the data that inference needs.

    Attributes:
        transform: the transform of the inputs; None for none.
        inputs: the shape and dtype of one example, or a tuple or dictionary of them.
        class_names: the name of each class, or None.
        encoder: the encoder that turns a text into the model's input; None if the model takes no
            text.
        inputs_scaler: the standardizer of the inputs; None if they were not standardized.
        labels_scaler: the standardizer of the labels, whose ``inverse`` converts outputs to the
            labels' units; None if the labels were not standardized.
        table: the encoder of the rows of a table; None if the model takes no table.
        background: brightness of the borders of grayscale images, from 0 (black) to 1 (white);
            None if it varies between images.
        audio: the format of recordings; None if the model takes no recordings.
        ratings: the ids of users and items; None if the model was not trained on ratings.
    """

    transform: Transform | None = None
    inputs: Any = None
    class_names: tuple[str, ...] | None = None
    encoder: TextEncoder | None = None
    inputs_scaler: Standardizer | None = None
    labels_scaler: Standardizer | None = None
    table: TableEncoder | None = None
    background: float | None = None
    audio: AudioFormat | None = None
    ratings: RatingsEncoder | None = None

    @classmethod
    def of(cls, data: Dataset | None, transform: Transform | None = None) -> "Task":
        """Makes the task of a data set; if that is None, only ``transform`` is set."""
        if data is None:
            return cls(transform)
        scalers: tuple[Any, Any] = (None, None)
        if isinstance(data, StandardizedDataset):
            scalers = data.inputs_scaler, data.labels_scaler
        encoder = data.encoder if isinstance(data, TextDataset) else None
        table = data.encoder if isinstance(data, TableDataset | StandardizedDataset) else None
        found = data.spec.inputs, data.class_names, encoder, *scalers, table, background_of(data)
        audio = data.audio if isinstance(data, AudioDataset) else None
        ratings = data.encoder if isinstance(data, RatingsDataset) else None
        return cls(transform, *found, audio, ratings)

    def described(self) -> dict[str, Any]:
        """Returns the task's part of ``run.json``, without the transform and the text encoder."""
        inputs, labels = self.inputs_scaler, self.labels_scaler
        scalers = {"inputs": inputs and asdict(inputs), "labels": labels and asdict(labels)}
        return {
            "inputs": _plain_spec(self.inputs),
            "class_names": self.class_names,
            "standardized": scalers if inputs is not None else None,
            "table": None if self.table is None else self.table.to_json(),
            "background": self.background,
            "audio": self.audio and asdict(self.audio),
        }


def _plain_spec(spec: Any) -> Any:
    """Returns the shapes and dtypes of an example's arrays for JSON; tuples become lists."""
    if isinstance(spec, dict):
        return {name: _plain_spec(part) for name, part in spec.items()}
    if isinstance(spec, tuple):
        return [_plain_spec(part) for part in spec]
    return None if spec is None else {"shape": list(spec.shape), "dtype": str(spec.dtype)}


@dataclass(frozen=True, repr=False)
class TrainingRun:
    """The result of training: a model and the record of its run.

    Attributes:
        model: the trained model, in evaluation mode.
        state: the state after the last step, or after the best epoch if that was restored.
        history: one record per epoch.
        step_losses: the loss of each step, float [steps]; NaN or infinite only at skipped steps.
        test: the evaluation of ``model``; None without a test split.
        timings: the time of compilation, training and evaluation.
        examples_per_second: training speed, without compilation.
        device: name and number of the devices.
        stopped: why a callback ended the run before its last epoch; None if none did.
        restored: number of the best epoch, if ``model`` has its weights; None if ``model`` has the
            last epoch's.
        task: the model's inputs and outputs; None if unknown.
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
        """Returns the lines of ``repr``."""
        size, done = count_parameters(self.model), len(self.history)
        epochs = "1 epoch" if done == 1 else f"{done} epochs"
        head = f"{type(self).__name__} of {type(self.model).__name__}, {size:,} parameters"
        lines = [f"{head}, {epochs} on {self.device}"]
        if self.history:
            lines.append(f"train  {in_words(self.epoch.train)}")
        if self.test is not None:
            right = "" if self.test.correct is None else f" ({self.test.correct}/{self.test.total})"
            lines.append(f"test   {in_words(self.test.metrics)}{right}")
        spent = f"{self.timings.train_seconds:.1f} s of training"
        lines.append(f"{spent}, {self.examples_per_second:,.0f} examples a second")
        if self.restored is not None:
            lines.append(f"restored: epoch {self.restored}")
        if self.stopped is not None:
            lines.append(f"stopped: {self.stopped}")
        return lines

    def plot(self, path: Path | str | None = None, title: str = "") -> "Figure":
        """Plots each scalar metric, such as loss and accuracy, against the epoch.

        Args:
            path: file to save the plot to, in the format of its suffix, PNG by default; None saves
                nothing.
            title: the title of the figure.

        Returns:
            A Matplotlib figure, which a notebook displays.
        """
        return plot_history(self.history, path, title)

    def save(self, directory: Path | str) -> None:
        """Writes the run to a new run directory, which ``jaxnets.load`` reads.

        The directory is created atomically. It contains ``weights``, ``run.json``, ``history.csv``
        and ``curves.png``; for text models also ``text.json``, the vocabulary that encodes new
        texts; for models of ratings ``ratings.json``, the ids of users and items. With several
        processes, all call this together, and the first one writes.

        Args:
            directory: a directory that does not exist, or is empty.

        Raises:
            ValueError: if the directory is not empty, or cannot be made.
            OSError: if a file cannot be written.
        """
        first = jax.process_index() == 0
        transform = None if self.task is None else self.task.transform
        made = {"model": _how_made(self.model), "transform": describe_transform(transform)}
        record = {**self.measured(), "epochs": len(self.history), **made}
        folder = new_folder(directory, "directory") if first else contextlib.nullcontext(directory)
        with folder as place:
            self.write(Path(place), record)

    def write(self, folder: Path, record: dict[str, Any], title: str = "") -> None:
        """Writes the run's files into an existing folder; see ``save``.

        Args:
            folder: the folder.
            record: further entries of ``run.json``, as JSON values.
            title: the title of the curves.
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
            "machine": machine(),
        }
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        write_history(self.history, folder / "history.csv")
        if task.encoder is not None:
            task.encoder.save(folder / TEXT)
        if task.ratings is not None:
            task.ratings.save(folder / RATINGS)
        plot_history(self.history, folder / "curves.png", title)

    def measured(self) -> dict[str, Any]:
        """Returns the run's results as one flat record for JSON; accuracy is in [0, 1]."""
        restored = {} if self.restored is None else {"restored": self.restored}
        return {
            **({} if self.test is None else tested_record(self.test)),
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


def tested_record(test: Evaluation) -> dict[str, Any]:
    """Returns an evaluation as entries of ``run.json``."""
    found = {f"test_{name}": value for name, value in plain(test.metrics).items()}
    counts = {"test_correct": test.correct, "test_total": test.total}
    return {"test_accuracy": test.accuracy, **counts, **found}


def in_words(metrics: Mapping[str, Any], prefix: str = "") -> str:
    """Formats metrics as one line: accuracies in percent, the others with four decimal places.

    A vector is shown as the mean of its entries that are not NaN. Arrays with more axes are left
    out.
    """
    words = []
    short = [name for name in metrics if np.ndim(metrics[name]) < 2]
    for name in sorted(short, key=lambda name: (name != "loss", name != "accuracy", name)):
        values = np.atleast_1d(metrics[name])
        known = values[~np.isnan(values)]
        value = float(known.mean()) if known.size else math.nan
        shown = f"{value:.2%}" if name.endswith("accuracy") else f"{value:.4f}"
        words.append(f"{prefix}{name} {shown}")
    return "  ".join(words)


def plain(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Converts metrics to plain values for JSON."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in metrics.items()
    }


def _how_made(model: nnx.Module) -> dict[str, Any]:
    """Returns the model's class, its dtype, and its arguments if the class records them."""
    kind, options = type(model), getattr(model, "options", None)
    try:
        json.dumps(options)
    except (TypeError, ValueError):  # an attribute of a user's class with the same name
        options = None
    parameters = nnx.to_flat_state(nnx.state(model, nnx.Param)).leaves
    name = f"{kind.__module__}.{kind.__qualname__}"
    return {"class": name, "options": options, "dtype": str(parameters[0].dtype)}


def count_parameters(model: nnx.Module) -> int:
    """Counts the trainable parameters of a model.

    Args:
        model: any ``nnx.Module``.

    Returns:
        The total number of elements of its ``nnx.Param`` variables.

    Raises:
        InputError: if the model is not valid.
    """
    if not isinstance(model, nnx.Module):
        raise InputError("model", "an nnx.Module", model)
    return sum(value.size for value in nnx.to_flat_state(nnx.state(model, nnx.Param)).leaves)


def history_rows(history: Sequence[EpochRecord]) -> list[dict[str, Any]]:
    """Converts a history to plain values for JSON."""
    return [record.row() for record in history]


def write_history(history: Sequence[EpochRecord], path: Path | str) -> None:
    """Writes a history as CSV, one row per epoch; missing values are empty.

    Args:
        history: the history of a run.
        path: the file; an existing one is replaced.

    Raises:
        InputError: if the history is not valid, or the file's folder does not exist.
    """
    _check_history(history)
    with writable(path).open("w", newline="") as file:
        rows = history_rows(history)
        columns = dict.fromkeys(
            name for row in rows or [EpochRecord(0, {}, {}, 0.0).row()] for name in row
        )
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def plot_history(
    history: Sequence[EpochRecord], path: Path | str | None = None, title: str = ""
) -> "Figure":
    """Plots each scalar metric, such as loss and accuracy, against the epoch.

    Accuracies are in percent, other metrics in their own unit.

    Args:
        history: the history of a run.
        path: file to save the plot to, in the format of its suffix, or as PNG if the suffix is
            unknown; an existing file is replaced. None saves nothing.
        title: the title of the figure.

    Returns:
        A Matplotlib figure, which a notebook displays.

    Raises:
        InputError: if the history is not valid, or the file's folder does not exist.
    """
    _check_history(history)
    place = None if path is None else writable(path)
    if not isinstance(title, str):
        raise InputError("title", "a string", title)
    from matplotlib.ticker import MaxNLocator

    drawn = [name for name in _names(history) if _is_drawn(history, name)] or ["loss"]
    figure = new_figure(4.5 * len(drawn), 3.5)
    for axes, name in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        scale = 100 if name.endswith("accuracy") else 1
        for part in ("train", "test"):
            points = [(record.epoch, record.value(f"{part}_{name}")) for record in history]
            known = [(epoch, scale * value) for epoch, value in points if value is not None]
            if known:
                axes.plot(*zip(*known, strict=True), marker="o", markersize=4, label=part)
        label = name.replace("_", " ")
        axes.set(xlabel="epoch", ylabel=label if scale == 1 else f"{label} (%)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(title)
    if place is not None:
        save(figure, place)
    return figure


def _is_drawn(history: Sequence[EpochRecord], name: str) -> bool:
    """Whether a metric is a scalar in at least one epoch."""
    values = [each.get(name) for record in history for each in (record.train, record.test)]
    return any(value is not None and not np.ndim(value) for value in values)


def _check_history(history: Any) -> None:
    if not isinstance(history, Sequence) or not all(isinstance(e, EpochRecord) for e in history):
        raise InputError("history", "a sequence of EpochRecord", history)
