"""What is small becomes zero or a constant: as modules, and as in ``torch.nn.functional``."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.arrays import ArrayLike, check_bool, check_floats, check_number


def hardshrink(input: ArrayLike, lambd: float = 0.5) -> jax.Array:
    """``torch.nn.functional.hardshrink``: x where |x| > lambd, else 0 with slope 0.

    Args:
        input: a floating-point array of any shape.
        lambd: how large the gap is.

    Returns:
        An array of the shape and dtype of the input.

    Raises:
        InputError: if the input is not floating, or lambd is no number.
    """
    check_floats("input", input, ("...",))
    return _hardshrink(jnp.asarray(input), check_number("lambd", lambd, finite=False))


def softshrink(input: ArrayLike, lambd: float = 0.5) -> jax.Array:
    """``torch.nn.functional.softshrink``: x brought nearer to 0 by lambd; 0 with slope 0 within.

    Args:
        input: a floating-point array of any shape.
        lambd: how much nearer, at least 0.

    Returns:
        An array of the shape and dtype of the input.

    Raises:
        InputError: if the input is not floating, or lambd is negative.
    """
    check_floats("input", input, ("...",))
    return _softshrink(jnp.asarray(input), check_number("lambd", lambd, least=0))


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
    return _tanhshrink(jnp.asarray(input))


def threshold(input: ArrayLike, threshold: float, value: float, inplace: bool = False) -> jax.Array:
    """``torch.nn.functional.threshold``: x where x > threshold, else a constant.

    Args:
        input: a floating-point array of any shape.
        threshold: up to which x is replaced.
        value: the constant.
        inplace: PyTorch's, which changes nothing here.

    Returns:
        An array of the shape and dtype of the input.

    Raises:
        InputError: if the input is not floating, or another argument of another kind.
    """
    check_floats("input", input, ("...",))
    check_bool("inplace", inplace)
    limit = check_number("threshold", threshold, finite=False)
    return _threshold(jnp.asarray(input), limit, check_number("value", value, finite=False))


class Hardshrink(nnx.Module):
    """``torch.nn.Hardshrink``: x where |x| > lambd, else 0 with slope 0.

    Args:
        lambd: how large the gap is.
    """

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = check_number("lambd", lambd, finite=False)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return _hardshrink(jnp.asarray(x), self.lambd)


class Softshrink(nnx.Module):
    """``torch.nn.Softshrink``: x brought nearer to 0 by lambd; 0 with slope 0 where |x| ≤ lambd.

    Args:
        lambd: how much nearer, at least 0.
    """

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = check_number("lambd", lambd, least=0)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return _softshrink(jnp.asarray(x), self.lambd)


class Tanhshrink(nnx.Module):
    """``torch.nn.Tanhshrink``: x - tanh(x)."""

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return _tanhshrink(jnp.asarray(x))


class Threshold(nnx.Module):
    """``torch.nn.Threshold``: x where x > threshold, else a constant.

    Args:
        threshold: up to which x is replaced.
        value: the constant.
        inplace: PyTorch's, which changes nothing here.
    """

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        check_bool("inplace", inplace)
        self.threshold = check_number("threshold", threshold, finite=False)
        self.value = check_number("value", value, finite=False)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return _threshold(jnp.asarray(x), self.threshold, self.value)


# The conditions are those that NaN fails, so that it stays.


def _hardshrink(x: jax.Array, lambd: float) -> jax.Array:
    return jnp.where((x >= -lambd) & (x <= lambd), 0, x)


def _softshrink(x: jax.Array, lambd: float) -> jax.Array:
    shrunk = jnp.where(x < 0, x + lambd, x - lambd)
    return jnp.where((x >= -lambd) & (x <= lambd), 0, shrunk)


def _tanhshrink(x: jax.Array) -> jax.Array:
    return x - jnp.tanh(x)


def _threshold(x: jax.Array, limit: float, value: float) -> jax.Array:
    return jnp.where(x <= limit, jnp.asarray(value, x.dtype), x)
