"""A convolution with its bias and ReLU as one call of a native kernel, forward and backward."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.kernels import native
from jaxnets.kernels.geometry import Geometry, Shaped
from jaxnets.kernels.gradients import with_gradient

# A thread keeps memory for a packed kernel.
_MOST_WEIGHTS = 2**23


def serves(x: Shaped, kernel: Shaped, geometry: Geometry) -> bool:
    """Whether the kernels of ``convolution`` can run this, and are faster than XLA's operations.

    Args:
        x: [N, ..., C], one or two spatial axes.
        kernel: [..., C / groups, O].
        geometry: of as many axes.
    """
    if x.ndim not in (3, 4) or not math.prod(x.shape) or not math.prod(kernel.shape):
        return False
    depthwise = geometry.groups > 1 and kernel.shape[-2] == 1
    outputs = math.prod(_output_sizes(x, kernel, geometry))
    fits = outputs > 0 and math.prod(kernel.shape) <= _MOST_WEIGHTS
    return fits and not depthwise and native.ready("convolution", x, kernel)


def convolution(
    geometry: Geometry, plain: Callable[..., jax.Array], *, relu: bool = False
) -> Callable[..., jax.Array]:
    """A convolution, as PyTorch defines it, computed by kernels.

    Args:
        geometry: stride, padding and the like, of one or two axes.
        plain: the same function in XLA's operations, with its ReLU.
        relu: whether the outputs go through a ReLU. Its gradient at 0 is 0.

    Returns:
        A function of x [N, ..., C], the kernel [..., C / groups, O] and the bias, [O] or None. It
        gives the outputs, [N, ..., O].
    """

    def call(way: str, like: list[Shaped], *arguments: jax.Array | None) -> list[jax.Array]:
        results = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in like]
        present = [array for array in arguments if array is not None]
        numbers = np.array([*_numbers(geometry), relu], np.int64)
        return native.call("convolution", f"convolution_{way}", results, *present, geometry=numbers)

    def run(x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
        images, kernels = _as_images(x), _as_kernels(kernel)
        sizes = _output_sizes(x, kernel, geometry)
        shape = len(x), *[1] * (4 - x.ndim), *sizes, kernel.shape[-1]
        like = jax.ShapeDtypeStruct(shape, x.dtype)
        (y,) = call("forward", [like], images, kernels, bias)
        return y.reshape(len(x), *sizes, kernel.shape[-1])

    def keep(x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> tuple:
        y = run(x, kernel, bias)
        return y, y if relu else None

    def pull_back(inputs: tuple, y: jax.Array | None, g: jax.Array) -> tuple:
        x, kernel, bias = inputs
        images, kernels, g = _as_images(x), _as_kernels(kernel), _as_images(g)
        y = None if y is None else _as_images(y)
        wanted = [kernels] if bias is None else [kernels, bias]
        d_kernel, *d_bias = call("backward_kernel", wanted, images, g, y)
        # A call of its own, which XLA leaves out where nobody asks for the gradient by x.
        (d_x,) = call("backward_input", [images], g, kernels, y)
        d_kernel = d_kernel.reshape(kernel.shape)
        return d_x.reshape(x.shape), d_kernel, d_bias[0] if d_bias else None

    return with_gradient(run, keep, pull_back, plain)


def _as_images(x: jax.Array) -> jax.Array:
    """A sequence as an image of one row."""
    return jnp.expand_dims(x, 1) if x.ndim == 3 else x


def _as_kernels(kernel: jax.Array) -> jax.Array:
    return kernel[None] if kernel.ndim == 3 else kernel


def _output_sizes(x: Shaped, kernel: Shaped, geometry: Geometry) -> list[int]:
    sizes = []
    for axis, (before, after) in enumerate(geometry.padding):
        inside = (x.shape[axis + 1] - 1) * geometry.input_dilation[axis] + 1 + before + after
        reach = (kernel.shape[axis] - 1) * geometry.dilation[axis]
        sizes.append(max(0, inside - reach - 1 + geometry.stride[axis]) // geometry.stride[axis])
    return sizes


def _numbers(geometry: Geometry) -> list[int]:
    """Stride, zeros before, dilation and input dilation, of both axes each; and the groups."""
    before = tuple(low for low, _ in geometry.padding)
    steps = geometry.stride, before, geometry.dilation, geometry.input_dilation
    neutral = 1, 0, 1, 1
    two = [
        (empty,) * (2 - len(step)) + tuple(step) for step, empty in zip(steps, neutral, strict=True)
    ]
    return [*(number for pair in two for number in pair), geometry.groups]
