"""The distance of one distribution from another."""

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from jaxnets.arrays import ArrayLike, check_bool, check_choice
from jaxnets.losses import arguments
from jaxnets.losses.reduction import reduce


def kl_div(
    outputs: ArrayLike, labels: ArrayLike, *, reduction: str = "mean", log_target: bool = False
) -> jax.Array:
    """Kullback-Leibler divergence of log-probabilities from a target: p (log p - x), 0 log 0 = 0.

    Args:
        outputs: log-probabilities x, of any shape.
        labels: the target probabilities p in the outputs' shape, or their logarithms.
        reduction: ``"mean"`` divides by the number of elements, which is not the divergence;
            ``"batchmean"`` divides by the size of the first axis, which is; ``"sum"``; ``"none"``.
        log_target: whether the labels are log p.

    Returns:
        The loss in the outputs' dtype. As in PyTorch, p = 0 against x = -inf is NaN.

    Raises:
        InputError: for shapes that differ: unlike PyTorch, no loss here broadcasts labels.

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
