"""Linear layers with ReLU between them, in one pass."""

from collections.abc import Sequence

import jax
from jax import lax

from jaxnets.kernels import linear as native_linear
from jaxnets.kernels.shard import vary_like
from jaxnets.layers.linear import Linear


def linear_chain(layers: Sequence[Linear], x: jax.Array) -> jax.Array:
    """Applies linear layers with ReLU between them, in programs for CPUs in one pass if that pays.

    That pass has a gradient in reverse mode only. Outside of programs the layers are called one
    after the other, so that what watches layers sees them.

    Args:
        layers: the first of which is applied to x.
        x: [batch, inputs].

    Returns:
        The last layer's outputs, [batch, outputs].
    """
    if not _can_be_one(layers, x):
        return one_by_one(layers, x)
    kernels = [layer.kernel[...] for layer in layers]
    biases = [layer.bias[...] for layer in layers]
    if not native_linear.serves(x, kernels, biases):
        return one_by_one(layers, x)
    natively = native_linear.chain(_plain)
    return lax.platform_dependent(x, *vary_like(x, (kernels, biases)), cpu=natively, default=_plain)


def one_by_one(layers: Sequence[Linear], x: jax.Array) -> jax.Array:
    """The same, in both modes of differentiation."""
    *others, last = layers
    for layer in others:
        x = jax.nn.relu(layer(x))
    return last(x)


def _plain(x: jax.Array, kernels: list[jax.Array], biases: list[jax.Array]) -> jax.Array:
    for number, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        x = (jax.nn.relu(x) if number else x) @ kernel + bias[None]
    return x


def _can_be_one(layers: Sequence[Linear], x: jax.Array) -> bool:
    if not isinstance(x, jax.core.Tracer) or any(type(layer) is not Linear for layer in layers):
        return False  # a layer in place of these may do anything
    sized = x.ndim == 2 and x.shape[1] == layers[0].in_features
    return sized and all(layer.bias is not None for layer in layers)
