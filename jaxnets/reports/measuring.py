"""Computes the results of an evaluation from the outputs for a split."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnets import metrics, scores
from jaxnets.arrays import InputError, describe, printable
from jaxnets.data import DetectionDataset, RatingsDataset
from jaxnets.data.dataset import Split, in_memory
from jaxnets.data.spec import single
from jaxnets.data.streaming import StreamedSplit
from jaxnets.data.survey import is_image
from jaxnets.detection import mean_average_precision
from jaxnets.losses import cross_entropy, mse_loss
from jaxnets.models import CenterNet
from jaxnets.models.center_net import detections
from jaxnets.reports import outputs as given
from jaxnets.reports.ranking import ranking
from jaxnets.reports.records import Classification, Detection, Mistake, Regression
from jaxnets.training import evaluate, predict
from jaxnets.training import reconstruction as objective_of_inputs
from jaxnets.training.labels import IGNORED, OF_PROBABILITIES, Loss, unwrapped
from jaxnets.training.probabilities import Kind, class_probabilities, kind_of
from jaxnets.training.records import Task

_MISTAKES = 16
_WORST = 10  # number of the largest errors
_TOP = (3, 5)
_COLUMNS = 8  # number of columns of a row in an example's text


def is_of_classes(labels: Any, loss: Loss | None) -> bool:
    """Whether labels are classes: integers, or any labels with a loss of probabilities."""
    function = None if loss is None else unwrapped(loss)[0]
    return labels.dtype.kind != "f" or function in OF_PROBABILITIES


def language(
    model: Any, split: Split | StreamedSplit, task: Task, loss: Loss | None
) -> tuple[dict[str, float], None]:
    """Computes the scores of a language model, over the tokens to predict.

    Args:
        model: the network.
        split: the examples.
        task: the kind of data.
        loss: the loss; None for cross-entropy.

    Returns:
        The scores by name, and None.
    """
    tokens = len(task.class_names or ())
    measured: dict[str, Any] = {"perplexity": metrics.perplexity()}
    measured |= {"top_5_accuracy": metrics.top_k(5)} if tokens > 5 else {}
    found = evaluate(
        model, split, loss=loss or cross_entropy, transform=task.transform, metrics=measured
    )
    bits = {"bits_per_token": found.loss / np.log(2)}
    return {name: float(value) for name, value in {**found.metrics, **bits}.items()}, None


def recommendation(
    model: Any, split: Split | StreamedSplit, task: Task, loss: Loss | None, data: RatingsDataset
) -> tuple[dict[str, float], None]:
    """The scores of a recommender on the test examples of implicit feedback."""
    if split is not data.test:
        expected = "'test', as items are put in order for the test examples alone"
        raise InputError("split", expected, "the training examples too")
    outputs, labels = given.outputs_of(model, split, task.transform)
    found = {} if loss is None else {"loss": given.mean_loss(loss, outputs, labels)}
    return found | ranking(model, data, outputs), None


def reconstruction(
    model: Any, split: Split | StreamedSplit, task: Task, loss: Loss | None
) -> dict[str, float]:
    """Computes the scores of an autoencoder: of its outputs against its transformed inputs.

    Args:
        model: the network.
        split: the examples.
        task: the kind of data.
        loss: the loss to report; None for the mean squared error.
    """
    measured = {"mse": mse_loss}
    objective = objective_of_inputs(loss or mse_loss, transform=task.transform, metrics=measured)
    found = evaluate(model, split, objective)
    return {name: float(value) for name, value in found.metrics.items()}


def detection(
    model: Any, split: Split | StreamedSplit, task: Task, data: DetectionDataset
) -> tuple[dict[str, float], Detection]:
    """Computes the scores of a detector, and the results for each class.

    Args:
        model: the network.
        split: the examples.
        task: the kind of data.
        data: the data set.
    """
    if not isinstance(model, CenterNet):
        raise InputError("model", "a CenterNet, for images with boxes", type(model).__name__)
    inputs, labels = in_memory(split).inputs, in_memory(split).labels
    found = detections(predict(model, inputs, transform=task.transform))
    names = tuple(map(printable, task.class_names or data.class_names or ()))
    names += tuple(map(str, range(len(names), model.num_classes)))
    measured = mean_average_precision(
        found, labels["boxes"], labels["labels"], num_classes=len(names)
    )
    scores = {name: value for name, value in measured.scores.items() if not np.isnan(value)}
    return scores, Detection(names, measured)


def classification(
    model: Any,
    split: Split | StreamedSplit,
    task: Task,
    loss: Loss | None,
    kind: Kind | None,
    bins: int,
) -> tuple[dict[str, float], Classification]:
    """Computes the scores of a classifier, and the results for each class.

    Args:
        model: the network.
        split: the examples.
        task: the kind of data.
        loss: a loss to report; None for the log loss of the probabilities.
        kind: the kind of outputs; None to detect it.
        bins: the number of bins of the calibration.

    Returns:
        The scores by name, and the results.
    """
    outputs, labels = given.outputs_of(model, split, task.transform)
    found = {} if loss is None else {"loss": given.mean_loss(loss, outputs, labels)}
    outputs, labels = given.of_examples(outputs, _whole(labels))
    positions = len(labels) // len(split)
    counted = np.flatnonzero(labels != _ignored(loss))
    if not len(counted):
        raise InputError("labels", "at least one label that is not ignored", "none")
    outputs, labels = outputs[counted], labels[counted]
    shares = class_probabilities(outputs.astype(np.float64), kind or kind_of(outputs, model, loss))
    taken, classes = given.predicted(shares, outputs), shares.shape[1]
    names = tuple(map(printable, task.class_names or ()))
    names += tuple(map(str, range(len(names), classes)))
    confusion = scores.confusion_matrix(labels, taken, classes)
    each = scores.precision_recall_f1(confusion)
    calibration = scores.calibration(shares, labels, bins)
    found |= {} if found else {"log_loss": scores.log_loss(shares, labels)}
    found["accuracy"] = float((taken == labels).mean())
    for k in (k for k in _TOP if k < classes):
        found[f"top_{k}_accuracy"] = scores.top_k_accuracy(shares, labels, k)
    for average in ("macro", "weighted"):
        parts = zip(("precision", "recall", "f1"), each.average(average), strict=True)
        found |= {f"{average}_{name}": value for name, value in parts}
    found |= {"ece": calibration.ece, "brier_score": scores.brier_score(shares, labels)}
    wrong = np.flatnonzero(taken != labels)
    wrong = wrong[np.argsort(-shares[wrong, taken[wrong]], kind="stable")][:_MISTAKES]
    shown = _examples(split, task, counted[wrong] // positions)
    mistakes = tuple(
        Mistake(
            int(counted[row]) // positions,
            names[labels[row]],
            names[taken[row]],
            float(shares[row, taken[row]]),
            float(shares[row, labels[row]]),
            *example,
        )
        for row, example in zip(wrong, shown, strict=True)
    )
    about = Classification(names[:classes], confusion, each, calibration, mistakes, len(labels))
    return found, about


def _whole(labels: np.ndarray) -> np.ndarray:
    """Converts labels to class numbers; floats must be 0 or 1."""
    if labels.dtype.kind != "f":
        return labels.astype(np.int64)
    if not np.isin(labels, (0, 1)).all():
        raise InputError("labels", "0 or 1, or class numbers", describe(labels))
    return labels.astype(np.int64)


def _ignored(loss: Loss | None) -> int:
    options: Any = {} if loss is None else unwrapped(loss)[1]
    return int(options.get("ignore_index", IGNORED))


def regression(
    model: Any, split: Split | StreamedSplit, task: Task, loss: Loss | None
) -> tuple[dict[str, float], Regression]:
    """Computes the scores of a regression, in the data's units.

    Args:
        model: the network.
        split: the examples.
        task: the kind of data, with its scaler.
        loss: a loss to report, of standardized values; None for no loss.

    Returns:
        The scores by name, and the results.
    """
    outputs, labels = given.outputs_of(model, split, task.transform)
    found = {} if loss is None else {"loss": given.mean_loss(loss, outputs, labels)}
    if outputs.size != labels.size:
        raise InputError("model", f"an output for each of {describe(labels)}", describe(outputs))
    rows = [array.reshape(len(labels), -1) for array in (outputs, labels)]
    if task.labels_scaler is not None:
        rows = [task.labels_scaler.inverse(array) for array in rows]
    predicted, true = (array.astype(np.float64) for array in rows)
    each = scores.regression_scores(predicted, true)
    found |= {name: float(values.mean()) for name, values in each._asdict().items()}
    worst = np.argsort(-np.abs(predicted - true).max(1), kind="stable")[:_WORST]
    texts = [text for text, _ in _examples(split, task, worst)]
    about = dict(zip(worst.tolist(), texts, strict=True))
    return found, Regression(_columns(true.shape[1]), predicted, true, each, about)


def _columns(count: int) -> tuple[str, ...]:
    return ("value",) if count == 1 else tuple(f"value {number}" for number in range(1, count + 1))


def _examples(
    split: Split | StreamedSplit, task: Task, numbers: np.ndarray
) -> Sequence[tuple[str | None, np.ndarray | None]]:
    """Returns a text or an image for each of some examples."""
    if not len(numbers) or isinstance(split.spec.inputs, dict | tuple):
        return [(None, None)] * len(numbers)
    inputs = single("inputs", split.gather(numbers)[0])
    if is_image(split.spec.inputs):
        return [(None, image) for image in inputs]
    return [(_in_words(task, example), None) for example in inputs]


def _in_words(task: Task, example: np.ndarray) -> str | None:
    if task.encoder is not None:
        return printable(task.encoder.decode(example))
    if example.ndim > 1:
        return None
    if task.inputs_scaler is not None:
        example = task.inputs_scaler.inverse(example)
    names = None if task.table is None else task.table.inputs
    words = [
        f"{value:g}" if names is None else f"{printable(names[place])} {value:g}"
        for place, value in enumerate(example[:_COLUMNS])
    ]
    return ", ".join(words) + (", …" if len(example) > _COLUMNS else "")
