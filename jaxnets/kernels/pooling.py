"""The maximum or the mean of each window, forward and backward."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.kernels import native
from jaxnets.kernels.geometry import Shaped, Window
from jaxnets.kernels.gradients import with_gradient

# The place of a window's maximum is kept in a byte, of which one value says that there is none.
_MOST_PLACES = 255


def serves(x: Shaped, windows: Sequence[Window]) -> bool:
    """Whether the kernels of ``max_pool`` can run this, and are faster than XLA's operations.

    Args:
        x: [N, L, C] or [N, H, W, C].
        windows: of each spatial axis.
    """
    fits = x.ndim in (3, 4) and len(windows) == x.ndim - 2 and min(x.shape) > 0
    places = math.prod(window.kernel for window in windows)
    sizes = _counts(x, windows) if fits else (0,)
    return min(sizes) > 0 and places <= _MOST_PLACES and native.ready("pooling", x)


def max_pool(
    windows: Sequence[Window], plain: Callable[[jax.Array], jax.Array], *, relu: bool = False
) -> Callable[[jax.Array], jax.Array]:
    """The maximum of each window, by kernels.

    The gradient goes to the maximum: of several to the first by rows, of several that are NaN to
    the last. With ReLU it goes nowhere where the maximum is not positive.

    Args:
        windows: of each spatial axis.
        plain: the same function in XLA's operations.
        relu: whether ReLU comes first.

    Returns:
        A function of x [N, ..., C], which gives [N, ..., C].
    """

    def call(way: str, results: list[jax.ShapeDtypeStruct], *arguments: jax.Array) -> list:
        settings = _settings(windows, relu)
        return native.call("pooling", f"max_pool_{way}", results, *arguments, settings=settings)

    def pooled(x: jax.Array, keep: bool) -> list[jax.Array]:
        shape = (len(x), *_counts(x, windows), x.shape[-1])
        wide = _image_shape(shape)
        results = [jax.ShapeDtypeStruct(wide, dtype) for dtype in (x.dtype, jnp.uint8)]
        made = call("forward", results if keep else results[:1], _image(x))
        return [array.reshape(shape) for array in made]

    def run(x: jax.Array) -> jax.Array:
        return pooled(x, keep=False)[0]

    def keep(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, winners = pooled(x, keep=True)
        return y, winners

    def pull_back(inputs: Any, winners: jax.Array, d: jax.Array) -> tuple[jax.Array]:
        (x,) = inputs
        like = jax.ShapeDtypeStruct(_image_shape(x.shape), x.dtype)
        (d_x,) = call("backward", [like], _image(d), _image(winners))
        return (d_x.reshape(x.shape),)

    return with_gradient(run, keep, pull_back, plain)


def _counts(x: Shaped, windows: Sequence[Window]) -> tuple[int, ...]:
    return tuple(window.count(n) for window, n in zip(windows, x.shape[1:-1], strict=True))


def _settings(windows: Sequence[Window], relu: bool) -> np.ndarray:
    """What the kernels are told: a sequence is an image of one row."""
    both = (Window(1, 1), *windows)[-2:]
    axes = [(window.stride, window.padding, window.dilation, 1) for window in both]
    return np.asarray([*axes[0], *axes[1], *(window.kernel for window in both), relu], np.int64)


def _image_shape(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape) if len(shape) == 4 else (shape[0], 1, *shape[1:])


def _image(x: jax.Array) -> jax.Array:
    return x.reshape(_image_shape(x.shape))
