"""What a loss takes labels for, where it is one of ours."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxnets import losses, metrics
from jaxnets.arrays import InputError, check_function
from jaxnets.data.dataset import Split
from jaxnets.data.streaming import StreamedSplit
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
    """What a loss takes for classes; None if it takes none, or is not known.

    Args:
        loss: one of ours, or a ``functools.partial`` of it.
        outputs: shape of the model's outputs.
        labels: shape and dtype of the labels.
    """
    function, options = unwrapped(loss)
    if function not in _OF_CLASSES or not np.issubdtype(labels.dtype, np.integer):
        return None
    if len(getattr(outputs, "shape", ())) != len(labels.shape) + 1:
        return None
    return Classes(outputs.shape[-1], options.get("ignore_index", _NO_CLASS))


def counter(correct: Any, loss: Loss, split: Split | StreamedSplit) -> Count | None:
    """What counts the correct predictions on a split, given what the user asked for.

    Raises:
        InputError: if it is neither a function, nor ``"auto"``, nor None.
    """
    if not isinstance(correct, str) or correct != "auto":
        expected = "a function, 'auto' or None"
        return None if correct is None else check_function("correct", correct, expected)
    function, _ = unwrapped(loss)
    if function in OF_QUANTITIES or not np.issubdtype(split.spec.labels.dtype, np.integer):
        return None
    logits = function is losses.binary_cross_entropy_with_logits
    return metrics.correct_logits if logits else metrics.correct


def check_loss(loss: Any) -> None:
    """Raises unless a loss is a function, and none of PyTorch's."""
    check_function("loss", loss, "a function of (outputs, labels)")


def check_counter(correct: Count | None, outputs: Any) -> None:
    """Checks that what counts by itself is given one array.

    Args:
        correct: what counts.
        outputs: shapes of the model's outputs.

    Raises:
        InputError: if these are a structure.
    """
    if correct in (metrics.correct, metrics.correct_logits) and not hasattr(outputs, "shape"):
        expected = "None or a function, as the model's outputs are no single array"
        raise InputError("correct", expected, "'auto'")


def unwrapped(loss: Loss) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The function of a loss, and what ``functools.partial`` gives it."""
    if not isinstance(loss, functools.partial):
        return loss, {}
    function, options = unwrapped(loss.func)
    return function, {**options, **loss.keywords}
