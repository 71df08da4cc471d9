"""The report of a network on a split: what it finds, and how it is written."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, check_choice, check_path, check_positive
from jaxnets.data import Dataset, Split, Transform
from jaxnets.data.dataset import in_memory
from jaxnets.data.source import join
from jaxnets.data.spec import single
from jaxnets.data.streaming import StreamedSplit
from jaxnets.data.text import TextDataset
from jaxnets.models import LANGUAGE_MODELS, TRANSLATORS
from jaxnets.pages.files import drawn, written
from jaxnets.pages.page import body
from jaxnets.reports import measuring
from jaxnets.reports.as_json import as_json
from jaxnets.reports.content import content
from jaxnets.reports.records import Classification, Regression
from jaxnets.reports.summary import summary
from jaxnets.training import EpochRecord, count_parameters
from jaxnets.training.evaluation import check_model
from jaxnets.training.labels import Loss
from jaxnets.training.probabilities import Kind
from jaxnets.training.records import Task

#: Which examples of a data set are evaluated.
WHICH = ("test", "train", "all")


@dataclass(frozen=True, repr=False)
class Report:
    """How good a network is on a split.

    Attributes:
        name: of the network, or of its run.
        data: the name of the data set.
        split: which of its examples: ``"test"``, ``"train"`` or ``"all"``.
        examples: their number.
        scores: all scores by name, as floats; shares are in [0, 1].
        found: the results for each class or value; None for a language model.
        parameters: the number of trained numbers.
        date: when it was evaluated.
        history: one record an epoch of the training; empty if that is not known.
        rates: the learning rate: epochs, from 0 on, and rates, float64 [2, points]; None if that
            is not known.
        settings: how it was trained, by name.
        versions: of packages in training.
        machine: that it was trained on.
        command: the command line that makes the report; None if it was made from Python.
    """

    name: str
    data: str
    split: str
    examples: int
    scores: Mapping[str, float]
    found: Classification | Regression | None
    parameters: int
    date: str
    history: tuple[EpochRecord, ...] = ()
    rates: np.ndarray | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    command: str | None = None

    def __repr__(self) -> str:
        return summary(self)

    def _repr_html_(self) -> str:
        """The page within a notebook."""
        blocks = content(self)
        return body(blocks, drawn(blocks))

    def as_json(self) -> str:
        """Every figure as a line of JSON; what is not finite is null."""
        return as_json(self)

    def write(self, directory: Path | str) -> None:
        """Writes ``report.html``, ``report.md`` and its images, and ``report.json``.

        Args:
            directory: made if it is missing; an earlier report in it is replaced, other files stay.

        Raises:
            ValueError: if the files cannot be written there; those that were there then remain.
        """
        place = check_path("directory", directory, "a folder")
        written(content(self), self.as_json(), place)


def report(
    model: nnx.Module,
    data: Dataset | Split,
    split: Literal["test", "train", "all"] = "test",
    *,
    loss: Loss | None = None,
    transform: Transform | None = None,
    outputs: Kind | Literal["auto"] = "auto",
    bins: int = 15,
    name: str | None = None,
) -> Report:
    """Evaluates a network on every example of a split, in evaluation mode.

    Integers for labels are classes: the report has accuracy, precision, recall and F1 of each, the
    confusion matrix, the calibration and the most confident mistakes. A label for each position is
    a prediction for each; those that the loss ignores (-100) are left out. Floats are values: the
    report has their errors, in the data's units where the data set knows them, and residuals. Of a
    language model it has loss, perplexity and accuracy.

    Args:
        model: any ``nnx.Module``; it is left as it is.
        data: a data set, which knows the names of classes and the units of values; or examples.
        split: which of its examples; ``"all"`` for both parts.
        loss: (outputs, labels) → scalar, which is reported too; None for none.
        transform: see ``fit``.
        outputs: what a classifier's outputs are. ``"auto"`` goes by the network's ``output``, the
            loss, and whether the outputs add up to 1.
        bins: of the calibration.
        name: what the report calls the network; by default its class.

    Returns:
        The report, which prints its summary. ``report.write(folder)`` writes its pages.

    Raises:
        ValueError: if the examples do not fit the network or the loss, or an example has several
            labels.

    Examples:
        >>> from jaxnets import MLP, data, losses
        >>> found = report(MLP((784, 10), rngs=nnx.Rngs(0)), data.load("mnist"),
        ...                transform=data.Compose(data.ToFloat(), data.Normalize(0.13, 0.31)))
        >>> found.found.confusion.sum()
        np.int64(10000)
    """
    check_model(model)
    check_choice("split", split, WHICH)
    check_choice("outputs", outputs, ("auto", "logits", "probabilities"))
    check_positive("bins", bins)
    if name is not None and not isinstance(name, str):
        raise InputError("name", "a string or None", name)
    if isinstance(data, Split):
        data = Dataset("examples", data, data)
    if not isinstance(data, Dataset):
        raise InputError("data", "a Dataset or a Split", data)
    kind = None if outputs == "auto" else outputs
    chosen, task = part(data, split), Task.of(data, transform)
    return evaluated(model, chosen, task, loss, kind, bins, (name, data, split))


def part(data: Dataset, split: str) -> Split | StreamedSplit:
    """A split of a data set; both parts together for ``"all"``.

    Raises:
        InputError: if the data set does not have it.
    """
    if split != "all":
        found = data.splits.get(split)
        if not isinstance(found, Split | StreamedSplit):
            raise InputError("split", f"one with examples that {data.name} has", split)
        return found
    return join([in_memory(each) for each in data.splits.values()])


def evaluated(
    model: nnx.Module,
    split: Split | StreamedSplit,
    task: Task,
    loss: Loss | None,
    outputs: Kind | None,
    bins: int,
    named: tuple[str | None, Dataset, str],
) -> Report:
    """The report of what a task says of the examples; see ``report``.

    Args:
        model: the network.
        split: the examples.
        task: what is known of them.
        loss: what is reported too.
        outputs: what they are; None to find out.
        bins: of the calibration.
        named: what the network is called, the data set, and the name of the split.
    """
    name, data, which = named
    if split.spec.labels is None:
        raise InputError("data", "examples with labels", "examples without")
    labels = single(f"labels of {data.name}", split.spec.labels)
    tokens = isinstance(data, TextDataset) and labels.shape != ()
    found: Any
    if isinstance(model, TRANSLATORS):
        expected = "a network that predicts from the inputs alone"
        raise InputError("model", expected, type(model).__name__)
    if isinstance(model, LANGUAGE_MODELS) or tokens:
        found = measuring.language(model, split, task, loss)
    elif measuring.is_of_classes(labels, loss):
        found = measuring.classification(model, split, task, loss, outputs, bins)
    else:
        found = measuring.regression(model, split, task, loss)
    scores, about = found
    return Report(
        name or type(model).__name__,
        data.name,
        which,
        len(split),
        scores,
        about,
        count_parameters(model),
        datetime.date.today().isoformat(),
    )
