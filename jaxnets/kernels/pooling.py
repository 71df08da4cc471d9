"""Max and average pooling by native kernels, forward and backward."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.kernels import native
from jaxnets.kernels.geometry import Shaped, Window, as_images, image_shape, window_sizes
from jaxnets.kernels.gradients import with_gradient

# Up to this number of places in a window, that of the maximum is stored in a byte, with one value
# reserved for none.
_BYTE = 255


def supports(x: Shaped, windows: Sequence[Window]) -> bool:
    """Whether the kernels can pool x, and are faster than XLA's operations.

    Args:
        x: [N, L, C] or [N, H, W, C].
        windows: the windows along each spatial axis.
    """
    fits = x.ndim in (3, 4) and len(windows) == x.ndim - 2 and min(x.shape) > 0
    if not fits or min(_counts(x, windows)) < 1:
        return False
    # XLA's reduction of whole axes is as fast if they are long.
    whole = all(window.covers(n) for window, n in zip(windows, x.shape[1:-1], strict=True))
    return not (whole and _places(windows) > _BYTE) and native.ready("pooling", x)


def max_pool(
    windows: Sequence[Window], plain: Callable[[jax.Array], jax.Array]
) -> Callable[[jax.Array], jax.Array]:
    """Makes a max pool that kernels compute.

    The gradient goes to the position of the maximum; of equal maxima to the first in row-major
    order, of several NaNs to the last.

    Args:
        windows: the windows along each spatial axis.
        plain: the same function in XLA's operations.

    Returns:
        A function of x [N, ..., C] that returns [N, ..., C].
    """
    settings = _settings(windows)
    is_wide = _places(windows) > _BYTE
    name, dtype = ("wide_max_pool", jnp.int32) if is_wide else ("max_pool", jnp.uint8)

    def pooled(x: jax.Array, dtypes: Sequence[Any]) -> list[jax.Array]:
        shape = (len(x), *_counts(x, windows), x.shape[-1])
        results = [jax.ShapeDtypeStruct(image_shape(shape), dtype) for dtype in dtypes]
        made = native.call("pooling", f"{name}_forward", results, as_images(x), settings=settings)
        return [array.reshape(shape) for array in made]

    def run(x: jax.Array) -> jax.Array:
        return pooled(x, [x.dtype])[0]

    def keep(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        y, winners = pooled(x, [x.dtype, dtype])
        return y, winners

    def pull_back(inputs: Any, winners: jax.Array, d: jax.Array) -> tuple[jax.Array]:
        return (_back(f"{name}_backward", settings, inputs[0], d, winners),)

    return with_gradient(run, keep, pull_back, plain)


def avg_pool(
    windows: Sequence[Window],
    plain: Callable[[jax.Array], jax.Array],
    *,
    count_include_pad: bool = True,
    divisor: int | None = None,
) -> Callable[[jax.Array], jax.Array]:
    """Makes an average pool that kernels compute.

    Args:
        windows: the windows along each spatial axis.
        plain: the same function in XLA's operations.
        count_include_pad: whether the zeros of the padding count.
        divisor: the divisor of each window's sum; None for the number of counted elements.

    Returns:
        A function of x [N, ..., C] that returns [N, ..., C].
    """

    def divided(sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the kernel's settings, and the divisors if they differ between windows."""
        if divisor:
            return _settings(windows, divisor), None
        counts = window_sizes(windows, sizes, count_include_pad)
        alike = (counts == counts.flat[0]).all()
        if alike:
            return _settings(windows, int(counts.flat[0])), None
        return _settings(windows, 1), counts

    def run(x: jax.Array) -> jax.Array:
        settings, counts = divided(x.shape[1:-1])
        shape = (len(x), *_counts(x, windows), x.shape[-1])
        like = jax.ShapeDtypeStruct(image_shape(shape), x.dtype)
        (y,) = native.call("pooling", "avg_pool_forward", [like], as_images(x), settings=settings)
        y = y.reshape(shape)
        return y if counts is None else y / jnp.asarray(counts, y.dtype)

    def keep(x: jax.Array) -> tuple[jax.Array, None]:
        return run(x), None

    def pull_back(inputs: Any, _: None, d: jax.Array) -> tuple[jax.Array]:
        (x,) = inputs
        settings, counts = divided(x.shape[1:-1])
        if counts is not None:
            d = d / jnp.asarray(counts, d.dtype)
        return (_back("avg_pool_backward", settings, x, d),)

    return with_gradient(run, keep, pull_back, plain)


def _back(name: str, settings: np.ndarray, x: jax.Array, *given: jax.Array) -> jax.Array:
    """Calls a backward kernel; returns the gradient of x."""
    like = jax.ShapeDtypeStruct(image_shape(x.shape), x.dtype)
    (d_x,) = native.call("pooling", name, [like], *map(as_images, given), settings=settings)
    return d_x.reshape(x.shape)


def _places(windows: Sequence[Window]) -> int:
    return math.prod(window.kernel for window in windows)


def _counts(x: Shaped, windows: Sequence[Window]) -> tuple[int, ...]:
    return tuple(window.count(n) for window, n in zip(windows, x.shape[1:-1], strict=True))


def _settings(windows: Sequence[Window], *divisor: int) -> np.ndarray:
    """Returns the settings as the kernels read them; a sequence is an image of one row."""
    down, across = (Window(1, 1), *windows)[-2:]
    steps = [(each.stride, each.padding, each.dilation, 1) for each in (down, across)]
    return np.asarray([*steps[0], *steps[1], down.kernel, across.kernel, *divisor], np.int64)
