"""The outputs of a network for each example of a split, and what it predicts by them."""

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

_STREAMED = 8 * EVALUATION_BATCH  # examples that are read at a time


def outputs_of(
    model: nnx.Module, split: Split | StreamedSplit, transform: Transform | None
) -> tuple[np.ndarray, np.ndarray]:
    """The outputs for each example of a split, and its labels.

    Args:
        model: the network.
        split: the examples, in memory or streamed.
        transform: what inputs go through first; None for nothing.

    Raises:
        InputError: if the examples do not fit the network or have no labels, or it gives several
            arrays, or a number that is NaN or infinite.
    """
    if split.spec.labels is None:
        raise InputError("split", "examples with labels", "examples without")
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
    """The class of each example, int [N]: the first of the likeliest, as accuracy counts.

    Args:
        shares: the probabilities of ``outputs``.
        outputs: floats [N, C]; of one that is alone, class 1 begins at a half.
    """
    if outputs.shape[-1] == 1:
        return (shares[:, 1] >= 0.5).astype(np.int64)
    return shares.argmax(-1)


def of_examples(outputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outputs [N, C] and labels [N] of classes; a label for each position counts as an example.

    Raises:
        InputError: if there is not one class for each example or position.
    """
    if outputs.dtype.kind != "f":
        raise InputError("model", "outputs that are floats", describe(outputs))
    outputs = outputs[:, None] if outputs.ndim == 1 else outputs
    if labels.ndim == outputs.ndim and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if outputs.shape[:-1] != labels.shape:
        expected = f"one class for each output of {describe(outputs)}"
        raise InputError("labels", expected, f"{describe(labels)}, which may be of several")
    return outputs.reshape(-1, outputs.shape[-1]), labels.reshape(-1)


def mean_loss(loss: Loss, outputs: np.ndarray, labels: np.ndarray) -> float:
    """The mean loss of all examples, from their outputs; see ``jaxnets.evaluate``.

    Args:
        loss: (outputs, labels) → scalar.
        outputs: of all examples.
        labels: their labels.
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
