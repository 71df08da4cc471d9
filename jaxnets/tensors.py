"""Functions of ``torch`` whose results or gradients differ from those of ``jax.numpy``.

At kinks and for equal elements the gradient is that of PyTorch. In ``jax.numpy``, ``jnp.abs`` has
slope 1 at 0, ``jnp.clip`` has slope ½ at its limits, and ``jnp.max`` splits the gradient among
equal elements, while ``torch.max`` along an axis passes the gradient to the first one.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    as_array,
    check_bool,
    check_floats,
    check_integer,
    check_number,
    describe,
)

#: Allows dtype promotion, such as int32 with 0.5, even if ``jax_numpy_dtype_promotion`` forbids it.
_promoting = functools.partial(jax.numpy_dtype_promotion, "standard")


def _floats(input: ArrayLike) -> jax.Array:
    """Converts the input to an array and checks that its dtype is floating-point."""
    x = as_array("input", input)
    check_floats("input", x, ("...",))
    return x


def _ordered(input: ArrayLike) -> jax.Array:
    """Converts the input to an array and checks that its elements can be ordered."""
    x = as_array("input", input)
    real = (jnp.floating, jnp.integer, jnp.bool_)
    if not any(jnp.issubdtype(x.dtype, kind) for kind in real):
        raise InputError("input", "an array of real numbers", describe(x))
    return x


def _together(kind: Any, **given: Any) -> list[jax.Array]:
    """Converts the arguments to arrays of dtype ``kind`` or integers that broadcast together."""
    arrays: list[jax.Array] = []
    shape: tuple[int, ...] = ()
    for name, value in given.items():
        x = as_array(name, value)
        if not any(jnp.issubdtype(x.dtype, one) for one in (kind, jnp.integer)):
            words = "numbers" if kind is jnp.inexact else "real numbers"
            raise InputError(name, f"an array of {words}", describe(x))
        try:
            shape = jnp.broadcast_shapes(shape, x.shape)
        except ValueError as error:
            raise InputError(
                name, f"an array that broadcasts with {list(shape)}", describe(x)
            ) from error
        arrays.append(x)
    return arrays


def _axis(x: jax.Array, dim: Any) -> int:
    """Checks an axis and returns it as a nonnegative integer."""
    found = check_integer("dim", dim)
    if x.ndim == 0:
        raise InputError("input", "an array with an axis", describe(x))
    if not -x.ndim <= found < x.ndim:
        raise InputError("dim", f"an axis of {describe(x)}", dim)
    return found % x.ndim


def _filled_axis(x: jax.Array, dim: Any) -> int:
    """Checks an axis like ``_axis``, and that its size is not zero."""
    axis = _axis(x, dim)
    if x.shape[axis] == 0:
        raise InputError("input", f"an array with elements along axis {axis}", describe(x))
    return axis


def _axes(x: jax.Array, dim: Any) -> tuple[int, ...]:
    """Checks one or several axes and returns them; None or an empty sequence means all axes."""
    if dim is None or (isinstance(dim, tuple | list) and not dim):
        return tuple(range(x.ndim))
    dims = dim if isinstance(dim, tuple | list) else (dim,)
    found = tuple(_axis(x, one) for one in dims)
    if len(set(found)) < len(found):
        raise InputError("dim", "different axes", dim)
    return found


def _chosen(
    x: jax.Array, indices: jax.Array, axis: int, keepdim: bool
) -> tuple[jax.Array, jax.Array]:
    """Takes the element at one index along an axis; only that element receives the gradient."""
    keepdim = check_bool("keepdim", keepdim)
    indices = jnp.expand_dims(indices, axis)
    values = jnp.take_along_axis(x, indices, axis)
    if keepdim:
        return values, indices
    return values.squeeze(axis), indices.squeeze(axis)


def _places_of_rank(x: jax.Array, rank: int, axis: int) -> jax.Array:
    """Returns the index of the element with the given rank (0 is the smallest) along an axis."""
    return lax.index_in_dim(jnp.argsort(x, axis), rank, axis, keepdims=False)


def abs(input: ArrayLike) -> jax.Array:
    """Computes the absolute value |x|, with slope 0 at 0: ``torch.abs``.

    Args:
        input: numbers of any shape.

    Examples:
        >>> jax.grad(abs)(0.0).item()
        0.0
    """
    x = as_array("input", input)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return jnp.abs(x)
    return x * lax.stop_gradient(jnp.sign(x))


def clamp(input: ArrayLike, min: Any = None, max: Any = None) -> jax.Array:
    """Limits each element to [min, max], with slope 1 also at the limits: ``torch.clamp``.

    Args:
        input: numbers of any shape.
        min: the lower limit, a number or an array; None for no limit.
        max: the upper limit; the result is ``max`` where ``max`` is below ``min``.

    Examples:
        >>> jax.grad(lambda x: clamp(x, 0, 6))(6.0).item()
        1.0
    """
    if min is None and max is None:
        raise InputError("min", "a limit here or as max", min)
    limits = {name: limit for name, limit in (("min", min), ("max", max)) if limit is not None}
    x, *arrays = _together(jnp.floating, input=input, **limits)
    with _promoting():
        for name, limit in zip(limits, arrays, strict=True):
            x = jnp.where(x < limit if name == "min" else x > limit, limit, x)
    return x


def pow(input: ArrayLike, exponent: ArrayLike) -> jax.Array:
    """Computes the power xʸ, with slope 0 with respect to x where y is 0: ``torch.pow``.

    Args:
        input: x, an array.
        exponent: y, an array that broadcasts with x.

    Examples:
        >>> jax.grad(pow)(0.0, 0.0).item()
        0.0
    """
    x, y = _together(jnp.inexact, input=input, exponent=exponent)
    with _promoting():
        return jnp.power(jnp.where(y == 0, lax.stop_gradient(x), x), y)


def lerp(input: ArrayLike, end: ArrayLike, weight: ArrayLike | float) -> jax.Array:
    """Interpolates linearly between two arrays, x + w (y - x): ``torch.lerp``.

    Args:
        input: x.
        end: y.
        weight: w, a number or an array.

    Examples:
        >>> lerp(1.0, 3.0, 0.25).item()
        1.5
    """
    x, y, w = _together(jnp.inexact, input=input, end=end, weight=weight)
    with _promoting():
        return x + w * (y - x)


def std(
    input: ArrayLike, dim: Any = None, *, correction: int = 1, keepdim: bool = False
) -> jax.Array:
    """Computes the standard deviation √(Σ (x - x̄)² / (n - correction)): ``torch.std``.

    The slope is 0 where the standard deviation is 0.

    Args:
        input: floating-point numbers.
        dim: an axis or several; None for all.
        correction: the number subtracted from the number of elements n.
        keepdim: whether to keep the axes with size 1.

    Examples:
        >>> std(jnp.array([1.0, 3.0, 5.0])).item()
        2.0
    """
    x, keepdim = _floats(input), check_bool("keepdim", keepdim)
    correction = check_integer("correction", correction)
    return _root(jnp.var(x, _axes(x, dim), ddof=correction, keepdims=keepdim))


def _root(x: jax.Array) -> jax.Array:
    """Computes the square root, with slope 0 at 0 instead of infinity."""
    return jnp.where(x == 0, 0, jnp.sqrt(jnp.where(x == 0, 1, x)))


def norm(input: ArrayLike, p: float = 2, dim: Any = None, *, keepdim: bool = False) -> jax.Array:
    """Computes the p-norm (Σ |x|ᵖ)^(1/p), with slope 0 where it is 0: ``torch.norm``.

    Args:
        input: floating-point numbers.
        p: the order. 0 counts the nonzero elements, and ∞ and -∞ return the largest and the
            smallest |x|.
        dim: an axis or several; None for all.
        keepdim: whether to keep the axes with size 1.

    Examples:
        >>> norm(jnp.array([[3.0, 4.0], [0.0, 0.0]]), dim=1).tolist()
        [5.0, 0.0]
    """
    x, keepdim = _floats(input), check_bool("keepdim", keepdim)
    p, axes = check_number("p", p, finite=False), _axes(x, dim)
    if p == 2:
        return _root(jnp.sum(jnp.square(x), axes, keepdims=keepdim))
    sizes = abs(x)
    if p == 0:
        return jnp.sum(x != 0, axes, keepdims=keepdim).astype(x.dtype)
    if p == 1:
        return jnp.sum(sizes, axes, keepdims=keepdim)
    if math.isinf(p):
        return (amax if p > 0 else amin)(sizes, axes, keepdim)
    powers = jnp.where(x == 0, 0, jnp.where(x == 0, 1, sizes) ** p)
    total = jnp.sum(powers, axes, keepdims=keepdim)
    return jnp.where(total == 0, 0, jnp.where(total == 0, 1, total) ** (1 / p))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _extreme(reduction: Callable[[jax.Array], jax.Array], x: jax.Array) -> jax.Array:
    """Applies ``reduction``, which takes a maximum or minimum."""
    return reduction(x)


@_extreme.defjvp
def _extreme_jvp(
    reduction: Callable[[jax.Array], jax.Array], primals: tuple[Any], tangents: tuple[Any]
) -> tuple[jax.Array, jax.Array]:
    # JAX divides the gradient by the number of elements that equal the maximum. Without the
    # barrier, XLA may compute x twice with different rounding, and then that number can be 0.
    (x,) = primals
    return jax.jvp(reduction, (lax.optimization_barrier(x),), tangents)


def amax(input: ArrayLike, dim: Any = None, keepdim: bool = False) -> jax.Array:
    """Computes the largest element along axes: ``torch.amax``.

    Equal elements share the gradient.

    Args:
        input: real numbers of any shape.
        dim: an axis or several; None for all.
        keepdim: whether to keep the axes with size 1.

    Examples:
        >>> amax(jnp.array([[1, 3], [2, 0]]), 1).tolist()
        [3, 2]
    """
    x, keepdim = _ordered(input), check_bool("keepdim", keepdim)
    axes = tuple(_filled_axis(x, axis) for axis in _axes(x, dim))
    return _extreme(functools.partial(jnp.max, axis=axes, keepdims=keepdim), x)


def amin(input: ArrayLike, dim: Any = None, keepdim: bool = False) -> jax.Array:
    """Computes the smallest element along axes: ``torch.amin``.

    Equal elements share the gradient.

    Args:
        input: real numbers of any shape.
        dim: an axis or several; None for all.
        keepdim: whether to keep the axes with size 1.

    Examples:
        >>> amin(jnp.array([[1, 3], [2, 0]]), 1).tolist()
        [1, 0]
    """
    x, keepdim = _ordered(input), check_bool("keepdim", keepdim)
    axes = tuple(_filled_axis(x, axis) for axis in _axes(x, dim))
    return _extreme(functools.partial(jnp.min, axis=axes, keepdims=keepdim), x)


def max(input: ArrayLike, dim: int, keepdim: bool = False) -> tuple[jax.Array, jax.Array]:
    """Computes the largest elements along an axis and their indices: ``torch.max``.

    Of equal elements the first is taken, and only that element receives the gradient.

    Args:
        input: real numbers of any shape.
        dim: the axis.
        keepdim: whether to keep the axis with size 1.

    Returns:
        Values and indices.

    Examples:
        >>> [x.item() for x in max(jnp.array([1, 3, 3]), 0)]
        [3, 1]
    """
    x = _ordered(input)
    axis = _filled_axis(x, dim)
    return _chosen(x, jnp.argmax(x, axis), axis, keepdim)


def min(input: ArrayLike, dim: int, keepdim: bool = False) -> tuple[jax.Array, jax.Array]:
    """Computes the smallest elements along an axis and their indices: ``torch.min``.

    Of equal elements the first is taken, and only that element receives the gradient.

    Args:
        input: real numbers of any shape.
        dim: the axis.
        keepdim: whether to keep the axis with size 1.

    Returns:
        Values and indices.

    Examples:
        >>> [x.item() for x in min(jnp.array([3, 1, 1]), 0)]
        [1, 1]
    """
    x = _ordered(input)
    axis = _filled_axis(x, dim)
    return _chosen(x, jnp.argmin(x, axis), axis, keepdim)


def sort(input: ArrayLike, dim: int = -1, descending: bool = False) -> tuple[jax.Array, jax.Array]:
    """Sorts the elements along an axis with a stable sort: ``torch.sort``.

    Args:
        input: real numbers of any shape.
        dim: the axis.
        descending: whether the largest element comes first.

    Returns:
        Values and indices.

    Examples:
        >>> [x.tolist() for x in sort(jnp.array([2, 3, 1]), descending=True)]
        [[3, 2, 1], [1, 0, 2]]
    """
    x = _ordered(input)
    axis, descending = _axis(x, dim), check_bool("descending", descending)
    indices = jnp.argsort(x, axis, descending=descending, stable=True)
    return jnp.take_along_axis(x, indices, axis), indices


def topk(
    input: ArrayLike, k: int, dim: int = -1, largest: bool = True
) -> tuple[jax.Array, jax.Array]:
    """Computes the k largest elements along an axis, the largest first: ``torch.topk``.

    Args:
        input: real numbers of any shape.
        k: the number of elements.
        dim: the axis.
        largest: if False, return the smallest elements, the smallest first.

    Returns:
        Values and indices; equal elements are in the order of their indices.

    Examples:
        >>> [x.tolist() for x in topk(jnp.array([2, 3, 1]), 2, largest=False)]
        [[1, 2], [2, 0]]
    """
    x = _ordered(input)
    axis = _axis(x, dim)
    k = check_integer("k", k, least=0, most=x.shape[axis])
    values, indices = sort(x, axis, descending=check_bool("largest", largest))
    return lax.slice_in_dim(values, 0, k, axis=axis), lax.slice_in_dim(indices, 0, k, axis=axis)


def kthvalue(
    input: ArrayLike, k: int, dim: int = -1, keepdim: bool = False
) -> tuple[jax.Array, jax.Array]:
    """Computes the k-th smallest element along an axis and its index: ``torch.kthvalue``.

    Args:
        input: real numbers of any shape.
        k: the rank of the element, from 1.
        dim: the axis.
        keepdim: whether to keep the axis with size 1.

    Returns:
        Values and indices.

    Examples:
        >>> [x.item() for x in kthvalue(jnp.array([5, 7, 6]), 2)]
        [6, 2]
    """
    x = _ordered(input)
    axis = _filled_axis(x, dim)
    k = check_integer("k", k, least=1, most=x.shape[axis])
    places = _places_of_rank(x, k - 1, axis)
    return _chosen(x, places, axis, keepdim)


def median(input: ArrayLike, dim: int | None = None, keepdim: bool = False) -> Any:
    """Computes the median, of an even number of elements the lower middle: ``torch.median``.

    The median of elements with a NaN is NaN.

    Args:
        input: real numbers of any shape.
        dim: the axis; None for all elements. With None, elements equal to the median share the
            gradient.
        keepdim: whether to keep the axis with size 1.

    Returns:
        Values and indices; only the value if ``dim`` is None.

    Examples:
        >>> median(jnp.array([4.0, 1.0, 2.0, 3.0])).item()
        2.0
    """
    (x,), keepdim = _together(jnp.floating, input=input), check_bool("keepdim", keepdim)
    if dim is None:
        value = lax.stop_gradient(median(x.ravel(), 0)[0])
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return value
        ties = x == value
        shared = jnp.sum(jnp.where(ties, x, 0)) / jnp.sum(ties, dtype=x.dtype)
        moved = value + (shared - lax.stop_gradient(shared))
        return jnp.where(jnp.isfinite(shared), moved, value).astype(x.dtype)
    axis = _filled_axis(x, dim)
    middle = (x.shape[axis] - 1) // 2
    places = _places_of_rank(x, middle, axis)
    unknown = jnp.isnan(x)
    places = jnp.where(unknown.any(axis), jnp.argmax(unknown, axis), places)
    return _chosen(x, places, axis, keepdim)


def cummax(input: ArrayLike, dim: int) -> tuple[jax.Array, jax.Array]:
    """Computes the cumulative maximum along an axis and its indices: ``torch.cummax``.

    Args:
        input: real numbers of any shape.
        dim: the axis.

    Returns:
        Values and indices; of equal elements the last index.

    Examples:
        >>> [x.tolist() for x in cummax(jnp.array([1, 3, 2, 3]), 0)]
        [[1, 3, 3, 3], [0, 1, 1, 3]]
    """
    return _so_far(input, dim, jnp.greater_equal)


def cummin(input: ArrayLike, dim: int) -> tuple[jax.Array, jax.Array]:
    """Computes the cumulative minimum along an axis and its indices: ``torch.cummin``.

    Args:
        input: real numbers of any shape.
        dim: the axis.

    Returns:
        Values and indices; of equal elements the last index.

    Examples:
        >>> [x.tolist() for x in cummin(jnp.array([3, 1, 2]), 0)]
        [[3, 1, 1], [0, 1, 1]]
    """
    return _so_far(input, dim, jnp.less_equal)


def _so_far(input: ArrayLike, dim: int, better: Any) -> tuple[jax.Array, jax.Array]:
    x = _ordered(input)
    axis = _axis(x, dim)
    indices = _places_so_far(lax.stop_gradient(x), axis, better)
    return jnp.take_along_axis(x, indices, axis), indices


# Compiled, because outside of jit the scan would compile one program for each of its steps.
@functools.partial(jax.jit, static_argnames=("axis", "better"))
def _places_so_far(x: jax.Array, axis: int, better: Any) -> jax.Array:
    places = lax.broadcasted_iota(jnp.int32, x.shape, axis)

    def choose(old: Any, new: Any) -> Any:
        wins = better(new[0], old[0]) | jnp.isnan(new[0])
        return tuple(jnp.where(wins, n, o) for o, n in zip(old, new, strict=True))

    return lax.associative_scan(choose, (x, places), axis=axis)[1]


def view_as_real(input: ArrayLike) -> jax.Array:
    """Stacks the real and imaginary parts along a new last axis: ``torch.view_as_real``.

    Args:
        input: complex numbers.

    Examples:
        >>> view_as_real(jnp.array([1 + 2j])).tolist()
        [[1.0, 2.0]]
    """
    x = as_array("input", input)
    return jnp.stack([x.real, x.imag], axis=-1)


def scatter_add(input: ArrayLike, dim: int, index: ArrayLike, src: ArrayLike) -> jax.Array:
    """Adds the elements of ``src`` at the indices ``index`` along an axis: ``torch.scatter_add``.

    Args:
        input: the array to add to; it is not changed.
        dim: the axis.
        index: indices along ``dim``, integers of the shape of ``src``. Along the other axes it is
            at most as large as ``input``.
        src: the array to add.

    Examples:
        >>> scatter_add(jnp.zeros(3), 0, jnp.array([2, 2, 0]), jnp.array([1.0, 2.0, 5.0])).tolist()
        [5.0, 0.0, 3.0]
    """
    x, places, new = as_array("input", input), as_array("index", index), as_array("src", src)
    if places.shape != new.shape or places.ndim != x.ndim:
        raise InputError(
            "index", f"integers of the shape of src, {describe(new)}", describe(places)
        )
    grid = [lax.broadcasted_iota(places.dtype, places.shape, axis) for axis in range(x.ndim)]
    grid[_axis(x, dim)] = places
    return x.at[tuple(grid)].add(new)
