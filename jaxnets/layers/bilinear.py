"""The bilinear layer."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets import initializers
from jaxnets.arrays import ArrayLike, InputError, check_bool, check_floats, check_positive, describe
from jaxnets.layers.parameters import check_others, check_parameters


def bilinear(
    input1: ArrayLike, input2: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None
) -> jax.Array:
    """``torch.nn.functional.bilinear``: y[o] = x₁ᵀ W[o] x₂ + b[o] over the last axes.

    Args:
        input1: [..., I₁].
        input2: [..., I₂], with the same leading axes as ``input1``.
        weight: W [O, I₁, I₂], as in PyTorch. In ``Bilinear.kernel`` the first axis is the last.
        bias: b, [O], or None.

    Returns:
        [..., O].

    Raises:
        InputError: if a shape does not match, or an array is not floating.
    """
    check_floats("weight", weight, ("O", "I1", "I2"))
    outputs, *sizes = weight.shape
    _check_inputs("input1", input1, "input2", input2, sizes)
    if bias is not None:
        check_floats("bias", bias, (outputs,))
    return _product(input1, input2, jnp.moveaxis(jnp.asarray(weight[...]), 0, -1), bias)


class Bilinear(nnx.Module):
    """``torch.nn.Bilinear``: y[o] = x₁ᵀ K[:, :, o] x₂ + b[o] over the last axes.

    Parameters: ``kernel`` K [in1_features, in2_features, out_features], PyTorch's weight with its
    first axis last, and ``bias`` b [out_features]; both start as U(±1/√in1_features).

    Args:
        in1_features: size of each first input.
        in2_features: size of each second input.
        out_features: size of each output.
        bias: whether b is added.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Examples:
        >>> layer = Bilinear(2, 3, 4, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((5, 2)), jnp.ones((5, 3))).shape
        (5, 4)
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others)
        self.in1_features = check_positive("in1_features", in1_features)
        self.in2_features = check_positive("in2_features", in2_features)
        self.out_features = check_positive("out_features", out_features)
        check_bool("bias", bias)
        rngs = check_parameters(rngs, param_dtype)
        draw = initializers.fan_in_uniform(in1_features)
        shape = in1_features, in2_features, out_features
        self.kernel = nnx.Param(draw(rngs.params(), shape, param_dtype))
        self.bias = nnx.Param(draw(rngs.params(), shape[-1:], param_dtype)) if bias else None

    def __call__(self, x1: ArrayLike, x2: ArrayLike) -> jax.Array:
        """Computes [..., out_features] from [..., in1_features] and [..., in2_features].

        Raises:
            InputError: if a shape does not match, or an input is not floating.
        """
        _check_inputs("x1", x1, "x2", x2, [self.in1_features, self.in2_features])
        return _product(x1, x2, self.kernel[...], self.bias)


def _check_inputs(first: str, x1: ArrayLike, second: str, x2: ArrayLike, sizes: list[int]) -> None:
    check_floats(first, x1, ("...", sizes[0]))
    check_floats(second, x2, ("...", sizes[1]))
    if x1.shape[:-1] != x2.shape[:-1]:
        shape = ", ".join(map(str, (*x1.shape[:-1], sizes[1])))
        raise InputError(second, f"a floating-point array [{shape}]", describe(x2))


def _product(x1: ArrayLike, x2: ArrayLike, kernel: jax.Array, bias: Any) -> jax.Array:
    y = jnp.einsum("...i,ijo,...j->...o", jnp.asarray(x1), kernel, jnp.asarray(x2))
    return y if bias is None else y + jnp.broadcast_to(bias[...], y.shape)
