"""Folds a batch normalization into the layer before it."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.layers import BatchNorm1d, BatchNorm2d, BatchNorm3d

NORMS = BatchNorm1d, BatchNorm2d, BatchNorm3d, nnx.BatchNorm


class FoldedNorm(nnx.Module):
    """An identity that replaces a batch normalization after folding.

    Args:
        into: the path of the layer that it was folded into.
    """

    def __init__(self, into: str) -> None:
        self.into = into

    def __call__(self, x: jax.Array, *ignored: Any, **also_ignored: Any) -> jax.Array:
        """Returns x."""
        return x


def can_fold(norm: nnx.Module) -> bool:
    """Whether a module is a batch normalization with running statistics."""
    return type(norm) in NORMS and getattr(norm, "mean", None) is not None


def folded(layer: Any, norm: Any) -> nnx.Module:
    """Folds a batch normalization, in evaluation mode, into the layer before it.

    With γ, β, μ and σ² of the normalization, the new weight is W γ / √(σ² + ε) and the new bias
    (b - μ) γ / √(σ² + ε) + β.

    Args:
        layer: a convolution or a linear layer, with outputs along the last axis of the kernel.
        norm: the normalization, with running statistics.

    Returns:
        A new layer of the same class.
    """
    eps = norm.eps if hasattr(norm, "eps") else norm.epsilon
    factor = 1 / jnp.sqrt(norm.var[...] + eps)
    if norm.scale is not None:
        factor = factor * norm.scale[...]
    kernel = layer.kernel[...]
    bias = jnp.zeros_like(factor) if layer.bias is None else layer.bias[...]
    bias = (bias - norm.mean[...]) * factor
    if norm.bias is not None:
        bias = bias + norm.bias[...]
    made = nnx.clone(layer)
    made.kernel = nnx.Param(kernel * factor.reshape((1,) * (kernel.ndim - 1) + (-1,)))
    made.bias = nnx.data(nnx.Param(bias.astype(kernel.dtype)))
    if hasattr(made, "use_bias"):
        made.use_bias = True
    return made
