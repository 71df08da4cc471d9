"""The report of a network on a split."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, check_choice, check_path, check_positive
from jaxnets.data import Dataset, DetectionDataset, RatingsDataset, Split, Transform
from jaxnets.data.dataset import in_memory
from jaxnets.data.source import join
from jaxnets.data.spec import single
from jaxnets.data.streaming import StreamedSplit
from jaxnets.data.text import TextDataset
from jaxnets.models import LANGUAGE_MODELS, TRANSLATORS, Autoencoder
from jaxnets.pages.files import drawn, written
from jaxnets.pages.page import body
from jaxnets.reports import measuring
from jaxnets.reports.as_json import as_json
from jaxnets.reports.content import content
from jaxnets.reports.records import Classification, Detection, Regression
from jaxnets.reports.summary import summary
from jaxnets.training import EpochRecord, count_parameters
from jaxnets.training.evaluation import check_model
from jaxnets.training.labels import Loss
from jaxnets.training.probabilities import Kind
from jaxnets.training.records import Task

#: The splits of a data set to evaluate on.
WHICH = ("test", "train", "all")


@dataclass(frozen=True, repr=False)
class Report:
    """The evaluation of a network on a split.

    Attributes:
        name: the name of the network or of its run.
        data: the name of the data set.
        split: the split: ``"test"``, ``"train"`` or ``"all"``.
        examples: the number of examples.
        scores: all scores by name, as floats; shares are in [0, 1].
        found: the results for each class or value; None for a language model, a recommender of
            implicit feedback and an autoencoder.
        parameters: the number of parameters.
        date: the date of the evaluation, ISO 8601.
        history: one record for each epoch of the training; empty if unknown.
        rates: the learning rate over the training: epochs (from 0) and rates, float64 [2, points];
            None if unknown.
        settings: the training settings, by name.
        versions: the versions of packages in training.
        machine: properties of the machine it was trained on.
        command: the command line that makes the report; None if it was made from Python.
    """

    name: str
    data: str
    split: str
    examples: int
    scores: Mapping[str, float]
    found: Classification | Detection | Regression | None
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
        """Returns the page for a notebook."""
        blocks = content(self)
        return body(blocks, drawn(blocks))

    def as_json(self) -> str:
        """Returns all numbers as one line of JSON; numbers that are not finite are null."""
        return as_json(self)

    def write(self, directory: Path | str) -> None:
        """Writes ``report.html``, ``report.md`` and its images, and ``report.json``.

        Args:
            directory: the folder, which is made if it is missing. An earlier report in it is
                replaced; other files are not changed.

        Raises:
            ValueError: if the files cannot be written; an earlier report is then not changed.
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

    Integer labels are classes. The report then has accuracy, the precision, recall and F1 of each
    class, the confusion matrix, the calibration and the most confident mistakes. If examples have a
    label for each position, each position is a prediction; labels that the loss ignores (-100) are
    omitted. Float labels are values. The report then has errors and residuals, in the data's units
    if the data set defines them. For a language model it has loss, perplexity and accuracy.
    For a detector it has COCO's average precision, of each class too.
    For implicit feedback it has the hit rate and the NDCG at 10 of the test examples, among their
    candidates and among all items. For an ``Autoencoder`` it has the mean squared error of the
    reconstructions.

    Args:
        model: any ``nnx.Module``; it is not changed.
        data: a data set, which can define names of classes and units of values; or a ``Split``.
        split: the split of the data set; ``"all"`` for training and test examples together.
        loss: a function (outputs, labels) → scalar to report too; None for no loss.
        transform: see ``fit``.
        outputs: the kind of a classifier's outputs. ``"auto"`` detects it from the network's
            ``output``, the loss, and whether the outputs sum to 1.
        bins: the number of bins of the calibration.
        name: the name of the network in the report; by default its class.

    Returns:
        The report, whose repr is a summary. ``report.write(folder)`` writes its pages.

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
    """Returns a split of a data set; training and test examples together for ``"all"``.

    Raises:
        InputError: if the data set does not have the split.
    """
    if split != "all":
        found = data.splits.get(split)
        if not isinstance(found, Split | StreamedSplit):
            raise InputError("split", f"a split of {data.name} with examples", split)
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
    """Evaluates a network, and makes the report; see ``report``.

    Args:
        model: the network.
        split: the examples.
        task: the kind of data.
        loss: a loss to report; None for no loss.
        outputs: the kind of outputs; None to detect it.
        bins: the number of bins of the calibration.
        named: the name of the network or None, the data set, and the name of the split.
    """
    _, data, _ = named
    if isinstance(model, Autoencoder):
        scores = measuring.reconstruction(model, split, task, loss)
        return _made(model, split, scores, None, named)
    if split.spec.labels is None:
        raise InputError("data", "examples with labels", "examples without labels")
    found: Any
    boxes = isinstance(data, DetectionDataset)
    labels: Any = None if boxes else single(f"labels of {data.name}", split.spec.labels)
    tokens = isinstance(data, TextDataset) and labels.shape != ()
    if isinstance(model, TRANSLATORS):
        expected = "a network that predicts from the inputs alone"
        raise InputError("model", expected, type(model).__name__)
    if isinstance(data, DetectionDataset):
        found = measuring.detection(model, split, task, data)
    elif isinstance(model, LANGUAGE_MODELS) or tokens:
        found = measuring.language(model, split, task, loss)
    elif isinstance(data, RatingsDataset) and data.candidates is not None:
        found = measuring.recommendation(model, split, task, loss, data)
    elif measuring.is_of_classes(labels, loss):
        found = measuring.classification(model, split, task, loss, outputs, bins)
    else:
        found = measuring.regression(model, split, task, loss)
    scores, about = found
    return _made(model, split, scores, about, named)


def _made(
    model: nnx.Module,
    split: Split | StreamedSplit,
    scores: Mapping[str, float],
    about: Classification | Regression | None,
    named: tuple[str | None, Dataset, str],
) -> Report:
    """Makes a report of scores; see ``evaluated``."""
    name, data, which = named
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
