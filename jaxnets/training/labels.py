"""How losses interpret labels, and whether a loss sums over the examples of a batch."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import losses
from jaxnets.arrays import InputError, check_function

#: The loss of a batch: (outputs [batch, …], labels [batch, …]) → scalar, like PyTorch's criteria.
Loss = Callable[[Any, Any], jax.Array]

OF_CLASSES = (losses.cross_entropy, losses.nll_loss, losses.cross_entropy_of_probabilities)
OF_PROBABILITIES = (losses.binary_cross_entropy, losses.binary_cross_entropy_with_logits)
#: Losses that measure a distance.
OF_QUANTITIES = (
    losses.mse_loss,
    losses.l1_loss,
    losses.smooth_l1_loss,
    losses.huber_loss,
    losses.kl_div,
)
#: The label that the losses over classes ignore by default, as in PyTorch.
IGNORED = -100
_KNOWN = {*losses.LOSSES.values(), losses.ctc_loss}
_ROUNDING = 1e-6


class Labels(Protocol):
    """The protocol of the labels that are valid for a loss."""

    def check(self, argument: str, labels: np.ndarray) -> None:
        """Checks labels on the host, because a compiled program cannot raise."""


class Classes(NamedTuple):
    """The valid labels of a loss over classes.

    Attributes:
        number: number of classes.
        ignored: the label that the loss ignores; None if there is none.
    """

    number: int
    ignored: int | None

    def check(self, argument: str, labels: np.ndarray) -> None:
        """Checks labels on the host, because a compiled program cannot raise.

        Raises:
            InputError: if a label is not a class.
        """
        counted = labels if self.ignored is None else labels[labels != self.ignored]
        if counted.size and not 0 <= counted.min() <= counted.max() < self.number:
            raise InputError(
                argument,
                f"classes in [0, {self.number - 1}], as the model has {self.number} outputs",
                f"labels from {counted.min()} to {counted.max()}",
            )


class Probabilities(NamedTuple):
    """The valid labels of a loss over probabilities.

    Attributes:
        loss: the name of the loss.
    """

    loss: str

    def check(self, argument: str, labels: np.ndarray) -> None:
        """Checks labels on the host, because a compiled program cannot raise.

        Raises:
            InputError: if a label is not a probability.
        """
        if labels.size and not 0 <= labels.min() <= labels.max() <= 1 + _ROUNDING:
            expected = f"labels from 0 to 1 for {self.loss}"
            raise InputError(argument, expected, f"{labels.min():g} to {labels.max():g}")


def expected_probabilities(loss: Loss, labels: Any) -> Probabilities | None:
    """Returns the check of labels that are probabilities.

    Args:
        loss: a built-in loss, or any other function.
        labels: shape and dtype of the labels.

    Returns:
        None if the loss does not interpret labels as probabilities, or is not built in.
    """
    function, _ = unwrapped(loss)
    floating = jnp.issubdtype(labels.dtype, jnp.floating)
    if function in OF_PROBABILITIES or (function is losses.cross_entropy and floating):
        return Probabilities(function.__name__)
    return None


def check_outputs(loss: Loss, outputs: Any) -> None:
    """Checks that the model has several outputs if the loss is over classes.

    Args:
        loss: a built-in loss, or any other function, which is not checked.
        outputs: shape of the model's outputs.

    Raises:
        InputError: if there is a single output.
    """
    function, _ = unwrapped(loss)
    if function in OF_CLASSES and hasattr(outputs, "shape") and _is_single(outputs):
        expected = (
            "another one for a single output (mse_loss for numbers, "
            "binary_cross_entropy_with_logits for two classes)"
        )
        got = f"{function.__name__}, which requires one output per class"
        raise InputError("loss", expected, got)


def check_names(loss: Loss, outputs: Any, labels: Any, names: Sequence[str] | None) -> None:
    """Checks that the number of outputs matches the number of class names.

    Args:
        loss: a built-in loss, or any other function, which is not checked.
        outputs: shape of the model's outputs.
        labels: see ``expected_probabilities``.
        names: the class names; None if there are none.

    Raises:
        InputError: if the numbers differ.
    """
    function, _ = unwrapped(loss)
    if names is None or not hasattr(outputs, "shape"):
        return
    number = len(names)
    if function in OF_CLASSES and _has_axis_of_classes(outputs, labels):
        number = outputs.shape[-1]
    elif function in OF_PROBABILITIES and _is_single(outputs):
        number = 2
    if number != len(names):
        listed = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        expected = f"outputs for the {len(names)} classes {listed}"
        raise InputError("model", expected, f"outputs for {number}")


def _is_single(outputs: Any) -> bool:
    return len(outputs.shape) == 1 or outputs.shape[-1] == 1


def _has_axis_of_classes(outputs: Any, labels: Any) -> bool:
    return (
        np.issubdtype(labels.dtype, np.integer)
        and len(getattr(outputs, "shape", ())) == len(labels.shape) + 1
    )


def adds_up(loss: Loss, outputs: Any, labels: Any) -> bool:
    """Whether a loss is a sum over the examples of a batch, not a mean.

    A loss that is not built in is evaluated on two examples, and on each of them twice: a sum
    doubles, a mean does not change.

    Args:
        loss: the loss.
        outputs: the model's outputs for a batch, or their shapes and dtypes.
        labels: the labels of the batch, or their shapes and dtypes.
    """
    function, options = unwrapped(loss)
    if function in _KNOWN:
        return options.get("reduction", "mean") == "sum"
    leaves, structure = jax.tree.flatten((outputs, labels))
    if not all(jnp.ndim(leaf) for leaf in leaves):  # no batch axis to double
        return False
    return _found_to_add_up(loss, structure, tuple((x.shape[1:], x.dtype) for x in leaves))


@functools.lru_cache(maxsize=64)
def _found_to_add_up(loss: Loss, structure: Any, shapes: tuple[Any, ...]) -> bool:
    pair = [jax.ShapeDtypeStruct((2, *shape), dtype) for shape, dtype in shapes]
    outputs, labels = jax.tree.unflatten(structure, pair)

    def once_and_twice(outputs: Any, labels: Any) -> tuple[Any, Any]:
        twice = jax.tree.map(lambda x: jnp.concatenate([x, x]), (outputs, labels))
        return loss(outputs, labels), loss(*twice)

    rng = np.random.default_rng(0)
    # Between 0 and 1, so that the values are valid logits and probabilities.
    drawn = jax.tree.map(lambda x: rng.uniform(0.1, 0.9, x.shape).astype(x.dtype), outputs)
    try:
        with jax.disable_jit(False):
            return _doubles(once_and_twice, drawn, labels)
    except Exception:  # a user's function, for which these examples may be invalid
        return False


def _doubles(once_and_twice: Callable[..., Any], outputs: Any, labels: Any) -> bool:
    """Whether the second of two results is twice the first."""
    traced = jax.jit(once_and_twice).trace(outputs, labels)
    if traced.jaxpr.effects:  # a callback or print would show made-up values to the user
        return False
    measure = traced.lower().compile()
    for label in (1, 0):  # a loss may ignore one of the labels
        same = jax.tree.map(lambda x, label=label: np.full(x.shape, label, x.dtype), labels)
        once, twice = map(float, measure(outputs, same))
        if np.isfinite(once) and once:
            return bool(np.isclose(twice, 2 * once, rtol=1e-2))
    return False


def check_loss(loss: Any) -> None:
    """Checks that a loss is a function, and not a PyTorch module."""
    check_function("loss", loss, "a function of (outputs, labels)")


def unwrapped(loss: Loss) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Returns the function of a loss, and the keyword arguments of ``functools.partial``."""
    if not isinstance(loss, functools.partial):
        return loss, {}
    function, options = unwrapped(loss.func)
    return function, {**options, **loss.keywords}
