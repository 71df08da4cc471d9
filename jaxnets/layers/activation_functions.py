"""Activation functions with PyTorch's slopes at kinks, which often differ from JAX's.

The arguments are documented in the layers of the same names in ``jaxnets.layers.activation``.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    check_bool,
    check_choice,
    check_float_dtype,
    check_floats,
    check_integer,
    check_number,
    check_usable,
    describe,
)
from jaxnets.kernels.marks import marked


def relu(input: ArrayLike, inplace: bool = False) -> jax.Array:
    """``torch.nn.functional.relu``: max(x, 0), slope 0 at 0. Its arguments are those of ``ReLU``.

    Examples:
        >>> print(relu(jnp.array([-1.0, 2.0]), inplace=True))
        [0. 2.]
    """
    check_bool("inplace", inplace)
    check_usable("input", "an array", input)
    return jax.nn.relu(input)


def leaky_relu(input: ArrayLike, negative_slope: float = 0.01, inplace: bool = False) -> jax.Array:
    """``torch.nn.functional.leaky_relu``: x where x > 0, else negative_slope · x.

    Its arguments are those of ``LeakyReLU``.
    """
    x = _numbers(input, inplace)
    return jnp.where(x > 0, x, check_number("negative_slope", negative_slope) * x)


def prelu(input: ArrayLike, weight: ArrayLike) -> jax.Array:
    """``torch.nn.functional.prelu``: x where x > 0, else slope · x.

    Args:
        input: [N, ..., C], floating.
        weight: the slopes, [C] or [1].

    Raises:
        InputError: if an array is not floating, or there is not one slope for each channel.
    """
    x = _numbers(input)
    check_floats("weight", weight, ("...",))
    slopes = jnp.asarray(weight[...])
    if slopes.ndim > 1:
        raise InputError("weight", "slopes [C] or [1]", describe(slopes))
    check_slopes("input", x, slopes.size)
    slopes = jnp.broadcast_to(slopes, x.shape)
    # The inner where keeps an infinite x > 0 from making 0 · ∞ = NaN in the gradient of the slope.
    return jnp.where(x > 0, x, slopes * jnp.where(x > 0, 0, x))


def elu(input: ArrayLike, alpha: float = 1.0, inplace: bool = False) -> jax.Array:
    """``torch.nn.functional.elu``: x where x > 0, else alpha · (eˣ - 1).

    Its arguments are those of ``ELU``.
    """
    return jax.nn.elu(_numbers(input, inplace), check_number("alpha", alpha))


def celu(input: ArrayLike, alpha: float = 1.0, inplace: bool = False) -> jax.Array:
    """``torch.nn.functional.celu``: x where x > 0, else alpha · (e^(x / alpha) - 1).

    Its arguments are those of ``CELU``.
    """
    return jax.nn.celu(_numbers(input, inplace), check_divisor("alpha", alpha))


def selu(input: ArrayLike, inplace: bool = False) -> jax.Array:
    """``torch.nn.functional.selu``: ELU, scaled such that activations keep mean 0 and variance 1.

    Its arguments are those of ``SELU``.
    """
    return jax.nn.selu(_numbers(input, inplace))


@marked
def exact_gelu(x: jax.Array) -> jax.Array:
    """Returns x Φ(x), with Φ the normal distribution function."""
    return jax.nn.gelu(x, approximate=False)


def gelu(input: ArrayLike, approximate: str = "none") -> jax.Array:
    """``torch.nn.functional.gelu``: x Φ(x), with Φ the normal distribution function.

    Its arguments are those of ``GELU``.
    """
    check_choice("approximate", approximate, ("none", "tanh"))
    x = _numbers(input)
    return exact_gelu(x) if approximate == "none" else jax.nn.gelu(x)


def silu(input: ArrayLike, inplace: bool = False) -> jax.Array:
    """``torch.nn.functional.silu``: x σ(x), with σ the logistic function.

    Its arguments are those of ``SiLU``.
    """
    return jax.nn.silu(_numbers(input, inplace))


def mish(input: ArrayLike, inplace: bool = False) -> jax.Array:
    """``torch.nn.functional.mish``: x tanh(log(1 + eˣ)).

    Its arguments are those of ``Mish``.
    """
    return jax.nn.mish(_numbers(input, inplace))


def softplus(input: ArrayLike, beta: float = 1.0, threshold: float = 20.0) -> jax.Array:
    """``torch.nn.functional.softplus``: log(1 + e^(beta · x)) / beta, x where beta · x is large.

    Its arguments are those of ``Softplus``.
    """
    x, beta = _numbers(input), check_divisor("beta", beta)
    straight = beta * x > check_number("threshold", threshold, finite=False)
    return jnp.where(straight, x, jax.nn.softplus(beta * x) / beta)


def hardtanh(
    input: ArrayLike, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> jax.Array:
    """``torch.nn.functional.hardtanh``: x limited to [min_val, max_val].

    Its arguments are those of ``Hardtanh``.
    """
    return _clamp(_numbers(input, inplace), *check_interval(min_val, max_val))


def relu6(input: ArrayLike, inplace: bool = False) -> jax.Array:
    """``torch.nn.functional.relu6``: x limited to [0, 6]. Its arguments are those of ``ReLU6``."""
    return _clamp(_numbers(input, inplace), 0, 6)


def hardsigmoid(input: ArrayLike, inplace: bool = False) -> jax.Array:
    """``torch.nn.functional.hardsigmoid``: (x + 3) / 6, limited to [0, 1].

    Its arguments are those of ``Hardsigmoid``.
    """
    return _shifted(_numbers(input, inplace)) / 6


def hardswish(input: ArrayLike, inplace: bool = False) -> jax.Array:
    """``torch.nn.functional.hardswish``: x · hardsigmoid(x).

    Its arguments are those of ``Hardswish``.
    """
    x = _numbers(input, inplace)
    return x * _shifted(x) / 6


def softmax(input: ArrayLike, dim: int, *, dtype: DTypeLike | None = None) -> jax.Array:
    """``torch.nn.functional.softmax``: eˣ / Σ eˣ, the sum over one axis.

    Args:
        input: a floating-point array of any shape.
        dim: the axis. The channels of images and sequences, axis 1 in PyTorch, are axis -1 here.
        dtype: the dtype to convert the input to first; None for no conversion.

    Raises:
        InputError: if the input is not floating, or ``dim`` is ambiguous; see ``Softmax``.

    Examples:
        >>> print(softmax(jnp.log(jnp.array([[1.0, 3.0]])), dim=1).round(2))
        [[0.25 0.75]]
    """
    return jax.nn.softmax(_converted(input, dtype), axis=_axis(dim, input))


def log_softmax(input: ArrayLike, dim: int, *, dtype: DTypeLike | None = None) -> jax.Array:
    """``torch.nn.functional.log_softmax``: log(softmax(x)), computed without underflow.

    Its arguments are those of ``softmax``.
    """
    return jax.nn.log_softmax(_converted(input, dtype), axis=_axis(dim, input))


def softmin(input: ArrayLike, dim: int, *, dtype: DTypeLike | None = None) -> jax.Array:
    """``torch.nn.functional.softmin``: the ``softmax`` of -x.

    Its arguments are those of ``softmax``.
    """
    return jax.nn.softmax(-_converted(input, dtype), axis=_axis(dim, input))


def glu(input: ArrayLike, dim: int = -1) -> jax.Array:
    """``torch.nn.functional.glu``: a σ(b), with a and b the two halves of x along an axis.

    Its arguments are those of ``GLU``.
    """
    x = _numbers(input)
    check_halves("input", x, check_integer("dim", dim))
    return jax.nn.glu(x, dim)


def check_axis(dim: int, x: ArrayLike) -> None:
    """Checks that an axis exists and is unambiguous.

    In PyTorch channels are the second axis, so a number may mean another axis there.
    """
    if x.ndim > 3:
        taken = {0, -1, -x.ndim}
        expected = f"0, or -1 for the channels (PyTorch's 1), of {describe(x)}"
    elif x.ndim == 3:
        taken = {0, -1, -2, -3}
        expected = (
            "0, -1 for the channels (PyTorch's 1 of [N, C, L]) or -2 for the steps "
            f"(PyTorch's 1 of [N, L, C]), of {describe(x)}"
        )
    else:
        taken = set(range(-x.ndim, x.ndim))
        expected = f"an axis of {describe(x)}"
    if dim not in taken:
        raise InputError("dim", expected, dim)


def check_halves(argument: str, x: ArrayLike, dim: int) -> None:
    """Checks an axis like ``check_axis``, and that its size is even."""
    present = -x.ndim <= dim < x.ndim
    if present:
        check_axis(dim, x)
    if not present or x.shape[dim] % 2:
        raise InputError(argument, f"an even size along axis {dim}", describe(x))


def check_slopes(argument: str, x: ArrayLike, count: int) -> None:
    """Checks that there is a single slope, or one for each channel of x."""
    if count != 1 and (x.ndim < 2 or x.shape[-1] != count):
        raise InputError(argument, f"[N, ..., {count}], a slope per channel", describe(x))


def check_divisor(argument: str, value: float) -> float:
    """Checks that a value is a number other than 0, and returns it as a float."""
    number = check_number(argument, value)
    if number == 0:
        raise InputError(argument, "a number other than 0", value)
    return number


def check_interval(min_val: float, max_val: float) -> tuple[float, float]:
    """Checks that min_val < max_val, and returns both as floats."""
    low = check_number("min_val", min_val, finite=False)
    high = check_number("max_val", max_val, finite=False)
    if not low < high:
        raise InputError("max_val", f"a number above min_val = {min_val}", max_val)
    return low, high


def _numbers(input: ArrayLike, inplace: bool = False) -> jax.Array:
    """Checks that the input is floating; ``inplace`` is checked and ignored."""
    check_bool("inplace", inplace)
    check_floats("input", input, ("...",))
    return jnp.asarray(input)


def _converted(input: ArrayLike, dtype: DTypeLike | None) -> jax.Array:
    x = _numbers(input)
    return x if dtype is None else x.astype(check_float_dtype("dtype", dtype))


def _axis(dim: int, x: ArrayLike) -> int:
    check_axis(check_integer("dim", dim), x)
    return int(dim)


def _clamp(x: jax.Array, low: float, high: float) -> jax.Array:
    # jnp.clip has slope ½ at the limits; here, as in PyTorch, the slope is 0.
    return jnp.where((x > low) & (x < high), x, lax.stop_gradient(jnp.clip(x, low, high)))


def _shifted(x: jax.Array) -> jax.Array:
    """Returns x + 3, limited to [0, 6].

    The slope is chosen by comparing x, not x + 3, because the sum is rounded.
    """
    return jnp.where((x > -3) & (x < 3), x + 3, lax.stop_gradient(jnp.clip(x + 3, 0, 6)))
