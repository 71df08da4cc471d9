"""Whether outputs of a classifier are logits or probabilities, and those of its classes."""

from typing import Literal

import numpy as np
from flax import nnx

from jaxnets import losses
from jaxnets.arrays import InputError
from jaxnets.training.labels import OF_PROBABILITIES, Loss, unwrapped

#: What the outputs of a classifier are.
Kind = Literal["logits", "probabilities"]
_TAKE_PROBABILITIES = (losses.binary_cross_entropy, losses.cross_entropy_of_probabilities)
_ROUNDING = 1e-3  # of a sum of probabilities


def stated_kind(model: nnx.Module, loss: Loss | None) -> Kind | None:
    """What outputs are by the network's attribute ``output`` or the loss; None if neither says it.

    Args:
        model: the network.
        loss: what it was trained with; None if that is not known.
    """
    output = getattr(model, "output", None)
    if isinstance(output, str):
        return "logits" if output == "logits" else "probabilities"
    known = loss is not None and unwrapped(loss)[0] in _TAKE_PROBABILITIES
    return "probabilities" if known else None


def kind_of(
    outputs: np.ndarray, model: nnx.Module, loss: Loss | None, alone: Kind | None = None
) -> Kind:
    """Whether outputs are logits or probabilities, as the network or the loss states it.

    Otherwise several outputs are probabilities if those of each example are positive and add up to
    1. An output that is alone counts as a logit, unless all are from 0 to 1.

    Args:
        outputs: floats [..., C].
        model: see ``stated_kind``.
        loss: see ``stated_kind``.
        alone: what an output is that is alone, where nothing states it; None refuses it.

    Raises:
        InputError: if nothing states what the output is that is alone.
    """
    stated = stated_kind(model, loss)
    if stated is not None:
        return stated
    positive = bool(outputs.size) and outputs.min() >= 0
    if outputs.shape[-1] > 1:
        sums = outputs.sum(-1, dtype=np.float64)
        return "probabilities" if positive and abs(sums - 1).max() < _ROUNDING else "logits"
    taken_for_logits = loss is not None and unwrapped(loss)[0] in OF_PROBABILITIES
    if taken_for_logits or not positive or outputs.max() > 1:
        return "logits"
    if alone is not None:
        return alone
    expected = "'logits' or 'probabilities', as outputs from 0 to 1 may be either"
    raise InputError("outputs", expected, "'auto'")


def class_probabilities(outputs: np.ndarray, kind: Kind) -> np.ndarray:
    """The probability of each class, [..., classes].

    Args:
        outputs: of a network, [..., classes], or [..., 1] where one output tells two classes apart.
        kind: what they are.
    """
    if outputs.shape[-1] == 1:
        second = 1 / (1 + np.exp(-outputs)) if kind == "logits" else outputs
        return np.concatenate([1 - second, second], axis=-1)
    if kind == "probabilities":
        return outputs
    exponentials = np.exp(outputs - outputs.max(-1, keepdims=True))
    shares: np.ndarray = exponentials / exponentials.sum(-1, keepdims=True)
    return shares
