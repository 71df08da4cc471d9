"""The fully connected layer."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets import initializers
from jaxnets.arrays import ArrayLike, check_bool, check_floats, check_positive
from jaxnets.layers.parameters import check_others, check_parameters


def linear(input: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> jax.Array:
    """``torch.nn.functional.linear``: y = x Wᵀ + b over the last axis.

    Args:
        input: [..., in_features].
        weight: W [out_features, in_features], as in PyTorch; ``Linear.kernel`` is its transpose.
        bias: b [out_features], or None.

    Returns:
        [..., out_features].

    Raises:
        InputError: if a shape does not match, or an array is not floating.

    Examples:
        >>> layer = Linear(3, 2, rngs=nnx.Rngs(0))
        >>> y = linear(jnp.ones((5, 3)), layer.kernel.T, layer.bias)
        >>> bool((y == layer(jnp.ones((5, 3)))).all())
        True
    """
    check_floats("weight", weight, ("out_features", "in_features"))
    check_floats("input", input, ("...", weight.shape[-1]))
    y = jnp.asarray(input[...]) @ weight[...].T
    if bias is None:
        return y
    check_floats("bias", bias, weight.shape[:1])
    return y + jnp.broadcast_to(bias[...], y.shape)


class Linear(nnx.Linear):
    """``torch.nn.Linear``: y = x W + b over the last axis.

    Parameters: ``kernel`` W [in_features, out_features], which is PyTorch's weight transposed, and
    ``bias`` b [out_features]; both start as U(±1/√in_features).

    Args:
        in_features: size of each input, the last axis of x.
        out_features: size of each output.
        bias: whether b is added.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        InputError: if an argument is invalid; on a call, if x is not floating or its last axis has
            another size.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others)
        check_positive("in_features", in_features)
        check_positive("out_features", out_features)
        check_bool("bias", bias)
        rngs = check_parameters(rngs, param_dtype)
        initializer = initializers.fan_in_uniform(in_features)
        super().__init__(
            in_features,
            out_features,
            use_bias=bias,
            kernel_init=initializer,
            bias_init=initializer,
            param_dtype=param_dtype,
            rngs=rngs,
        )

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Computes [..., out_features] from [..., in_features]."""
        check_floats("x", x, ("...", self.in_features))
        return super().__call__(x)
