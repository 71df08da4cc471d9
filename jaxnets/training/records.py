"""The results of a training run: history, record, weights and curves."""

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

#: The files of a run's folder.
RECORD, WEIGHTS, TEXT = "run.json", "weights", "text.json"
_PACKAGES = ("jaxnets", "jax", "jaxlib", "flax", "optax", "numpy")

#: What tells how good an epoch is: ``train_`` or ``test_`` before the name of a metric that is one
#: number, such as ``"test_loss"``.
Metric = str

_SMALLER = ("loss", "error", "perplexity")  # in which the names end of what is to be small


@dataclass(frozen=True)
class EpochRecord:
    """One epoch.

    Attributes:
        epoch: counted from 1.
        train: metrics by name over the epoch's examples, each measured before its step's update:
            ``"loss"``, ``"accuracy"`` if it was counted, and whatever else the objective measures;
            floats, or arrays of those that have several numbers.
        test: likewise after the epoch, over every test example; empty without a test split.
        seconds: training time of the epoch, without compilation and evaluation.
        skipped: steps whose update was left out, as the loss or the gradient was not finite; the
            metrics of ``train`` are over the others.
    """

    epoch: int
    train: Mapping[str, Any]
    test: Mapping[str, Any]
    seconds: float
    skipped: int = 0

    @property
    def train_loss(self) -> float:
        """The mean over the epoch's examples, each measured before its step's update."""
        return self.train["loss"]

    @property
    def train_accuracy(self) -> float | None:
        """Likewise, in [0, 1]; None where it was not counted."""
        return self.train.get("accuracy")

    @property
    def test_loss(self) -> float | None:
        """The mean over the test examples, after the epoch; None without any."""
        return self.test.get("loss")

    @property
    def test_accuracy(self) -> float | None:
        """Likewise, in [0, 1]; None where it was not counted."""
        return self.test.get("accuracy")

    def value(self, metric: Metric) -> Any:
        """A metric by its whole name, such as ``"test_loss"``; None if it was not measured."""
        part, _, name = metric.partition("_")
        return {"train": self.train, "test": self.test}.get(part, {}).get(name)

    def row(self) -> dict[str, Any]:
        """The record as plain values by whole names, ready for JSON and CSV."""
        named = {
            f"{part}_{name}": value.tolist() if isinstance(value, np.ndarray) else value
            for part, metrics in (("train", self.train), ("test", self.test))
            for name, value in {"loss": None, "accuracy": None, **metrics}.items()
        }
        return {"epoch": self.epoch, **named, "seconds": self.seconds, "skipped": self.skipped}

    @classmethod
    def of_row(cls, row: Mapping[str, Any], epoch: int) -> "EpochRecord":
        """The record that ``row`` wrote, its values checked.

        Args:
            row: what was read from a file.
            epoch: which epoch's it should be.

        Raises:
            InputError: naming the value that is wrong.
            LookupError: if one is missing.
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
        except ValueError as error:  # of rows of several lengths
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
    """How good an epoch is by a metric: larger is better.

    Raises:
        InputError: if the run does not measure the metric.
    """
    value = record.value(metric)
    if value is None or np.ndim(value):
        raise InputError("metric", "one that the run measures", metric)
    return -value if is_better_smaller(metric) else value


def is_better_smaller(metric: Metric) -> bool:
    """Whether a metric is better the smaller: losses, errors and perplexities are."""
    return metric.endswith(_SMALLER)


def check_metric(metric: Any) -> Metric:
    """Raises unless a value is the whole name of a metric."""
    if not isinstance(metric, str) or not metric.startswith(("train_", "test_")):
        expected = "a metric of an epoch, such as 'test_loss' or 'train_accuracy'"
        raise InputError("metric", expected, metric)
    return metric


def best_epoch(history: Sequence[EpochRecord], metric: Metric) -> int:
    """The number of the best epoch, counted from 1; of equally good ones the last."""
    return max((goodness(record, metric), record.epoch) for record in history)[1]


def _names(history: Sequence[EpochRecord]) -> list[str]:
    """The names of all metrics, the loss and the accuracy first."""
    every = [name for record in history for name in (*record.train, *record.test)]
    return list(dict.fromkeys(["loss", "accuracy", *every]))


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
    """The inputs and outputs of a model: what is needed of the data to use it.

    Attributes:
        transform: what inputs go through first; None for nothing.
        inputs: the shape and dtype of one example, or a tuple or dictionary of them.
        class_names: the name of each class, or None.
        encoder: makes a text the model's input; None if it takes no text.
        inputs_scaler: standardizes the inputs; None if they are in their own units.
        labels_scaler: its ``inverse`` brings outputs to the labels' units, likewise.
        table: makes inputs of the rows of a table; None if it takes no table.
        background: how light grey images are at their borders, from 0, black, to 1, white; None if
            they are not alike.
        audio: makes a WAV file the model's input; None if it takes no recordings.
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

    @classmethod
    def of(cls, data: Dataset | None, transform: Transform | None = None) -> "Task":
        """The task of a data set."""
        if data is None:
            return cls(transform)
        scalers: tuple[Any, Any] = (None, None)
        if isinstance(data, StandardizedDataset):
            scalers = data.inputs_scaler, data.labels_scaler
        encoder = data.encoder if isinstance(data, TextDataset) else None
        table = data.encoder if isinstance(data, TableDataset | StandardizedDataset) else None
        found = data.spec.inputs, data.class_names, encoder, *scalers, table, background_of(data)
        audio = data.audio if isinstance(data, AudioDataset) else None
        return cls(transform, *found, audio)

    def described(self) -> dict[str, Any]:
        """What a run's record says of it, except for the transform and the encoder."""
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
    """The shape and dtype of an example's arrays, ready for JSON: a tuple is a list."""
    if isinstance(spec, dict):
        return {name: _plain_spec(part) for name, part in spec.items()}
    if isinstance(spec, tuple):
        return [_plain_spec(part) for part in spec]
    return None if spec is None else {"shape": list(spec.shape), "dtype": str(spec.dtype)}


@dataclass(frozen=True, repr=False)
class TrainingRun:
    """A finished run.

    Attributes:
        model: the trained model, in evaluation mode.
        state: the state after the last step, or after the best epoch if that is restored.
        history: one record an epoch.
        step_losses: the loss of each step, float [steps]; not finite at most where it was skipped.
        test: the evaluation of ``model``; None without a test split.
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
        """Draws the curves of loss and, where there is one, accuracy.

        Args:
            path: where to save them too, as a PNG or by the ending's format; None saves nothing.
            title: text above the curves.

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
            "machine": machine(),
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
    """What a run's record says of its evaluation, ready for JSON."""
    found = {f"test_{name}": value for name, value in plain(test.metrics).items()}
    counts = {"test_correct": test.correct, "test_total": test.total}
    return {"test_accuracy": test.accuracy, **counts, **found}


def in_words(metrics: Mapping[str, Any], prefix: str = "") -> str:
    """Metrics in a line: losses to four places, accuracies in percent; of vectors the mean.

    The mean of a vector leaves out what is NaN. Arrays with more axes are left out.
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
    """Metrics ready for JSON."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in metrics.items()
    }


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
    """The number of trainable parameters.

    Args:
        model: any ``nnx.Module``.

    Returns:
        The elements of all its ``nnx.Param``, together.

    Raises:
        InputError: if the model is not valid.
    """
    if not isinstance(model, nnx.Module):
        raise InputError("model", "an nnx.Module", model)
    return sum(value.size for value in nnx.to_flat_state(nnx.state(model, nnx.Param)).leaves)


def history_rows(history: Sequence[EpochRecord]) -> list[dict[str, Any]]:
    """The history as plain values, ready for JSON."""
    return [record.row() for record in history]


def write_history(history: Sequence[EpochRecord], path: Path | str) -> None:
    """Writes the history as CSV, one line an epoch; a value that does not exist stays empty.

    Args:
        history: that of a run.
        path: where to, replacing what is there.

    Raises:
        InputError: if the history is not valid, or the file is not in a folder that exists.
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
    """Draws the curves of loss and, where there is one, accuracy.

    Args:
        history: that of a run; losses in the loss' own unit, accuracies in percent.
        path: where to save them, in the format of its ending, as a PNG if that is unknown,
            replacing what is there; None saves nothing.
        title: the title above the curves.

    Returns:
        Matplotlib's figure, which a notebook shows.

    Raises:
        InputError: if the history has no records, or the file is not in a folder that exists.
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
    """Whether a metric is one number in some epoch."""
    values = [each.get(name) for record in history for each in (record.train, record.test)]
    return any(value is not None and not np.ndim(value) for value in values)


def _check_history(history: Any) -> None:
    if not isinstance(history, Sequence) or not all(isinstance(e, EpochRecord) for e in history):
        raise InputError("history", "a sequence of EpochRecord", history)
