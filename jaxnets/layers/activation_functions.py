"""Activations as functions under the names of ``torch.nn.functional``."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import ArrayLike, InputError, check_float_dtype, check_floats, describe
from jaxnets.layers import activation


def gelu(input: ArrayLike, approximate: str = "none") -> jax.Array:
    """``torch.nn.functional.gelu``: as the layer ``GELU``, whose arguments these are."""
    return _applied(activation.GELU(approximate), input)


def glu(input: ArrayLike, dim: int = -1) -> jax.Array:
    """``torch.nn.functional.glu``: as the layer ``GLU``, whose arguments these are."""
    return _applied(activation.GLU(dim), input)


def hardsigmoid(input: ArrayLike, inplace: bool = False) -> jax.Array:
    """``torch.nn.functional.hardsigmoid``: as ``Hardsigmoid``, whose arguments these are."""
    return _applied(activation.Hardsigmoid(inplace), input)


def hardswish(input: ArrayLike, inplace: bool = False) -> jax.Array:
    """``torch.nn.functional.hardswish``: as the layer ``Hardswish``, whose arguments these are."""
    return _applied(activation.Hardswish(inplace), input)


def hardtanh(
    input: ArrayLike, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> jax.Array:
    """``torch.nn.functional.hardtanh``: as the layer ``Hardtanh``, whose arguments these are."""
    return _applied(activation.Hardtanh(min_val, max_val, inplace), input)


def leaky_relu(input: ArrayLike, negative_slope: float = 0.01, inplace: bool = False) -> jax.Array:
    """``torch.nn.functional.leaky_relu``: as ``LeakyReLU``, whose arguments these are."""
    return _applied(activation.LeakyReLU(negative_slope, inplace), input)


def log_softmax(input: ArrayLike, dim: int, *, dtype: DTypeLike | None = None) -> jax.Array:
    """``torch.nn.functional.log_softmax``: as ``LogSoftmax``; arguments as of ``softmax``."""
    return _applied(activation.LogSoftmax(dim), input, dtype)


def prelu(input: ArrayLike, weight: ArrayLike) -> jax.Array:
    """``torch.nn.functional.prelu``: x where x > 0, else weight · x.

    Args:
        input: [N, ..., C].
        weight: one slope [1], or one for each channel [C].

    Returns:
        An array of the shape and dtype of the input.

    Raises:
        InputError: if an array is not floating, or the slopes are of another number.
    """
    check_floats("input", input, ("...",))
    check_floats("weight", weight, ("C",))
    count = weight.shape[0]
    if count != 1 and (input.ndim < 2 or input.shape[-1] != count):
        raise InputError("input", f"[N, ..., {count}], a slope per channel", describe(input))
    return activation.leaky(jnp.asarray(input), jnp.asarray(weight[...]))


def relu6(input: ArrayLike, inplace: bool = False) -> jax.Array:
    """``torch.nn.functional.relu6``: as the layer ``ReLU6``, whose arguments these are."""
    return _applied(activation.ReLU6(inplace), input)


def softmax(input: ArrayLike, dim: int, *, dtype: DTypeLike | None = None) -> jax.Array:
    """``torch.nn.functional.softmax``: eˣ, divided by its sum over one axis.

    Args:
        input: a floating-point array.
        dim: the axis, as of the layer ``Softmax``.
        dtype: that of the computation and the outputs; None for the input's.

    Returns:
        An array of the input's shape.

    Raises:
        InputError: if the input is not floating, or as of ``Softmax``.
    """
    return _applied(activation.Softmax(dim), input, dtype)


def softmin(input: ArrayLike, dim: int, *, dtype: DTypeLike | None = None) -> jax.Array:
    """``torch.nn.functional.softmin``: as ``Softmin``; arguments as of ``softmax``."""
    return _applied(activation.Softmin(dim), input, dtype)


def softplus(input: ArrayLike, beta: float = 1.0, threshold: float = 20.0) -> jax.Array:
    """``torch.nn.functional.softplus``: as the layer ``Softplus``, whose arguments these are."""
    return _applied(activation.Softplus(beta, threshold), input)


def _applied(layer: nnx.Module, input: ArrayLike, dtype: DTypeLike | None = None) -> jax.Array:
    check_floats("input", input, ("...",))
    values = jnp.asarray(input)
    if dtype is not None:
        values = values.astype(check_float_dtype("dtype", dtype))
    return layer(values)
