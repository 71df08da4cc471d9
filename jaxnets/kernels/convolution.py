"""Convolutions with bias and ReLU by native kernels, forward and backward."""

import math
from collections.abc import Callable

import jax
import numpy as np

from jaxnets.kernels import native
from jaxnets.kernels.geometry import Geometry, Shaped, as_image_kernel, as_images, image_shape
from jaxnets.kernels.gradients import with_gradient

# Each thread keeps a buffer for a packed kernel, which this limits.
_MOST_WEIGHTS = 2**23
# With more channels, joined axes are no faster.
_FEW_CHANNELS = 4


def supports(x: Shaped, kernel: Shaped, geometry: Geometry) -> bool:
    """Whether the kernels of ``convolution`` can run this, and are faster than XLA's operations.

    Args:
        x: [N, ..., C], one or two spatial axes.
        kernel: [..., C / groups, O].
        geometry: the geometry of the convolution.
    """
    if x.ndim not in (3, 4) or not math.prod(x.shape) or not math.prod(kernel.shape):
        return False
    depthwise = geometry.groups > 1 and kernel.shape[-2] == 1
    outputs = math.prod(geometry.output_sizes(x, kernel))
    fits = outputs > 0 and math.prod(kernel.shape) <= _MOST_WEIGHTS
    return fits and not depthwise and native.ready("convolution", x, kernel)


def convolution(
    geometry: Geometry, plain: Callable[..., jax.Array], *, relu: bool = False
) -> Callable[..., jax.Array]:
    """Makes a convolution, as PyTorch defines it, that kernels compute.

    Args:
        geometry: stride, padding and the like, of one or two axes.
        plain: the same function in XLA's operations, with ReLU if ``relu`` is set.
        relu: whether ReLU follows. Its gradient at 0 is 0.

    Returns:
        A function of x [N, ..., C], the kernel [..., C / groups, O] and the bias, [O] or None. It
        returns the outputs, [N, ..., O].
    """

    def call(way: str, like: list[Shaped], *arguments: jax.Array | None) -> list[jax.Array]:
        results = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in like]
        present = [array for array in arguments if array is not None]
        numbers = np.array([*_numbers(geometry), relu], np.int64)
        return native.call("convolution", f"convolution_{way}", results, *present, geometry=numbers)

    def run(x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
        images, kernels = _images(x, kernel, geometry)
        sizes = geometry.output_sizes(x, kernel)
        shape = len(x), *sizes, kernel.shape[-1]
        like = jax.ShapeDtypeStruct(image_shape(shape), x.dtype)
        (y,) = call("forward", [like], images, kernels, bias)
        return y.reshape(shape)

    def keep(x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> tuple:
        y = run(x, kernel, bias)
        return y, y if relu else None

    def pull_back(inputs: tuple, y: jax.Array | None, g: jax.Array) -> tuple:
        x, kernel, bias = inputs
        (images, kernels), g = _images(x, kernel, geometry), as_images(g)
        y = None if y is None else as_images(y)
        wanted = [kernels] if bias is None else [kernels, bias]
        d_kernel, *d_bias = call("backward_kernel", wanted, images, g, y)
        # A separate call, which XLA removes if the gradient of x is not used.
        (d_x,) = call("backward_input", [images], g, kernels, y)
        d_kernel = d_kernel.reshape(kernel.shape)
        return d_x.reshape(x.shape), d_kernel, d_bias[0] if d_bias else None

    return with_gradient(run, keep, pull_back, plain)


def _images(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> tuple[jax.Array, jax.Array]:
    """Returns images and their kernel; the last spatial axis joins few channels if it can.

    It can if the kernel covers it: there is one output, so its taps are further terms of the sum
    over channels. The kernels are faster with more channels than with more taps.
    """
    images, kernels = as_images(x), as_image_kernel(kernel)
    if x.shape[-1] > _FEW_CHANNELS or not _covers_last(x, kernel, geometry):
        return images, kernels
    n, height, width, channels = images.shape
    taps, _, _, outputs = kernels.shape
    joined = width * channels
    return images.reshape(n, height, 1, joined), kernels.reshape(taps, 1, joined, outputs)


def _covers_last(x: Shaped, kernel: Shaped, geometry: Geometry) -> bool:
    """Whether the kernel covers the last spatial axis, without padding."""
    steps = geometry.dilation[-1], geometry.input_dilation[-1], geometry.groups
    return x.shape[-2] == kernel.shape[-3] and (*geometry.padding[-1], *steps) == (0, 0, 1, 1, 1)


def _numbers(geometry: Geometry) -> list[int]:
    """Returns the geometry as the kernels read it.

    These are stride, padding before, dilation and input dilation, each for two axes, and the number
    of groups. A sequence is an image of one row.
    """
    before = tuple(low for low, _ in geometry.padding)
    steps = geometry.stride, before, geometry.dilation, geometry.input_dilation
    neutral = 1, 0, 1, 1
    two = [
        (empty,) * (2 - len(step)) + tuple(step) for step, empty in zip(steps, neutral, strict=True)
    ]
    return [*(number for pair in two for number in pair), geometry.groups]
