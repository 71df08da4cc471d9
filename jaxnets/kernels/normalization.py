"""Batch normalization as calls of native kernels, forward and backward."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.kernels import native
from jaxnets.kernels.geometry import Shaped
from jaxnets.kernels.gradients import with_gradient


def _like(*arrays: jax.Array) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays]


def _of_axis(parameter: jax.Array | None, x: jax.Array, value: float) -> jax.Array:
    """A parameter, or without one the value that changes nothing."""
    return jnp.full(x.shape[-1], value, x.dtype) if parameter is None else parameter


def serves_batch_norm(x: Shaped, *others: Shaped | None) -> bool:
    """Whether the kernels of ``batch_norm`` can run this, and are faster than XLA's operations.

    Args:
        x: [..., C].
        others: scale and bias [C] or None, and the residual [..., C], if there is one.
    """
    present = [array for array in others if array is not None]
    return x.ndim > 1 and math.prod(x.shape) > 0 and native.ready("normalization", x, *present)


def batch_norm(
    eps: float, plain: Callable[..., Any], *, relu: bool, residual: bool
) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
    """Batch normalization by the statistics of the batch, with what follows it, by kernels.

    Args:
        eps: added to the variance.
        plain: the same function in XLA's operations.
        relu: whether ReLU is applied at the end.
        residual: whether an array is added to the normalized one, before ReLU.

    Returns:
        A function of x [..., C], scale and bias [C] or None, and the residual [..., C] if there is
        one. It gives the outputs [..., C], the mean [C] and the biased variance [C].
    """
    settings = {"eps": np.float64(eps), "relu": np.int32(relu)}

    def run(x: jax.Array, scale: Any, bias: Any, *added: jax.Array) -> tuple[jax.Array, ...]:
        parameters = _of_axis(scale, x, 1), _of_axis(bias, x, 0)
        results, arguments = _like(x, *parameters), (x, *parameters, *added)
        made = native.call("normalization", "batch_norm_forward", results, *arguments, **settings)
        return tuple(made)

    def keep(*inputs: Any) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        y, mean, var = run(*inputs)
        # Without a residual, x tells where y is positive.
        return (y, mean, var), (mean, var, *([y] * (relu and residual)))

    def pull_back(inputs: tuple, kept: tuple[jax.Array, ...], cotangents: tuple) -> tuple:
        (x, scale, bias, *_), (mean, var, *y) = inputs, kept
        d, *d_moments = cotangents
        parameters = _of_axis(scale, x, 1), _of_axis(bias, x, 0)
        arguments = d, x, *parameters, mean, var, *d_moments, *y
        results = _like(x, *parameters, *y)
        dx, d_scale, d_bias, *d_added = native.call(
            "normalization", "batch_norm_backward", results, *arguments, **settings
        )
        d_scale, d_bias = None if scale is None else d_scale, None if bias is None else d_bias
        return dx, d_scale, d_bias, *(d_added or [d] * residual)

    return with_gradient(run, keep, pull_back, plain)
