"""Batch, group and layer normalization by native kernels, forward and backward."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.kernels import native
from jaxnets.kernels.geometry import Shaped
from jaxnets.kernels.gradients import with_gradient
from jaxnets.kernels.shard import vary_like

#: Activations by their numbers in the kernels.
_ACTIVATIONS = ("", "relu", "silu")


def _like(*arrays: jax.Array) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays]


def _or_full(parameter: jax.Array | None, x: jax.Array, size: int, value: float) -> jax.Array:
    """Returns a parameter, or an array of the neutral value if it is None."""
    return jnp.full(size, value, x.dtype) if parameter is None else parameter


def _of_parameters(function: Callable[..., Any]) -> Callable[..., Any]:
    """Makes scale and bias vary over devices as x does; see ``vary_like``."""

    def run(x: jax.Array, scale: Any, bias: Any, *added: jax.Array) -> Any:
        return function(x, *vary_like(x, (scale, bias)), *added)

    return run


def _if_given(parameter: jax.Array | None, gradient: jax.Array) -> jax.Array | None:
    return None if parameter is None else gradient.reshape(parameter.shape)


def supports(x: Shaped, *others: Shaped | None) -> bool:
    """Whether the kernels of this module can run this, and are faster than XLA's operations.

    Args:
        x: the array to normalize.
        others: scale and bias or None, and optionally the residual.
    """
    present = [array for array in others if array is not None]
    return x.ndim > 1 and math.prod(x.shape) > 0 and native.ready("normalization", x, *present)


def batch_norm(
    eps: float, plain: Callable[..., Any], *, activation: str = "", residual: bool = False
) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
    """Makes batch normalization with batch statistics that kernels compute.

    Args:
        eps: the constant that is added to the variance.
        plain: the same function in XLA's operations.
        activation: the activation that follows: ``"relu"``, ``"silu"`` or none.
        residual: whether an array is added to the normalized one, before ReLU.

    Returns:
        A function of x [..., C], scale and bias [C] or None, and with ``residual`` the residual
        [..., C]. It returns the outputs [..., C], the mean [C] and the biased variance [C].
    """
    return _normalization(eps, plain, None, activation, residual)


def group_norm(
    eps: float, plain: Callable[..., Any], *, groups: int, activation: str = ""
) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
    """Makes group normalization that kernels compute.

    Args:
        eps: the constant that is added to the variance.
        plain: the same function in XLA's operations.
        groups: the number of groups of consecutive channels.
        activation: the activation that follows: ``"relu"``, ``"silu"`` or none.

    Returns:
        A function of x [N, ..., C], and scale and bias [C] or None. It returns the outputs
        [N, ..., C], the mean [N, groups] and the biased variance [N, groups].
    """
    return _normalization(eps, plain, groups, activation, residual=False)


def _normalization(
    eps: float,
    plain: Callable[..., Any],
    groups: int | None,
    activation: str,
    residual: bool,
) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
    """Makes group normalization, or batch normalization if ``groups`` is None."""

    def parameters(x: jax.Array, scale: Any, bias: Any) -> tuple[jax.Array, jax.Array]:
        channels = x.shape[-1]
        return _or_full(scale, x, channels, 1), _or_full(bias, x, channels, 0)

    def call(way: str, results: list[Any], x: jax.Array, *arguments: jax.Array) -> list[jax.Array]:
        # For the kernels, batch normalization is the case of one example.
        examples, of_each = (1, x.shape[-1]) if groups is None else (len(x), groups)
        settings = {
            "activation": np.int32(_ACTIVATIONS.index(activation)),
            "eps": np.float64(eps),
            "examples": np.int64(examples),
            "groups": np.int64(of_each),
        }
        name = f"group_norm_{way}"
        return native.call("normalization", name, results, *arguments, **settings)

    def run(x: jax.Array, scale: Any, bias: Any, *added: jax.Array) -> tuple[jax.Array, ...]:
        of_groups = x.shape[-1:] if groups is None else (len(x), groups)
        results = [*_like(x), *[jax.ShapeDtypeStruct(of_groups, x.dtype)] * 2]
        return tuple(call("forward", results, x, x, *parameters(x, scale, bias), *added))

    def keep(*inputs: Any) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        y, mean, var = run(*inputs)
        # The gradient of ReLU needs the sign of y. Without a residual, the backward kernel computes
        # the activation's input from x, so y need not be kept.
        return (y, mean, var), (mean, var, *([y] * (activation == "relu" and residual)))

    def pull_back(inputs: tuple, kept: tuple[jax.Array, ...], cotangents: tuple) -> tuple:
        (x, scale, bias, *_), (mean, var, *y) = inputs, kept
        d, *d_moments = cotangents
        given = parameters(x, scale, bias)
        arguments = (d, x, *given, mean, var, *d_moments, *y)
        dx, d_scale, d_bias, *d_added = call("backward", _like(x, *given, *y), x, *arguments)
        gradients = dx, _if_given(scale, d_scale), _if_given(bias, d_bias)
        # Without ReLU the gradient of the residual is that of the outputs.
        return *gradients, *(d_added or [d] * residual)

    return _of_parameters(with_gradient(run, keep, pull_back, plain))


def layer_norm(
    eps: float, plain: Callable[..., Any], *, axes: int = 1, residual: bool = False
) -> Callable[..., Any]:
    """Makes layer normalization, optionally of a sum, that kernels compute.

    Args:
        eps: the constant that is added to the variance.
        plain: the same function in XLA's operations.
        axes: number of last axes that are normalized over.
        residual: whether an array is added to x first.

    Returns:
        A function of x [..., *S], scale and bias [*S] or None, and with ``residual`` the residual
        [..., *S]. It returns the outputs [..., *S]; with ``residual`` a tuple of the outputs and
        the sum.
    """

    def parameters(x: jax.Array, scale: Any, bias: Any) -> tuple[int, jax.Array, jax.Array]:
        size = math.prod(x.shape[-axes:])
        return size, _or_full(scale, x, size, 1), _or_full(bias, x, size, 0)

    def outputs(inputs: Any, more: list[jax.ShapeDtypeStruct]) -> list[jax.Array]:
        x, scale, bias, *added = inputs
        size, *given = parameters(x, scale, bias)
        return native.call(
            "normalization",
            "layer_norm_forward",
            _like(x, *added) + more,
            *(x, *given, *added),
            eps=np.float64(eps),
            size=np.int64(size),
        )

    def run(*inputs: Any) -> Any:
        made = outputs(inputs, [])
        return tuple(made) if residual else made[0]

    def keep(*inputs: Any) -> tuple[Any, list[jax.Array]]:
        x = inputs[0]
        of_rows = jax.ShapeDtypeStruct(x.shape[:-axes], x.dtype)
        *made, mean, inverse = outputs(inputs, [of_rows] * 2)
        return tuple(made) if residual else made[0], [*made[1:], mean, inverse]

    def pull_back(inputs: tuple, kept: list[jax.Array], cotangents: Any) -> tuple:
        x, scale, bias, *_ = inputs
        *total, mean, inverse = kept
        d, *d_total = cotangents if residual else (cotangents,)
        size, *given = parameters(x, scale, bias)
        dx, d_scale, d_bias = native.call(
            "normalization",
            "layer_norm_backward",
            _like(x, *given),
            *(d, *(total or [x]), mean, inverse, given[0], *d_total),
            size=np.int64(size),
        )
        gradients = dx, _if_given(scale, d_scale), _if_given(bias, d_bias)
        return *gradients, *([dx] * residual)  # both terms of the sum have the same gradient

    return _of_parameters(with_gradient(run, keep, pull_back, plain))
