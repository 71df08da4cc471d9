"""Activation functions as modules, with PyTorch's slopes at kinks (JAX's often differ)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import (
    InputError,
    check_bool,
    check_choice,
    check_floats,
    check_integer,
    check_number,
    check_positive,
    check_usable,
    describe,
)
from jaxnets.layers import activation_functions as functions
from jaxnets.layers.parameters import check_others, check_parameters


class Identity(nnx.Module):
    """``torch.nn.Identity``: returns x; all arguments of the constructor are ignored."""

    def __init__(self, *ignored: object, **also_ignored: object) -> None:
        pass

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns x."""
        return x


class ReLU(nnx.Module):
    """``torch.nn.ReLU``: max(x, 0), slope 0 at 0.

    Args:
        inplace: accepted for compatibility with PyTorch; has no effect.
    """

    def __init__(self, inplace: bool = False) -> None:
        check_bool("inplace", inplace)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the activation to each element of x."""
        check_usable("x", "an array", x)
        return functions.relu(x)


class LeakyReLU(nnx.Module):
    """``torch.nn.LeakyReLU``: x where x > 0, else negative_slope · x.

    Args:
        negative_slope: the slope where x ≤ 0.
        inplace: accepted for compatibility with PyTorch; has no effect.
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        check_bool("inplace", inplace)
        self.negative_slope = check_number("negative_slope", negative_slope)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return functions.leaky_relu(x, self.negative_slope)


class PReLU(nnx.Module):
    """``torch.nn.PReLU``: x where x > 0, else negative_slope · x with learned slopes.

    Parameter: ``negative_slope`` [num_parameters], PyTorch's weight.

    Args:
        num_parameters: 1, or the number of channels, the last axis of x.
        init: the initial slope.
        rngs: not used, because the initial value is a constant.
        param_dtype: the dtype of the slopes.
    """

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others)
        check_positive("num_parameters", num_parameters)
        init = check_number("init", init)
        check_parameters(rngs, param_dtype, constant=True)
        self.negative_slope = nnx.Param(jnp.full(num_parameters, init, param_dtype))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the activation to each element of x.

        Raises:
            InputError: if x is not floating, or there is not one slope for each channel.
        """
        check_floats("x", x, ("...",))
        functions.check_slopes("x", x, self.negative_slope.shape[0])
        return functions.prelu(x, self.negative_slope[...])


class ELU(nnx.Module):
    """``torch.nn.ELU``: x where x > 0, else alpha · (eˣ - 1).

    Args:
        alpha: the negative of the limit at -∞.
        inplace: accepted for compatibility with PyTorch; has no effect.
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        check_bool("inplace", inplace)
        self.alpha = check_number("alpha", alpha)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return functions.elu(x, self.alpha)


class CELU(nnx.Module):
    """``torch.nn.CELU``: x where x > 0, else alpha · (e^(x / alpha) - 1).

    Args:
        alpha: the negative of the limit at -∞, not 0.
        inplace: accepted for compatibility with PyTorch; has no effect.
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        check_bool("inplace", inplace)
        self.alpha = functions.check_divisor("alpha", alpha)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return functions.celu(x, self.alpha)


class SELU(nnx.Module):
    """``torch.nn.SELU``: ELU, scaled such that activations keep mean 0 and variance 1.

    Args:
        inplace: accepted for compatibility with PyTorch; has no effect.
    """

    def __init__(self, inplace: bool = False) -> None:
        check_bool("inplace", inplace)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return functions.selu(x)


class GELU(nnx.Module):
    """``torch.nn.GELU``: x Φ(x), with Φ the normal distribution function.

    Args:
        approximate: "none" for the exact Φ, "tanh" for the approximation
            ½ (1 + tanh(√(2/π) (x + 0.044715 x³))).
    """

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = check_choice("approximate", approximate, ("none", "tanh"))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return functions.gelu(x, self.approximate)


class SiLU(nnx.Module):
    """``torch.nn.SiLU``: x σ(x), with σ the logistic function.

    Args:
        inplace: accepted for compatibility with PyTorch; has no effect.
    """

    def __init__(self, inplace: bool = False) -> None:
        check_bool("inplace", inplace)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return functions.silu(x)


class Mish(nnx.Module):
    """``torch.nn.Mish``: x tanh(log(1 + eˣ)).

    Args:
        inplace: accepted for compatibility with PyTorch; has no effect.
    """

    def __init__(self, inplace: bool = False) -> None:
        check_bool("inplace", inplace)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return functions.mish(x)


class Sigmoid(nnx.Module):
    """``torch.nn.Sigmoid``: 1 / (1 + e⁻ˣ)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return jax.nn.sigmoid(x)


class LogSigmoid(nnx.Module):
    """``torch.nn.LogSigmoid``: -log(1 + e⁻ˣ)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return jax.nn.log_sigmoid(x)


class Tanh(nnx.Module):
    """``torch.nn.Tanh``."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return jnp.tanh(x)


class Softsign(nnx.Module):
    """``torch.nn.Softsign``: x / (1 + |x|)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return jax.nn.soft_sign(x)


class Softplus(nnx.Module):
    """``torch.nn.Softplus``: log(1 + e^(beta · x)) / beta, and x where beta · x > threshold.

    Args:
        beta: the sharpness of the bend, not 0.
        threshold: the value of beta · x above which the function is linear.
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = functions.check_divisor("beta", beta)
        self.threshold = check_number("threshold", threshold, finite=False)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return functions.softplus(x, self.beta, self.threshold)


class Hardtanh(nnx.Module):
    """``torch.nn.Hardtanh``: x limited to [min_val, max_val]; slope 0 at the limits and outside.

    Args:
        min_val: the lower limit.
        max_val: the upper limit.
        inplace: accepted for compatibility with PyTorch; has no effect.
    """

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        check_bool("inplace", inplace)
        self.min_val, self.max_val = functions.check_interval(min_val, max_val)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return functions.hardtanh(x, self.min_val, self.max_val)


class ReLU6(Hardtanh):
    """``torch.nn.ReLU6``: x limited to [0, 6].

    Args:
        inplace: accepted for compatibility with PyTorch; has no effect.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__(0.0, 6.0, inplace)


class Hardsigmoid(nnx.Module):
    """``torch.nn.Hardsigmoid``: (x + 3) / 6, limited to [0, 1].

    Args:
        inplace: accepted for compatibility with PyTorch; has no effect.
    """

    def __init__(self, inplace: bool = False) -> None:
        check_bool("inplace", inplace)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return functions.hardsigmoid(x)


class Hardswish(nnx.Module):
    """``torch.nn.Hardswish``: x · Hardsigmoid(x).

    Args:
        inplace: accepted for compatibility with PyTorch; has no effect.
    """

    def __init__(self, inplace: bool = False) -> None:
        check_bool("inplace", inplace)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Applies the activation to each element of x."""
        check_floats("x", x, ("...",))
        return functions.hardswish(x)


class Softmax(nnx.Module):
    """``torch.nn.Softmax``: eˣ / Σ eˣ, the sum over one axis.

    Args:
        dim: the axis. The channels of images and sequences, axis 1 in PyTorch, are axis -1 here.

    Raises:
        InputError: on a call, if x is not floating, or if ``dim`` is ambiguous because the axis may
            be another one in PyTorch. For three axes ``dim`` must be 0 or negative, for more axes 0
            or -1.
    """

    def __init__(self, dim: int) -> None:
        self.dim = check_integer("dim", dim)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns probabilities along the axis."""
        check_floats("x", x, ("...",))
        return functions.softmax(x, self.dim)


class LogSoftmax(nnx.Module):
    """``torch.nn.LogSoftmax``: the logarithm of Softmax, computed without underflow.

    Args:
        dim: the axis; see ``Softmax``.

    Raises:
        InputError: see ``Softmax``.
    """

    def __init__(self, dim: int) -> None:
        self.dim = check_integer("dim", dim)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns log-probabilities along the axis."""
        check_floats("x", x, ("...",))
        return functions.log_softmax(x, self.dim)


class Softmin(nnx.Module):
    """``torch.nn.Softmin``: the Softmax of -x.

    Args:
        dim: the axis; see ``Softmax``.

    Raises:
        InputError: see ``Softmax``.
    """

    def __init__(self, dim: int) -> None:
        self.dim = check_integer("dim", dim)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns probabilities along the axis, the largest for the smallest element."""
        check_floats("x", x, ("...",))
        return functions.softmin(x, self.dim)


class Softmax2d(nnx.Module):
    """``torch.nn.Softmax2d``: the Softmax over the channels of each pixel."""

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns probabilities of the channels.

        Args:
            x: images [N, H, W, C], or one image [H, W, C].

        Raises:
            InputError: if x has another number of axes, or is not floating.
        """
        check_floats("x", x, ("...", "H", "W", "C"))
        if x.ndim > 4:
            expected = "a floating-point array [N, H, W, C] or [H, W, C]"
            raise InputError("x", expected, describe(x))
        return jax.nn.softmax(jnp.asarray(x), axis=-1)


class GLU(nnx.Module):
    """``torch.nn.GLU``: a σ(b), with a and b the two halves of x.

    Args:
        dim: the axis that is halved; for ambiguous axes see ``Softmax``.
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = check_integer("dim", dim)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns an array of half the size along the axis.

        Raises:
            InputError: if x is not floating, the axis does not exist or is ambiguous, or its size
                is odd.
        """
        check_floats("x", x, ("...",))
        functions.check_halves("x", x, self.dim)
        return functions.glu(x, self.dim)
