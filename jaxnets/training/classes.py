"""What a loss takes labels for, where it is one of ours."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnets import losses, metrics
from jaxnets.arrays import InputError
from jaxnets.data.dataset import Split
from jaxnets.data.streaming import StreamedSplit
from jaxnets.losses.classification import noted_labels
from jaxnets.training.state import Count, Loss

_OF_CLASSES = (losses.cross_entropy, losses.nll_loss, losses.cross_entropy_of_probabilities)
_OF_PROBABILITIES = (losses.binary_cross_entropy, losses.binary_cross_entropy_with_logits)
#: Losses that measure a distance.
OF_QUANTITIES = (
    losses.mse_loss,
    losses.l1_loss,
    losses.smooth_l1_loss,
    losses.huber_loss,
    losses.kl_div,
)
_NO_CLASS = -100  # what the losses ignore, as in PyTorch


class Classes(NamedTuple):
    """The labels that a loss over classes takes.

    Attributes:
        number: how many classes there are.
        ignored: the label that adds nothing.
    """

    number: int
    ignored: int

    def check(self, argument: str, labels: np.ndarray) -> None:
        """Looks at labels before they vanish into a compiled program.

        Raises:
            InputError: if one is no class.
        """
        counted = labels[labels != self.ignored]
        if counted.size and not 0 <= counted.min() <= counted.max() < self.number:
            raise InputError(
                argument,
                f"classes in [0, {self.number - 1}], as the model has {self.number} outputs",
                f"labels from {counted.min()} to {counted.max()}",
            )


def classes(loss: Loss, outputs: Any, labels: Any) -> Classes | None:
    """What a loss takes for classes; None if it takes none, or does not hand them to one of ours.

    Args:
        loss: one of ours, or a function that calls one with the labels as they are.
        outputs: shape of the model's outputs.
        labels: shape and dtype of the labels.
    """
    if not np.issubdtype(labels.dtype, np.integer):
        return None
    read: list[Classes] = []

    def look(outputs: Any, labels: jax.Array) -> Any:
        with noted_labels() as found:
            made = loss(outputs, labels)
        read.extend(Classes(one.classes, one.ignored) for one in found if one.labels is labels)
        return made

    try:
        jax.eval_shape(look, outputs, labels)
    except Exception:  # the step says what is wrong, with the true shapes
        return None
    return read[0] if read else None


def counter(correct: Any, loss: Loss, split: Split | StreamedSplit) -> Count | None:
    """What counts the correct predictions on a split, given what the user asked for.

    Raises:
        InputError: if it is neither a function, nor ``"auto"``, nor None.
    """
    if correct is None or callable(correct):
        return correct
    if correct != "auto":
        raise InputError("correct", "a function, 'auto' or None", repr(correct))
    function, _ = unwrapped(loss)
    if function in OF_QUANTITIES or not np.issubdtype(split.spec.labels.dtype, np.integer):
        return None
    logits = function is losses.binary_cross_entropy_with_logits
    return metrics.correct_logits if logits else metrics.correct


def unwrapped(loss: Loss) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function of a loss, and what ``functools.partial`` gives it."""
    if not isinstance(loss, functools.partial):
        return loss, {}
    function, options = unwrapped(loss.func)
    return function, {**options, **loss.keywords}
