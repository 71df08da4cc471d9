"""Resizing of images, sequences and volumes: ``interpolate``, and its layers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    check_bool,
    check_choice,
    check_number,
    check_positive,
    describe,
    entries,
)
from jaxnets.layers.windows import check_input, per_axis

#: The numbers of spatial axes that each mode supports.
_MODES = {
    "nearest": (1, 2, 3),
    "nearest-exact": (1, 2, 3),
    "area": (1, 2, 3),
    "linear": (1,),
    "bilinear": (2,),
    "bicubic": (2,),
    "trilinear": (3,),
}
_SMOOTH = ("linear", "bilinear", "bicubic", "trilinear")
_UNROLLED = 16  # the largest number of taps for which one gather per tap is faster than one for all

#: One number for every spatial axis, or one for each.
Factors = float | Sequence[float]
Sizes = int | Sequence[int]


def interpolate(
    input: ArrayLike,
    size: Sizes | None = None,
    scale_factor: Factors | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> jax.Array:
    """Resizes the spatial axes: ``torch.nn.functional.interpolate``.

    Along each axis, output i is a weighted mean of the inputs around position s (i + ½) - ½, where
    s = 1 / scale_factor, or input size / output size if ``size`` is given. With ``align_corners``
    the position is i (n - 1) / (m - 1) for n inputs and m outputs.

    Args:
        input: [N, L, C], [N, H, W, C] or [N, D, H, W, C].
        size: the spatial size of the output, an integer or one for each axis.
        scale_factor: the ratio of output size to input size, instead of ``size``; output sizes are
            rounded down.
        mode: "nearest", "nearest-exact" or "area" for any number of spatial axes, "linear" for
            one, "bilinear" or "bicubic" for two, "trilinear" for three.
        align_corners: whether the outermost outputs are at the outermost inputs; only for the last
            four modes. None for False.
        recompute_scale_factor: whether s is input size / output size also if ``scale_factor`` is
            given.
        antialias: whether to smooth when the image becomes smaller; only for modes "bilinear" and
            "bicubic".

    Returns:
        The resized input. Only reverse-mode differentiation is supported.

    Raises:
        InputError: if the input has another rank or dtype, or the arguments are inconsistent.

    Examples:
        >>> x = jnp.array([[[1.0], [2.0]]])  # [1, 2, 1]
        >>> interpolate(x, scale_factor=2, mode="linear").ravel().tolist()
        [1.0, 1.25, 1.75, 2.0]
    """
    _check(size, scale_factor, mode, align_corners, recompute_scale_factor)
    axes = input.ndim - 2 if getattr(input, "ndim", 0) in (3, 4, 5) else 2
    check_input(input, axes, argument="input")
    if axes not in _MODES[mode]:
        modes = ", ".join(name for name, allowed in _MODES.items() if axes in allowed)
        raise InputError("mode", f"one of {modes} for {describe(input)}", mode)
    if check_bool("antialias", antialias) and mode not in ("bilinear", "bicubic"):
        raise InputError("antialias", "False unless mode is bilinear or bicubic", antialias)
    x = jnp.asarray(input)
    sizes, factors = _sizes(x, size, scale_factor)
    if recompute_scale_factor or mode == "area":
        factors = (None,) * axes
    dtype = np.float64 if x.dtype == np.float64 else np.float32
    y = x.astype(dtype)
    for axis in range(axes, 0, -1):
        resizing = _Resizing(
            x.shape[axis],
            sizes[axis - 1],
            factors[axis - 1],
            "linear" if mode.endswith("linear") else mode,
            bool(align_corners),
            antialias,
            dtype,
        )
        y = _resized(y, axis, resizing)
    return y.astype(x.dtype)


def _check(
    size: Any, scale_factor: Any, mode: Any, align_corners: Any, recompute_scale_factor: Any
) -> None:
    """Checks the arguments of ``interpolate`` that can be checked without its input."""
    for one in entries(size) or (size,):
        if size is not None:
            check_positive("size", one)
    for one in entries(scale_factor) or (scale_factor,):
        if scale_factor is not None:
            check_number("scale_factor", one, above=0)
    if size is None and scale_factor is None:
        raise InputError("size", "a size or a scale_factor", "neither")
    if size is not None and scale_factor is not None:
        raise InputError("scale_factor", f"None, as size is {size}", scale_factor)
    check_choice("mode", mode, tuple(_MODES))
    if align_corners is not None:
        check_bool("align_corners", align_corners)
        if mode not in _SMOOTH:
            raise InputError("align_corners", f"None for mode {mode}", align_corners)
    if recompute_scale_factor is not None:
        check_bool("recompute_scale_factor", recompute_scale_factor)
        if recompute_scale_factor and scale_factor is None:
            raise InputError("recompute_scale_factor", "False, as size is given", True)


def _sizes(
    x: jax.Array, size: Sizes | None, scale_factor: Factors | None
) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    """Returns the spatial sizes of the output, and the given scale factors (None if not given)."""
    axes = x.ndim - 2
    if scale_factor is None:
        return per_axis("size", size, axes), (None,) * axes  # type: ignore[arg-type]
    given = entries(scale_factor)
    factors = (scale_factor,) * axes if given is None else given
    if len(factors) != axes:
        raise InputError("scale_factor", f"a number, or {axes} of them", scale_factor)
    factors = tuple(check_number("scale_factor", factor) for factor in factors)
    sizes = tuple(int(n * factor) for n, factor in zip(x.shape[1:-1], factors, strict=True))
    if min(sizes) < 1:
        expected = f"a factor that leaves at least one output of {describe(x)}"
        raise InputError("scale_factor", expected, scale_factor)
    return sizes, factors


#: For each output, the indices of the inputs that contribute, [m, taps], and their weights. An
#: index equal to the number of inputs stands for no input.
Taps = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class _Resizing:
    """The parameters of resizing along one axis.

    Positions and weights are computed in NumPy with PyTorch's rounding, in ``dtype``.
    """

    inputs: int
    outputs: int
    factor: float | None
    mode: str
    align_corners: bool
    antialias: bool
    dtype: type[np.floating]

    def taps(self) -> Taps:
        """Returns, for each output position, the input positions and weights it interpolates."""
        if self.mode == "area":
            return self._averages()
        if self.mode.startswith("nearest"):
            return self._nearest()
        if self.antialias:
            return self._smoothed()
        return self._cubic() if self.mode == "bicubic" else self._linear()

    def transposed(self) -> Taps:
        """Returns, for each input position, the output positions it contributes to, and weights.

        This is the transpose of ``taps``: output positions are grouped by input position, and rows
        are filled up with the index ``outputs`` and weight 0.
        """
        indices, weights = self.taps()
        flat = indices.ravel()
        # Sorting the taps by input position puts the taps of each input in succession.
        order = np.argsort(flat, kind="stable")
        order = order[flat[order] < self.inputs]
        counts = np.bincount(flat[order], minlength=self.inputs)
        columns = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        places = flat[order], columns
        outputs = np.full((self.inputs, counts.max(initial=1)), self.outputs)
        outputs[places] = order // indices.shape[1]
        shares = np.zeros(outputs.shape, self.dtype)
        shares[places] = weights.ravel()[order]
        return outputs, shares

    def _step(self) -> Any:
        """Returns the distance between neighbouring outputs, in input positions."""
        dtype = self.dtype
        if self.align_corners:
            intervals = self.outputs - 1
            return dtype(self.inputs - 1) / dtype(intervals) if intervals else dtype(0)
        if self.factor is not None:
            return dtype(1 / self.factor)
        return dtype(self.inputs) / dtype(self.outputs)

    def _positions(self) -> np.ndarray:
        """Returns the position of each output on the axis of the inputs."""
        places, half = np.arange(self.outputs).astype(self.dtype), self.dtype(0.5)
        if self.align_corners:
            return self._step() * places
        return self._step() * (places + half) - half

    def _floored(self, positions: np.ndarray) -> Taps:
        """Splits positions into the index of the input before and the distance to it, in [0, 1]."""
        # PyTorch rounds down in single precision.
        before = np.floor(positions.astype(np.float32)).astype(int)
        before = np.minimum(before, self.inputs - 1)
        return before, np.clip(positions - before.astype(self.dtype), 0, 1)

    def _nearest(self) -> Taps:
        # For some memory layouts PyTorch uses another rule, whose results differ where a position
        # is rounded to an integer. Gradients, and images of less than 128 rows and columns, use
        # this one.
        step = replace(self, dtype=np.float32)._step()
        places = np.arange(self.outputs)
        if self.mode == "nearest-exact":
            places = np.floor(((places + 0.5) * step).astype(np.float32))
        elif self.outputs == 2 * self.inputs:
            places = places // 2
        elif self.outputs != self.inputs:
            places = np.floor(places.astype(np.float32) * step)
        indices = np.minimum(places.astype(int), self.inputs - 1)[:, None]
        return indices, np.ones(indices.shape, self.dtype)

    def _linear(self) -> Taps:
        if self.inputs == self.outputs:
            before, beyond = np.arange(self.inputs), np.zeros(self.inputs, self.dtype)
            after = before
        else:
            before, beyond = self._floored(np.maximum(self._positions(), 0))
            after = np.minimum(before + 1, self.inputs - 1)
        return np.stack([before, after], 1), np.stack([1 - beyond, beyond], 1)

    def _cubic(self) -> Taps:
        before, beyond = self._floored(self._positions())
        indices = np.clip(before[:, None] + np.arange(-1, 3), 0, self.inputs - 1)
        return indices, np.stack(cubic_weights(beyond), 1)

    def _averages(self) -> Taps:
        n, m, places = self.inputs, self.outputs, np.arange(self.outputs)
        indices, inside = self._spans(places * n // m, -(-(places + 1) * n // m))
        return indices, (inside / inside.sum(1, keepdims=True)).astype(self.dtype)

    def _smoothed(self) -> Taps:
        if self.inputs == self.outputs:
            return self._nearest()
        step, half = self._step(), self.dtype(0.5)
        width = max(step, self.dtype(1))
        support = width * self.dtype(2 if self.mode == "bicubic" else 1)
        centers = step * (np.arange(self.outputs).astype(self.dtype) + half)
        first = np.maximum((centers - support + half).astype(int), 0)
        end = np.minimum((centers + support + half).astype(int), self.inputs)
        indices, inside = self._spans(first, end)
        away = np.abs(indices.astype(self.dtype) - centers[:, None] + half) / width
        if self.mode == "bicubic":
            weights = np.where(away < 1, _near(away, -0.5), _far(np.minimum(away, 2), -0.5))
        else:
            weights = np.maximum(1 - away, 0)
        weights = np.where(inside, weights, 0)
        return indices, weights / weights.sum(1, keepdims=True)

    def _spans(self, first: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the indices from ``first`` to ``end`` of each output in rows of equal length.

        The second array is False where a row is filled up.
        """
        indices = first[:, None] + np.arange((end - first).max())
        inside = indices < end[:, None]
        return np.where(inside, indices, self.inputs), inside


def cubic_weights(beyond: Any) -> list[Any]:
    """Computes the weights of the four inputs around each position, by cubic convolution.

    Args:
        beyond: the distance of each position from the second of the four inputs, from 0 to 1.

    Returns:
        The four weights, from the first input to the last.
    """
    a = -0.75
    return [_far(beyond + 1, a), _near(beyond, a), _near(1 - beyond, a), _far(2 - beyond, a)]


def _near(distance: Any, a: float) -> Any:
    """Computes the kernel of cubic convolution for distances up to 1."""
    return ((a + 2) * distance - (a + 3)) * distance * distance + 1


def _far(distance: Any, a: float) -> Any:
    """Computes the kernel of cubic convolution for distances from 1 to 2."""
    return ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a


# The automatic derivative of a gather is a scatter, which is many times slower than the gather by
# transposed indices in the backward pass here.
@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _resized(x: jax.Array, axis: int, resizing: _Resizing) -> jax.Array:
    return _combined(x, axis, resizing.taps())


def _forward(x: jax.Array, axis: int, resizing: _Resizing) -> tuple[jax.Array, None]:
    return _resized(x, axis, resizing), None


def _backward(axis: int, resizing: _Resizing, _: None, g: jax.Array) -> tuple[jax.Array]:
    return (_combined(g, axis, resizing.transposed()),)


_resized.defvjp(_forward, _backward)


def _combined(x: jax.Array, axis: int, taps: Taps) -> jax.Array:
    """Computes the weighted sum of the inputs of each output along an axis."""
    indices, weights = taps
    others = [other for other in range(x.ndim) if other != axis]

    def taken(indices: np.ndarray) -> jax.Array:
        return jnp.take(x, indices, axis, mode="fill", fill_value=0)

    if indices.shape[1] <= _UNROLLED:
        columns = zip(indices.T, weights.T, strict=True)
        return reduce(jnp.add, (taken(i) * np.expand_dims(w, others) for i, w in columns))
    pieces = taken(indices)  # the axis becomes two axes, [m, taps]
    beyond = [other + (other > axis) for other in others]
    return (pieces * np.expand_dims(weights, beyond)).sum(axis + 1)


class Upsample(nnx.Module):
    """``torch.nn.Upsample``: ``interpolate`` as a layer.

    Args:
        size: the spatial size of the output, an integer or one for each axis.
        scale_factor: the ratio of output size to input size, instead of ``size``; output sizes are
            rounded down.
        mode: the interpolation mode; see ``interpolate``.
        align_corners: whether the outermost outputs are at the outermost inputs; see
            ``interpolate``.
        recompute_scale_factor: see ``interpolate``.

    Raises:
        InputError: if the arguments are inconsistent; on a call, if they do not match the input.

    Examples:
        >>> Upsample(scale_factor=2, mode="bilinear")(jnp.ones((1, 7, 7, 16))).shape
        (1, 14, 14, 16)
    """

    def __init__(
        self,
        size: Sizes | None = None,
        scale_factor: Factors | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        _check(size, scale_factor, mode, align_corners, recompute_scale_factor)
        self.size = _fixed(size)
        self.scale_factor = _fixed(scale_factor)
        self.mode = mode
        self.align_corners = align_corners
        self.recompute_scale_factor = recompute_scale_factor

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Resizes the spatial axes of x, [N, ..., C]."""
        return interpolate(
            x,
            self.size,
            self.scale_factor,
            self.mode,
            self.align_corners,
            self.recompute_scale_factor,
        )


def _fixed(value: Any) -> Any:
    """Converts a list to a tuple, because Flax does not allow lists as attributes."""
    given = entries(value)
    return value if given is None else given


class UpsamplingNearest2d(Upsample):
    """``torch.nn.UpsamplingNearest2d``: ``Upsample`` by nearest neighbours.

    Args:
        size: height and width of the output, or one number for both.
        scale_factor: the ratio of output size to input size, instead of ``size``; output sizes are
            rounded down.
    """

    def __init__(self, size: Sizes | None = None, scale_factor: Factors | None = None) -> None:
        super().__init__(size, scale_factor)


class UpsamplingBilinear2d(Upsample):
    """``torch.nn.UpsamplingBilinear2d``: bilinear ``Upsample`` with corners aligned.

    Args:
        size: height and width of the output, or one number for both.
        scale_factor: the ratio of output size to input size, instead of ``size``; output sizes are
            rounded down.
    """

    def __init__(self, size: Sizes | None = None, scale_factor: Factors | None = None) -> None:
        super().__init__(size, scale_factor, "bilinear", True)
