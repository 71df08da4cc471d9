"""Extracts the windows of an image as rows (unfold), and adds them up to an image (fold)."""

import itertools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxnets.arrays import ArrayLike, InputError, check_floats, describe
from jaxnets.kernels.geometry import Window
from jaxnets.layers.windows import PerAxis, check_input, per_axis


class _Folding(nnx.Module):
    def __init__(
        self, kernel_size: PerAxis, dilation: PerAxis, padding: PerAxis, stride: PerAxis
    ) -> None:
        self.kernel_size = per_axis("kernel_size", kernel_size, 2)
        self.dilation = per_axis("dilation", dilation, 2)
        self.padding = per_axis("padding", padding, 2, least=0)
        self.stride = per_axis("stride", stride, 2)

    def _counts(self, sizes: tuple[int, ...]) -> list[int]:
        """Returns the number of windows along each axis; below 1 if the image is too small."""
        options = zip(self.kernel_size, self.stride, self.padding, self.dilation, strict=True)
        return [Window(*option).count(n) for option, n in zip(options, sizes, strict=True)]

    def _rows(self, image: jax.Array) -> jax.Array:
        """Extracts the windows of [N, H, W, C] as [N, L, C · kh · kw]."""
        batch, *sizes, channels = image.shape
        counts = self._counts(tuple(sizes))
        spatial = ((p, p) for p in self.padding)
        padded = jnp.pad(image, ((0, 0), *spatial, (0, 0)))
        spans = [(count - 1) * s + 1 for count, s in zip(counts, self.stride, strict=True)]
        elements = []
        for taps in itertools.product(*map(range, self.kernel_size)):
            first = [tap * d for tap, d in zip(taps, self.dilation, strict=True)]
            last = [start + span for start, span in zip(first, spans, strict=True)]
            steps = (1, *self.stride, 1)
            elements.append(lax.slice(padded, (0, *first, 0), (batch, *last, channels), steps))
        row = channels * len(elements)
        return jnp.stack(elements, -1).reshape(batch, math.prod(counts), row)


class Unfold(_Folding):
    """``torch.nn.Unfold``: the windows of an image as a sequence of rows.

    Row l of the result [N, L, C · kh · kw] contains window l, in row-major order of the windows.
    Within a row the elements are ordered channel by channel, and row by row within a channel, as in
    column l of PyTorch's result. The result is PyTorch's with the last two axes swapped, so that a
    ``Linear`` after it has the same weight as in PyTorch.

    Args:
        kernel_size: height kh and width kw of the windows.
        dilation: the distance between the elements of a window.
        padding: the number of zeros added at each edge.
        stride: the distance between windows.

    Raises:
        InputError: if an option is invalid, or the image is too small for one window.

    Examples:
        >>> image = jnp.array([[[[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]]]])  # [1, 1, 3, 2]
        >>> Unfold((1, 2))(image).tolist()
        [[[1.0, 2.0, 10.0, 20.0], [2.0, 3.0, 20.0, 30.0]]]
    """

    def __init__(
        self,
        kernel_size: PerAxis,
        dilation: PerAxis = 1,
        padding: PerAxis = 0,
        stride: PerAxis = 1,
    ) -> None:
        super().__init__(kernel_size, dilation, padding, stride)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Unfolds x, [N, H, W, C], to [N, L, C · kh · kw]."""
        return self._unfolded(x, "x")

    def _unfolded(self, x: ArrayLike, argument: str) -> jax.Array:
        check_input(x, 2, argument=argument)
        if min(self._counts(x.shape[1:3])) < 1:
            raise InputError(argument, f"at least one window of {self.kernel_size}", describe(x))
        return self._rows(jnp.asarray(x))


class Fold(_Folding):
    """``torch.nn.Fold``: an image in which each pixel is the sum of the windows that cover it.

    ``Fold`` is the transpose of ``Unfold``, and takes rows in the layout of ``Unfold``.

    Args:
        output_size: height and width of the image.
        kernel_size: height kh and width kw of the windows.
        dilation: the distance between the elements of a window.
        padding: the number of positions by which windows extend beyond each edge; the elements
            there are ignored.
        stride: the distance between windows.

    Raises:
        InputError: if an option is invalid, or the input does not have one row for each window.

    Examples:
        >>> Fold((1, 3), (1, 2))(jnp.ones((1, 2, 2))).ravel().tolist()
        [1.0, 2.0, 1.0]
    """

    def __init__(
        self,
        output_size: PerAxis,
        kernel_size: PerAxis,
        dilation: PerAxis = 1,
        padding: PerAxis = 0,
        stride: PerAxis = 1,
    ) -> None:
        super().__init__(kernel_size, dilation, padding, stride)
        self.output_size = per_axis("output_size", output_size, 2)
        if min(self._counts(self.output_size)) < 1:
            room = f"at least one window of {self.kernel_size}"
            raise InputError("output_size", room, self.output_size)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Folds x, [N, L, C · kh · kw], to [N, H, W, C]."""
        return self._folded(x, "x")

    def _folded(self, x: ArrayLike, argument: str) -> jax.Array:
        count, area = math.prod(self._counts(self.output_size)), math.prod(self.kernel_size)
        check_floats(argument, x, ("N", count, f"C · {area}"))
        batch, _, width = x.shape
        if width % area:
            raise InputError(argument, f"[N, {count}, C · {area}]", describe(x))
        x = jnp.asarray(x)
        image = jax.ShapeDtypeStruct((batch, *self.output_size, width // area), x.dtype)
        # Folding is the transpose of unfolding, which JAX derives from the linear function _rows.
        (folded,) = jax.linear_transpose(self._rows, image)(x)
        return folded


def unfold(
    input: ArrayLike,
    kernel_size: PerAxis,
    dilation: PerAxis = 1,
    padding: PerAxis = 0,
    stride: PerAxis = 1,
) -> jax.Array:
    """``torch.nn.functional.unfold``: extracts the windows of an image as rows.

    The input is [N, H, W, C] and the result [N, L, C · kh · kw]. For the arguments see ``Unfold``.
    """
    return Unfold(kernel_size, dilation, padding, stride)._unfolded(input, "input")


def fold(
    input: ArrayLike,
    output_size: PerAxis,
    kernel_size: PerAxis,
    dilation: PerAxis = 1,
    padding: PerAxis = 0,
    stride: PerAxis = 1,
) -> jax.Array:
    """``torch.nn.functional.fold``: adds up windows to an image.

    The input is [N, L, C · kh · kw] and the result [N, H, W, C]. For the arguments see ``Fold``.
    """
    return Fold(output_size, kernel_size, dilation, padding, stride)._folded(input, "input")
