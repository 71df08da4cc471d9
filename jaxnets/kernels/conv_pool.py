"""Convolution, ReLU and 2×2 max pooling fused into one native kernel, forward and backward."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.kernels import bands, native
from jaxnets.kernels.geometry import Geometry, Shaped
from jaxnets.kernels.gradients import with_gradient
from jaxnets.kernels.xla_convolution import by_xla

# The kernel vectorizes over examples: a vector has one value of each of 8 or 16 examples.
_LEAST_EXAMPLES = 8


def is_faster(x: Shaped, kernel: Shaped, geometry: Geometry) -> bool:
    """Whether ``conv_relu_pool`` supports a convolution, and is faster than separate kernels."""
    if not (geometry.dense and x.ndim == 4 and bands.is_faster(x, kernel) and bands.pools(kernel)):
        return False
    sizes = zip(x.shape[1:3], geometry.padding, kernel.shape[:2], strict=True)
    return all(n + sum(pads) > reach for n, pads, reach in sizes)  # at least one pooling window


def conv_relu_pool(
    geometry: Geometry, pool: Callable[[jax.Array], jax.Array]
) -> Callable[[jax.Array, jax.Array, jax.Array], jax.Array]:
    """Makes a convolution of few channels with ReLU and 2×2 max pooling.

    Separate operations write images of full size to memory between them, and their inner loops run
    over the channels, which are fewer than a vector has elements.

    Args:
        geometry: the geometry of the convolution; see ``is_faster``.
        pool: the pool alone.

    Returns:
        A function of x [N, H, W, C], the kernel [height, width, C, O] and the bias [O].
    """

    def apart(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return pool(jax.nn.relu(by_xla(x, kernel, geometry) + bias.reshape(1, 1, 1, -1)))

    def by_product(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return bands.convolve_and_pool(x, kernel, bias, geometry.padding)

    def run(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        if not supports(x, kernel, bias):  # without a compiler, or for few examples
            return bands.where_finite(by_product, apart)(x, kernel, bias)
        rows, columns = (n // 2 for n in bands.size(x, kernel, geometry.padding))
        before = geometry.padding[0][0], geometry.padding[1][0]
        return conv_pool(before, (rows, columns), by_product)(x, kernel, bias)

    return run


def supports(x: Shaped, kernel: Shaped, bias: Shaped) -> bool:
    """Whether the kernels of ``conv_pool`` can run this, and are faster than XLA's operations."""
    return len(x) >= _LEAST_EXAMPLES and native.ready("conv_pool", x, kernel, bias)


def conv_pool(
    padding: tuple[int, int], size: tuple[int, int], plain: Callable[..., jax.Array]
) -> Callable[..., jax.Array]:
    """Makes a convolution of stride 1 with ReLU and 2×2 max pooling that kernels compute.

    Args:
        padding: zeros above the rows, and left of the columns.
        size: height and width of the pooled images.
        plain: the same function in XLA's operations.

    Returns:
        A function of x [N, H, W, C], the kernel [height, width, C, O] and the bias [O] that returns
        the pooled images [N, *size, O]. Of equal maxima the first receives the gradient.
    """

    def call(way: str, results: list[jax.ShapeDtypeStruct], *arguments: jax.Array) -> list:
        name, (top, left) = f"conv_pool_{way}", map(np.int32, padding)
        return native.call("conv_pool", name, results, *arguments, left=left, top=top)

    def pooled(x: jax.Array, bias: jax.Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((len(x), *size, len(bias)), x.dtype)

    def run(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return call("forward", [pooled(x, bias)], x, kernel, bias)[0]

    def keep(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs = pooled(x, bias)
        winners = jax.ShapeDtypeStruct(outputs.shape, jnp.uint8)
        made, winners = call("forward", [outputs, winners], x, kernel, bias)
        return made, winners

    def pull_back(inputs: Any, winners: jax.Array, d: jax.Array) -> tuple[jax.Array, ...]:
        x, kernel, _ = inputs
        like = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in inputs]
        d_kernel, d_bias = call("backward_kernel", like[1:], x, winners, d)
        # A separate call, which XLA removes if the gradient of x is not used.
        (d_x,) = call("backward_input", like[:1], d, winners, kernel)
        return d_x, d_kernel, d_bias

    return with_gradient(run, keep, pull_back, plain)
