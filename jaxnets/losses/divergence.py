"""The Kullback-Leibler divergence."""

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from jaxnets.arrays import ArrayLike, check_bool, check_choice
from jaxnets.losses import arguments
from jaxnets.losses.reduction import reduce


def kl_div(
    outputs: ArrayLike, labels: ArrayLike, *, reduction: str = "mean", log_target: bool = False
) -> jax.Array:
    """Computes the Kullback-Leibler divergence p (log p - x), with 0 log 0 = 0.

    Args:
        outputs: log-probabilities x, of any shape.
        labels: the target probabilities p in the outputs' shape, or their logarithms.
        reduction: ``"batchmean"`` divides by the size of the first axis, which is the mathematical
            divergence; ``"mean"`` divides by the number of elements; ``"sum"``; ``"none"``.
        log_target: whether the labels are log p.

    Returns:
        The loss in the outputs' dtype. As in PyTorch, it is NaN for p = 0 and x = -inf.

    Raises:
        InputError: if the shapes differ. Unlike in PyTorch, labels are not broadcast.

    PyTorch: ``torch.nn.functional.kl_div``.
    """
    outputs = arguments.floating("outputs", outputs)
    labels = arguments.aligned("labels", labels, outputs)
    check_choice("reduction", reduction, ("mean", "batchmean", "sum", "none"))
    if check_bool("log_target", log_target):
        losses = jnp.exp(labels) * (labels - outputs)
    else:
        losses = xlogy(labels, labels) - labels * outputs
    if reduction == "batchmean":
        return reduce(losses, "mean", outputs.shape[0] if outputs.ndim else 1)
    return reduce(losses, reduction)
