"""A convolution, its ReLU and its pool in one pass."""

from typing import Any

import jax
from jax import lax

from jaxnets.kernels import bands
from jaxnets.kernels import conv_pool as native_conv_pool
from jaxnets.kernels.geometry import Geometry
from jaxnets.kernels.shard import vary_like
from jaxnets.layers.convolution import Conv2d
from jaxnets.layers.convolve import by_xla
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
    if not _can_be_one(conv, pool, x):
        return pool(jax.nn.relu(conv(x)))
    kernel, bias, padding = *_parameters(conv), conv.padding

    def apart(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        y = by_xla(x, kernel, Geometry((1, 1), padding, (1, 1), (1, 1)))
        return pool(jax.nn.relu(y + bias.reshape(1, 1, 1, -1)))

    def by_product(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return bands.convolve_and_pool(x, kernel, bias, padding)

    together = bands.where_finite(by_product, apart)

    if native_conv_pool.serves(x, kernel, bias):
        rows, columns = (n // 2 for n in bands.size(x, kernel, padding))
        before = padding[0][0], padding[1][0]
        together = native_conv_pool.conv_pool(before, (rows, columns), by_product)
        kernel, bias = vary_like(x, (kernel, bias))
    return lax.platform_dependent(x, kernel, bias, cpu=together, default=apart)


def takes_all(conv: Conv2d, pool: MaxPool2d, x: jax.Array) -> bool:
    """Whether ``relu_and_pool`` is as fast for a large batch as for parts of it."""
    return _can_be_one(conv, pool, x) and native_conv_pool.serves(x, *_parameters(conv))


def _parameters(conv: Conv2d) -> tuple[jax.Array, jax.Array]:
    bias: Any = conv.bias
    return conv.kernel[...], bias[...]


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
