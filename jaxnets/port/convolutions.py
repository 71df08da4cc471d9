"""Convolutions as matrix products, as XLA's float64 convolutions are slow on a CPU."""

import contextlib
import math
from collections.abc import Iterator
from unittest import mock

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.kernels.geometry import Geometry
from jaxnets.kernels.xla_convolution import convolve
from jaxnets.layers import convolution


@contextlib.contextmanager
def as_products() -> Iterator[None]:
    """Within the context, convolution layers compute float64 convolutions as matrix products."""
    with mock.patch.object(convolution, "convolve", by_products):
        yield


def by_products(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Computes ``convolve``; in float64 as the product of the windows of x with the kernel."""
    sizes = geometry.output_sizes(x, kernel)
    if x.dtype != jnp.float64 or not math.prod((*sizes, x.size, kernel.size)):
        return convolve(x, kernel, geometry)
    *taps, inputs, outputs = kernel.shape
    windows = _windows(x, taps, sizes, geometry)
    if geometry.groups == 1:
        return windows.reshape(*windows.shape[:-2], -1) @ kernel.reshape(-1, outputs)
    kernel = kernel.reshape(-1, inputs, geometry.groups, outputs // geometry.groups)
    windows = windows.reshape(*windows.shape[:-1], geometry.groups, inputs)
    if inputs == 1:  # elementwise, as products of matrices with one column are slow
        y = (windows * jnp.expand_dims(kernel[:, 0], range(windows.ndim - 3))).sum(-3)
    else:
        y = jnp.einsum("...tgi,tigo->...go", windows, kernel)
    return y.reshape(*y.shape[:-2], outputs)


def _windows(
    x: jax.Array, taps: list[int], sizes: tuple[int, ...], geometry: Geometry
) -> jax.Array:
    """Returns the window of x for each output position: [N, ..., product of the taps, C]."""
    padding = zip(geometry.padding, geometry.input_dilation, strict=True)
    inner = ((low, high, dilation - 1) for (low, high), dilation in padding)
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *inner, (0, 0, 0)])
    for axis, (count, size) in enumerate(zip(taps, sizes, strict=True)):
        step, stride = geometry.dilation[axis], geometry.stride[axis]
        starts = range(0, count * step, step)
        reach = (size - 1) * stride + 1
        cut = [lax.slice_in_dim(x, s, s + reach, stride, axis + 1) for s in starts]
        x = jnp.stack(cut, -2)
    return x.reshape(*x.shape[: len(taps) + 1], -1, x.shape[-1])
