"""A convolution, its ReLU and its pool in one pass."""

from typing import Any

import jax
from jax import lax

from jaxnets.layers import bands
from jaxnets.layers.convolution import Conv2d
from jaxnets.layers.convolve import Geometry
from jaxnets.layers.pooling import MaxPool2d


def relu_and_pool(conv: Conv2d, pool: MaxPool2d, x: jax.Array) -> jax.Array:
    """``pool(jax.nn.relu(conv(x)))``, in programs for CPUs in one pass where that pays.

    One after the other, each writes images of full size for the next to read, and of a few channels
    only, which a processor's vectors do not fit. Outside of programs the two layers are called, so
    that what watches layers sees them.

    Args:
        conv: the convolution.
        pool: the pool.
        x: [N, H, W, C].

    Returns:
        The pooled images; numbers and gradients are the same.
    """

    def apart(x: jax.Array) -> jax.Array:
        return pool(jax.nn.relu(conv(x)))

    def together(x: jax.Array) -> jax.Array:
        bias: Any = conv.bias
        return bands.convolve_and_pool(x, conv.kernel[...], bias[...], conv.padding)

    if not _can_be_one(conv, pool, x):
        return apart(x)
    return lax.platform_dependent(x, cpu=together, default=apart)


def _can_be_one(conv: Conv2d, pool: MaxPool2d, x: jax.Array) -> bool:
    if not isinstance(x, jax.core.Tracer) or (type(conv), type(pool)) != (Conv2d, MaxPool2d):
        return False  # a layer in place of these may do anything
    kernel, bias, (height, width) = conv.kernel, conv.bias, conv.kernel_size
    geometry = Geometry(conv.stride, conv.padding, conv.dilation, (1, 1), conv.groups)
    plain = geometry.dense and conv.padding_mode == "zeros"
    window = (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode)
    by_two = window == ((2, 2), (2, 2), (0, 0), (1, 1), False)
    if not (plain and by_two and bias is not None and x.shape[3:] == (conv.in_channels,)):
        return False
    rows, columns = (n + sum(p) for n, p in zip(x.shape[1:3], conv.padding, strict=True))
    room = rows > height and columns > width  # for a window at least
    same = x.dtype == kernel.dtype == bias.dtype
    return room and same and bands.pays(x, kernel[...]) and bands.pools(kernel[...])
