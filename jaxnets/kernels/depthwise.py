"""Depthwise convolutions by native kernels, forward and backward."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.kernels import native
from jaxnets.kernels.geometry import Geometry, Shaped, as_image_kernel, as_images, image_shape
from jaxnets.kernels.gradients import with_gradient

# Each part of a batch keeps its own sums of the kernel's gradient, one for each tap.
_MOST_TAPS = 2**10


def supports(x: Shaped, kernel: Shaped, geometry: Geometry) -> bool:
    """Whether the kernels of ``depthwise`` can run this, and are faster than XLA's operations.

    Args:
        x: [N, L, C] or [N, H, W, C].
        kernel: [..., 1, O], where O is a multiple of C.
        geometry: the geometry of the convolution.
    """
    channels, outputs = x.shape[-1], kernel.shape[-1]
    if x.ndim not in (3, 4) or geometry.groups != channels or min(*x.shape, *kernel.shape) < 1:
        return False
    dense = channels == 1 < outputs  # an ordinary convolution of one channel
    fits = math.prod(kernel.shape[:-1]) <= _MOST_TAPS and min(geometry.output_sizes(x, kernel)) > 0
    return fits and not dense and native.ready("depthwise", x, kernel)


def depthwise(
    geometry: Geometry, plain: Callable[..., jax.Array], *, relu: bool = False
) -> Callable[..., jax.Array]:
    """Makes a depthwise convolution, with bias and optionally ReLU, that kernels compute.

    Args:
        geometry: the geometry of the convolution, with as many groups as channels.
        plain: the same function in XLA's operations.
        relu: whether ReLU follows.

    Returns:
        A function of x [N, ..., C], the kernel [..., 1, O] and the bias [O] or None that returns
        [N, ..., O].
    """
    settings = _settings(geometry, relu)

    def call(way: str, results: list[jax.ShapeDtypeStruct], *arguments: Any) -> list[jax.Array]:
        given = [array for array in arguments if array is not None]
        return native.call("depthwise", f"depthwise_{way}", results, *given, settings=settings)

    def run(x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
        space = geometry.output_sizes(x, kernel)
        x, kernel = as_images(_repeated(x, kernel)), as_image_kernel(kernel)
        shape = len(x), *space, x.shape[-1]
        y = jax.ShapeDtypeStruct(image_shape(shape), x.dtype)
        return call("forward", [y], x, kernel, bias)[0].reshape(shape)

    def keep(x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> tuple[jax.Array, Any]:
        y = run(x, kernel, bias)
        return y, y if relu else None

    def pull_back(inputs: Any, y: jax.Array | None, d: jax.Array) -> tuple[Any, ...]:
        given, kernel, bias = inputs
        x, tall = as_images(_repeated(given, kernel)), as_image_kernel(kernel)
        d, y = as_images(d), None if y is None else as_images(y)
        like_x, like_kernel, like_bias = (
            jax.ShapeDtypeStruct(shape, x.dtype) for shape in (x.shape, tall.shape, x.shape[-1:])
        )
        d_kernel, d_bias = call("backward_kernel", [like_kernel, like_bias], x, d, y)
        # A separate call, which XLA removes if the gradient of x is not used.
        (d_x,) = call("backward_input", [like_x], d, tall, y)
        if x.shape[-1] > given.shape[-1]:  # sums over the copies that ``_repeated`` made
            d_x = d_x.reshape(*given.shape, -1).sum(-1)
        d_kernel = d_kernel.reshape(kernel.shape)
        return d_x.reshape(given.shape), d_kernel, None if bias is None else d_bias

    return with_gradient(run, keep, pull_back, plain)


def _settings(geometry: Geometry, relu: bool) -> np.ndarray:
    """Returns the settings as the kernels read them; a sequence is an image of one row."""
    lows = [low for low, _ in geometry.padding]
    axes = zip(geometry.stride, lows, geometry.dilation, geometry.input_dilation, strict=True)
    rows = [] if len(lows) == 2 else [(1, 0, 1, 1)]
    return np.asarray([number for axis in (*rows, *axes) for number in axis] + [relu], np.int64)


def _repeated(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Repeats each channel of x for every output channel that reads it."""
    each = kernel.shape[-1] // x.shape[-1]
    return x if each == 1 else jnp.repeat(x, each, axis=-1)
