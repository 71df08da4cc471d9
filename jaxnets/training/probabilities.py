"""Distinguishes logits from probabilities, and computes the probability of each class."""

from typing import Literal

import numpy as np
from flax import nnx

from jaxnets import losses
from jaxnets.arrays import InputError
from jaxnets.training.labels import OF_PROBABILITIES, Loss, unwrapped

#: The kind of a classifier's outputs.
Kind = Literal["logits", "probabilities"]
_TAKE_PROBABILITIES = (losses.binary_cross_entropy, losses.cross_entropy_of_probabilities)
_ROUNDING = 1e-3  # of a sum of probabilities


def stated_kind(model: nnx.Module, loss: Loss | None) -> Kind | None:
    """Returns the kind of outputs stated by the attribute ``output`` of the network, or the loss.

    Args:
        model: the network.
        loss: the loss with which it was trained; None if unknown.

    Returns:
        None if neither determines the kind.
    """
    output = getattr(model, "output", None)
    if isinstance(output, str):
        return "logits" if output == "logits" else "probabilities"
    known = loss is not None and unwrapped(loss)[0] in _TAKE_PROBABILITIES
    return "probabilities" if known else None


def kind_of(
    outputs: np.ndarray, model: nnx.Module, loss: Loss | None, alone: Kind | None = None
) -> Kind:
    """Determines whether outputs are logits or probabilities.

    The network or the loss decides; see ``stated_kind``. Otherwise several outputs are
    probabilities if those of each example are not negative and add up to 1. A single output is a
    logit, unless all outputs are in [0, 1].

    Args:
        outputs: floats [..., C].
        model: see ``stated_kind``.
        loss: see ``stated_kind``.
        alone: the kind of a single output in [0, 1] that is otherwise undetermined; None raises.

    Raises:
        InputError: if ``alone`` is None and the kind of a single output is undetermined.
    """
    stated = stated_kind(model, loss)
    if stated is not None:
        return stated
    positive = bool(outputs.size) and outputs.min() >= 0
    if outputs.shape[-1] > 1:
        sums = outputs.sum(-1, dtype=np.float64)
        return "probabilities" if positive and abs(sums - 1).max() < _ROUNDING else "logits"
    # binary_cross_entropy was handled above, so this is the loss that takes logits.
    taken_for_logits = loss is not None and unwrapped(loss)[0] in OF_PROBABILITIES
    if taken_for_logits or not positive or outputs.max() > 1:
        return "logits"
    if alone is not None:
        return alone
    expected = "'logits' or 'probabilities', as outputs from 0 to 1 may be either"
    raise InputError("outputs", expected, "'auto'")


def class_probabilities(outputs: np.ndarray, kind: Kind) -> np.ndarray:
    """Computes the probability of each class, [..., classes].

    Args:
        outputs: the outputs of a network, [..., classes], or [..., 1] for two classes.
        kind: the kind of the outputs.
    """
    if outputs.shape[-1] == 1:
        second = 1 / (1 + np.exp(-outputs)) if kind == "logits" else outputs
        return np.concatenate([1 - second, second], axis=-1)
    if kind == "probabilities":
        return outputs
    exponentials = np.exp(outputs - outputs.max(-1, keepdims=True))  # cannot overflow
    shares: np.ndarray = exponentials / exponentials.sum(-1, keepdims=True)
    return shares
