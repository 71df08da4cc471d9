"""Computes the outputs and predictions of a network for each example of a split."""

from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, describe
from jaxnets.data import Transform
from jaxnets.data.dataset import Split
from jaxnets.data.spec import single
from jaxnets.data.streaming import StreamedSplit
from jaxnets.training import predict
from jaxnets.training.evaluation import EVALUATION_BATCH
from jaxnets.training.labels import Loss
from jaxnets.training.objective import as_metrics, supervised

_STREAMED = 8 * EVALUATION_BATCH  # number of examples to read at a time


def outputs_of(
    model: nnx.Module, split: Split | StreamedSplit, transform: Transform | None
) -> tuple[np.ndarray, np.ndarray]:
    """Computes the outputs for each example of a split.

    Args:
        model: the network.
        split: the examples, in memory or streamed.
        transform: the preprocessing of the inputs; None for no preprocessing.

    Returns:
        The outputs [examples, …], and the labels [examples, …].

    Raises:
        InputError: if the examples do not fit the network or have no labels, or if the network
            returns several arrays, or outputs that are NaN or +infinity.
    """
    if split.spec.labels is None:
        raise InputError("split", "examples with labels", "examples without labels")
    if isinstance(split, Split):
        pieces = [(split.inputs, split.labels)]
    else:
        starts = range(0, len(split), _STREAMED)
        rows = (np.arange(start, min(start + _STREAMED, len(split))) for start in starts)
        pieces = [split.gather(numbers) for numbers in rows]
    found = []
    for inputs, labels in pieces:
        outputs = predict(model, inputs, transform=transform)
        if not isinstance(outputs, np.ndarray):
            raise InputError("model", "one array of outputs", f"a {type(outputs).__name__}")
        found.append((outputs, single("labels", labels)))
    outputs, labels = (np.concatenate(parts) for parts in zip(*found, strict=True))
    wrong = np.argwhere(np.isnan(outputs) | np.isposinf(outputs))
    if len(wrong):
        got = f"{outputs[tuple(wrong[0])]} for example {wrong[0][0]}"
        raise InputError("model", "finite outputs", got)
    return outputs, labels


def predicted(shares: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Returns the predicted class of each example, int [N], as for the accuracy.

    Of several classes with the same probability, it is the first. A single output predicts class 1
    from a probability of 0.5.

    Args:
        shares: the probabilities of the classes, [N, classes].
        outputs: the outputs, floats [N, C].
    """
    if outputs.shape[-1] == 1:
        return (shares[:, 1] >= 0.5).astype(np.int64)
    return shares.argmax(-1)


def of_examples(outputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Reshapes outputs to [N, C] and labels to [N]; each position counts as an example.

    Raises:
        InputError: if there is not exactly one label for each example or position.
    """
    if outputs.dtype.kind != "f":
        raise InputError("model", "floating-point outputs", describe(outputs))
    outputs = outputs[:, None] if outputs.ndim == 1 else outputs
    if labels.ndim == outputs.ndim and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if outputs.shape[:-1] != labels.shape:
        expected = f"one class for each output of {describe(outputs)}"
        raise InputError("labels", expected, describe(labels))
    return outputs.reshape(-1, outputs.shape[-1]), labels.reshape(-1)


def mean_loss(loss: Loss, outputs: np.ndarray, labels: np.ndarray) -> float:
    """Computes the mean loss over all examples, from their outputs; see ``jaxnets.evaluate``.

    Args:
        loss: a function (outputs, labels) → scalar.
        outputs: the outputs for all examples.
        labels: the labels of all examples.
    """
    objective = supervised(loss, correct=None)
    parts = []
    for start in range(0, len(labels), EVALUATION_BATCH):
        here = slice(start, start + EVALUATION_BATCH)
        scalar, made = objective.of_outputs(outputs[here], labels[here], labels[here])
        parts.append(as_metrics({"loss": scalar, **made}, len(labels[here]))["loss"])
    return _over(parts)


def _over(parts: list[Any]) -> float:
    stacked: Any = jax.tree.map(lambda *some: np.stack(some), *jax.device_get(parts))
    return float(stacked.over())
