"""Shrinkage activations: hardshrink, softshrink, tanhshrink and threshold."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.arrays import ArrayLike, check_bool, check_floats, check_number


def hardshrink(input: ArrayLike, lambd: float = 0.5) -> jax.Array:
    """``torch.nn.functional.hardshrink``: x where |x| > lambd, else 0 with slope 0.

    Args:
        input: a floating-point array of any shape.
        lambd: the largest |x| that becomes 0.

    Returns:
        An array of the shape and dtype of the input.

    Raises:
        InputError: if the input is not floating, or lambd is not a number.
    """
    check_floats("input", input, ("...",))
    return Hardshrink(lambd)(input)


def softshrink(input: ArrayLike, lambd: float = 0.5) -> jax.Array:
    """``torch.nn.functional.softshrink``: sign(x) · max(|x| - lambd, 0).

    Args:
        input: a floating-point array of any shape.
        lambd: the amount that is subtracted from |x|, at least 0.

    Returns:
        An array of the shape and dtype of the input.

    Raises:
        InputError: if the input is not floating, or lambd is negative.
    """
    check_floats("input", input, ("...",))
    return Softshrink(lambd)(input)


def tanhshrink(input: ArrayLike) -> jax.Array:
    """``torch.nn.functional.tanhshrink``: x - tanh(x).

    Args:
        input: a floating-point array of any shape.

    Returns:
        An array of the shape and dtype of the input.

    Raises:
        InputError: if the input is not floating.
    """
    check_floats("input", input, ("...",))
    return Tanhshrink()(input)


def threshold(input: ArrayLike, threshold: float, value: float, inplace: bool = False) -> jax.Array:
    """``torch.nn.functional.threshold``: x where x > threshold, else a constant.

    Args:
        input: a floating-point array of any shape.
        threshold: the largest x that is replaced.
        value: the constant.
        inplace: accepted for compatibility with PyTorch; has no effect.

    Returns:
        An array of the shape and dtype of the input.

    Raises:
        InputError: if the input is not floating, or another argument is invalid.
    """
    check_floats("input", input, ("...",))
    return Threshold(threshold, value, inplace)(input)


class Hardshrink(nnx.Module):
    """``torch.nn.Hardshrink``: x where |x| > lambd, else 0 with slope 0.

    Args:
        lambd: the largest |x| that becomes 0.
    """

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = check_number("lambd", lambd, finite=False)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        x = jnp.asarray(x)
        return jnp.where(_within(x, self.lambd), 0, x)


class Softshrink(nnx.Module):
    """``torch.nn.Softshrink``: sign(x) · max(|x| - lambd, 0), slope 0 where |x| ≤ lambd.

    Args:
        lambd: the amount that is subtracted from |x|, at least 0.
    """

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = check_number("lambd", lambd, least=0)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        x = jnp.asarray(x)
        shrunk = jnp.where(x < 0, x + self.lambd, x - self.lambd)
        return jnp.where(_within(x, self.lambd), 0, shrunk)


class Tanhshrink(nnx.Module):
    """``torch.nn.Tanhshrink``: x - tanh(x)."""

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        x = jnp.asarray(x)
        return x - jnp.tanh(x)


class Threshold(nnx.Module):
    """``torch.nn.Threshold``: x where x > threshold, else a constant.

    Args:
        threshold: the largest x that is replaced.
        value: the constant.
        inplace: accepted for compatibility with PyTorch; has no effect.
    """

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        check_bool("inplace", inplace)
        self.threshold = check_number("threshold", threshold, finite=False)
        self.value = check_number("value", value, finite=False)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        x = jnp.asarray(x)
        return jnp.where(x <= self.threshold, jnp.asarray(self.value, x.dtype), x)


def _within(x: jax.Array, lambd: float) -> jax.Array:
    return (x >= -lambd) & (x <= lambd)  # False for NaN, so that NaN is kept
