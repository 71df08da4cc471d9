"""Linear layers of any size, with or without ReLU, by native kernels, forward and backward."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxnets.kernels import native
from jaxnets.kernels.geometry import Shaped
from jaxnets.kernels.gradients import with_gradient

# With fewer rows, packing the kernel costs more than it saves; with fewer products, so does the
# call. With fewer columns, too much of each vector is unused.
_LEAST_ROWS, _LEAST_PRODUCTS, _LEAST_COLUMNS = 16, 2**14, 8
# For one or two rows, a kernel of at least this size is read without packing.
_THIN, _LARGE = 2, 2**19


def supports(x: Shaped, kernel: Shaped, *bias: Shaped) -> bool:
    """Whether the kernels of ``layer`` can run this, and are faster than XLA's products."""
    rows, size = math.prod(x.shape[:-1]), math.prod(kernel.shape)
    many = rows >= _LEAST_ROWS and rows * size >= _LEAST_PRODUCTS
    pays_off = many or (rows <= _THIN and size >= _LARGE)
    return (
        pays_off
        and min(kernel.shape) >= _LEAST_COLUMNS
        and native.ready("linear_layer", x, kernel, *bias)
    )


def layer(relu: bool, plain: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Makes a linear layer, optionally with ReLU, that kernels compute.

    Args:
        relu: whether ReLU follows.
        plain: the same function in XLA's operations.

    Returns:
        A function of x [..., inputs], the kernel [inputs, outputs] and optionally the bias
        [outputs] that returns [..., outputs].
    """

    def call(name: str, results: Any, *arguments: jax.Array, **settings: Any) -> list[jax.Array]:
        return native.call("linear_layer", f"linear_layer_{name}", results, *arguments, **settings)

    def outputs(x: jax.Array, kernel: jax.Array, *bias: jax.Array) -> jax.Array:
        rows = _rows(x)
        result = jax.ShapeDtypeStruct((len(rows), kernel.shape[1]), x.dtype)
        (y,) = call("forward", [result], rows, kernel, *bias, relu=np.int32(relu))
        return y.reshape(*x.shape[:-1], kernel.shape[1])

    def keep(*inputs: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        y = outputs(*inputs)
        return y, [y] if relu else []

    def pull_back(
        inputs: tuple, kept: list[jax.Array], d: jax.Array, wanted: tuple[bool, ...]
    ) -> tuple:
        x, kernel, *bias = inputs
        rows, d, kept = _rows(x), _rows(d), [_rows(y) for y in kept]
        results = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (rows, kernel, kernel[0])]
        dx = call("input_gradient", results[:1], d, kernel, *kept) if wanted[0] else []
        # dx is passed only to make this call run after the one above. Otherwise the optimizer might
        # update the kernel while that call still reads it, and XLA would copy the kernel first.
        d_kernel, d_bias = call(
            "kernel_gradient", results[1:], rows, d, *kept, *dx, relu=np.int32(relu)
        )
        return dx[0].reshape(x.shape) if dx else None, d_kernel, *[d_bias] * len(bias)

    return with_gradient(outputs, keep, pull_back, plain, selective=True)


def _rows(x: Any) -> jax.Array:
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
