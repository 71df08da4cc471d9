"""Max unpooling: writes maxima to their positions before pooling, channels last."""

import math
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.arrays import ArrayLike, InputError, check_usable, describe
from jaxnets.layers.maxima import values_at
from jaxnets.layers.windows import PerAxis, check_input, per_axis, spatial_sizes


class _MaxUnpool(nnx.Module):
    axes: ClassVar[int]

    def __init__(
        self, kernel_size: PerAxis, stride: PerAxis | None = None, padding: PerAxis = 0
    ) -> None:
        self.kernel_size = per_axis("kernel_size", kernel_size, self.axes)
        self.stride = per_axis("stride", kernel_size if stride is None else stride, self.axes)
        self.padding = per_axis("padding", padding, self.axes, least=0)

    def __call__(
        self, x: ArrayLike, indices: ArrayLike, output_size: PerAxis | None = None
    ) -> jax.Array:
        """Writes each element of x, [N, ..., C], to the position of its index, and zeros elsewhere.

        Args:
            x: the maxima that a pooling layer with ``return_indices`` returned.
            indices: the indices that the pooling layer returned, integers of the shape of x.
            output_size: the spatial sizes of the output, or its whole shape.

        Returns:
            [N, ..., C]. Under ``jax.jit`` indices cannot be checked, and a plane with an index out
            of range is NaN.

        Raises:
            InputError: if the shapes do not match or, outside ``jax.jit``, an index is out of
                range.
        """
        return self._unpooled(x, indices, output_size, "x")

    def _unpooled(
        self, x: ArrayLike, indices: ArrayLike, output_size: PerAxis | None, argument: str
    ) -> jax.Array:
        check_input(x, self.axes, argument=argument)
        sizes = self._sizes(x, output_size, argument)
        _check_indices(indices, x.shape, math.prod(sizes))
        x, indices = jnp.asarray(x), jnp.asarray(indices)
        known = (indices >= 0) & (indices < math.prod(sizes))
        y = _spread(x, jnp.where(known, indices, 0), sizes)
        return jnp.where(known.all(range(1, x.ndim - 1), keepdims=True), y, jnp.nan)

    def _sizes(self, x: ArrayLike, output_size: PerAxis | None, argument: str) -> tuple[int, ...]:
        """Returns the spatial sizes of the output, and checks that pooling them can result in x."""
        axes = zip(x.shape[1:-1], self.stride, self.padding, self.kernel_size, strict=True)
        usual = tuple((n - 1) * stride + kernel - 2 * cut for n, stride, cut, kernel in axes)
        if output_size is None:
            if min(usual) < 1:
                expected = f"an input larger than what padding {self.padding} removes"
                raise InputError(argument, expected, describe(x))
            return usual
        sizes = spatial_sizes(output_size, self.axes)
        triples = zip(sizes, usual, self.stride, strict=True)
        if any(abs(size - middle) >= stride for size, middle, stride in triples):
            expected = f"sizes that differ from {usual} by less than the stride {self.stride}"
            raise InputError("output_size", expected, output_size)
        return sizes


def _check_indices(indices: ArrayLike, shape: tuple[int, ...], places: int) -> None:
    expected = f"integers [{', '.join(map(str, shape))}]"
    check_usable("indices", expected, indices)
    if indices.shape != shape or not jnp.issubdtype(indices.dtype, jnp.integer):
        raise InputError("indices", expected, describe(indices))
    if isinstance(indices, jax.core.Tracer) or not indices.size:
        return
    values = np.asarray(indices)
    least, most = int(values.min()), int(values.max())
    if least < 0 or most >= places:
        raise InputError("indices", f"indices in [0, {places})", f"{least} to {most}")


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _spread(x: jax.Array, indices: jax.Array, sizes: tuple[int, ...]) -> jax.Array:
    """Writes each element to the position of its index, and zeros elsewhere.

    If several elements have the same index, each receives the whole gradient of that position, as
    in PyTorch.
    """
    batch, *_, channels = x.shape
    zeros = jnp.zeros((batch, math.prod(sizes), channels), x.dtype)
    places, numbers = (array.reshape(batch, -1, channels) for array in (indices, x))
    # put_along_axis does not support a symbolic batch size
    example = jnp.arange(batch)[:, None, None]
    y = zeros.at[example, places, jnp.arange(channels)].set(numbers)
    return y.reshape(batch, *sizes, channels)


def _spread_forward(
    x: jax.Array, indices: jax.Array, sizes: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    return _spread(x, indices, sizes), indices


def _spread_backward(
    sizes: tuple[int, ...], indices: jax.Array, g: jax.Array
) -> tuple[jax.Array, None]:
    return values_at(g, indices), None


_spread.defvjp(_spread_forward, _spread_backward)


class MaxUnpool1d(_MaxUnpool):
    """``torch.nn.MaxUnpool1d``: the partial inverse of ``MaxPool1d``.

    For the arguments see ``MaxUnpool2d``.
    """

    axes = 1


class MaxUnpool2d(_MaxUnpool):
    """``torch.nn.MaxUnpool2d``: the partial inverse of ``MaxPool2d``.

    Each maximum is written to its position before pooling, and all other positions are zero. If
    several maxima have the same position, the last one is written, and the gradient of the position
    goes to each of them.

    Args:
        kernel_size: height and width of the window of the pooling layer.
        stride: the stride of the pooling layer; ``kernel_size`` by default.
        padding: the padding of the pooling layer.

    Raises:
        InputError: if an option is invalid.

    Examples:
        >>> maxima, indices = jnp.array([5.0, 7.0]), jnp.array([5, 2])
        >>> y = MaxUnpool2d(2)(maxima.reshape(1, 1, 2, 1), indices.reshape(1, 1, 2, 1))
        >>> y.reshape(2, 4).tolist()
        [[0.0, 0.0, 7.0, 0.0], [0.0, 5.0, 0.0, 0.0]]
    """

    axes = 2


class MaxUnpool3d(_MaxUnpool):
    """``torch.nn.MaxUnpool3d``: the partial inverse of ``MaxPool3d``.

    For the arguments see ``MaxUnpool2d``.
    """

    axes = 3


def max_unpool1d(
    input: ArrayLike,
    indices: ArrayLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    output_size: PerAxis | None = None,
) -> jax.Array:
    """``torch.nn.functional.max_unpool1d``. For the arguments see ``max_unpool2d``."""
    layer = MaxUnpool1d(kernel_size, stride, padding)
    return layer._unpooled(input, indices, output_size, "input")


def max_unpool2d(
    input: ArrayLike,
    indices: ArrayLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    output_size: PerAxis | None = None,
) -> jax.Array:
    """Writes maxima to their positions before pooling, like ``MaxUnpool2d``.

    Args:
        input: the maxima, [N, H, W, C].
        indices: the index of each maximum, integers of the same shape, as ``max_pool2d`` returns
            them.
        kernel_size: height and width of the window of the pooling.
        stride: the stride of the pooling; ``kernel_size`` by default.
        padding: the padding of the pooling.
        output_size: height and width of the output, or its shape [N, H', W', C].

    Returns:
        [N, H', W', C].

    Raises:
        InputError: if an option is invalid, the shapes do not match or, outside ``jax.jit``, an
            index is out of range.

    PyTorch: ``torch.nn.functional.max_unpool2d``.

    Examples:
        >>> y = max_unpool2d(jnp.ones((1, 1, 1, 1)), jnp.full((1, 1, 1, 1), 2), 2)
        >>> y.reshape(2, 2).tolist()
        [[0.0, 0.0], [1.0, 0.0]]
    """
    layer = MaxUnpool2d(kernel_size, stride, padding)
    return layer._unpooled(input, indices, output_size, "input")


def max_unpool3d(
    input: ArrayLike,
    indices: ArrayLike,
    kernel_size: PerAxis,
    stride: PerAxis | None = None,
    padding: PerAxis = 0,
    output_size: PerAxis | None = None,
) -> jax.Array:
    """``torch.nn.functional.max_unpool3d``. For the arguments see ``max_unpool2d``."""
    layer = MaxUnpool3d(kernel_size, stride, padding)
    return layer._unpooled(input, indices, output_size, "input")
