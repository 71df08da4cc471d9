"""Norms, distances and cosine similarity of vectors."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    check_bool,
    check_choice,
    check_floats,
    check_integer,
    check_number,
    describe,
)
from jaxnets.layers.activation_functions import check_axis


# The derivative is custom because the automatic one is NaN at a norm of 0, and differs from
# PyTorch's for several equal magnitudes.
@partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def norm(x: jax.Array, p: float, axis: int, shared: bool = True) -> jax.Array:
    """Computes the norm (Σ |x|^p)^(1/p) along an axis, with PyTorch's slopes: 0 where it is 0.

    Args:
        x: floating-point numbers.
        p: any number; 0 counts the elements that are not 0, and ∞ and -∞ take the largest and the
            smallest magnitude.
        axis: the axis, which is kept with size 1.
        shared: whether several equal largest magnitudes share the gradient; otherwise each receives
            the whole gradient, as in PyTorch's distances between rows.
    """
    size = jnp.abs(x)
    if p == 0:
        return (x != 0).sum(axis, keepdims=True, dtype=x.dtype)
    if math.isinf(p):
        return (size.max if p > 0 else size.min)(axis, keepdims=True)
    if p == 1:
        return size.sum(axis, keepdims=True)
    if p == 2:
        return jnp.sqrt(jnp.square(x).sum(axis, keepdims=True))
    return (size**p).sum(axis, keepdims=True) ** (1 / p)


@norm.defjvp
def _norm_slopes(
    p: float, axis: int, shared: bool, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    y = norm(x, p, axis, shared)
    return y, (_slopes(x, y, p, axis, shared) * dx).sum(axis, keepdims=True)


def _slopes(x: jax.Array, y: jax.Array, p: float, axis: int, shared: bool) -> jax.Array:
    """Computes the derivatives of a norm y with respect to the elements of x."""
    size, zero = jnp.abs(x), y == 0
    sign = jnp.sign(x)
    if shared:
        sign = jnp.where(jnp.isnan(x), 0, sign)
    if p == 0:
        return jnp.zeros_like(x)
    if p == 1:
        return sign
    if math.isinf(p):
        largest = (size == y) | jnp.isnan(x)
        count = largest.sum(axis, keepdims=True, dtype=x.dtype) if shared else 1
        return jnp.where(largest, sign / count, 0)
    divisor = jnp.where(zero, 1, y)
    if p == 2:
        return jnp.where(zero, 0, x / divisor)
    if p < 1:
        return jnp.where(x == 0, 0, sign * jnp.where(x == 0, 1, size) ** (p - 1)) * y ** (1 - p)
    return jnp.where(zero, 0, sign * size ** (p - 1) / divisor ** (p - 1))


def normalize(input: ArrayLike, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> jax.Array:
    """Divides vectors by their norm: ``torch.nn.functional.normalize``.

    y = x / max(‖x‖ₚ, eps)

    Args:
        input: floating-point numbers.
        p: the order of the norm.
        dim: the axis of the vectors; the channels, axis 1 in PyTorch, are axis -1 here.
        eps: the smallest divisor.

    Returns:
        An array of the shape and dtype of the input.

    Raises:
        InputError: if the input is not floating, or ``dim`` is ambiguous; see ``Softmax``.

    Examples:
        >>> print(normalize(jnp.array([[3.0, 4.0]])))
        [[0.6 0.8]]
    """
    check_floats("input", input, ("...",))
    p = check_number("p", p, finite=False)
    x = jnp.asarray(input)
    check_axis(check_integer("dim", dim), x)
    eps = check_number("eps", eps)
    length = norm(x, p, dim)
    return x / jnp.where(length < eps, eps, length)


def cosine_similarity(x1: ArrayLike, x2: ArrayLike, dim: int = 1, eps: float = 1e-8) -> jax.Array:
    """Computes the cosine of the angle of vectors: ``torch.nn.functional.cosine_similarity``.

    cos = x₁ · x₂ / (max(‖x₁‖, eps) max(‖x₂‖, eps))

    Args:
        x1: floating-point numbers.
        x2: an array that broadcasts with x1.
        dim: the axis of the vectors; the channels, axis 1 in PyTorch, are axis -1 here.
        eps: the smallest divisor. As in PyTorch, the gradient is that of the norm even where the
            norm is below ``eps``.

    Returns:
        An array of the broadcast shape, without the axis.

    Raises:
        InputError: if an array is not floating, the shapes do not broadcast, or ``dim`` is
            ambiguous; see ``Softmax``.

    Examples:
        >>> print(cosine_similarity(jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 1.0]])))
        [0.70710677]
    """
    first, second = _broadcast(x1, x2)
    check_axis(check_integer("dim", dim), first)
    eps = check_number("eps", eps)
    return (_unit(first, dim, eps) * _unit(second, dim, eps)).sum(dim)


def _unit(x: jax.Array, axis: int, eps: float) -> jax.Array:
    length = norm(x, 2.0, axis)
    raised = eps + (length - jax.lax.stop_gradient(length))  # the value eps, the norm's gradient
    return x / jnp.where(length < eps, raised, length)


def _broadcast(x1: ArrayLike, x2: ArrayLike) -> tuple[jax.Array, jax.Array]:
    check_floats("x1", x1, ("...", "D"))
    check_floats("x2", x2, ("...", "D"))
    try:
        shape = jnp.broadcast_shapes(x1.shape, x2.shape)
    except ValueError:
        expected = f"a shape that broadcasts with {describe(x1)}"
        raise InputError("x2", expected, describe(x2)) from None
    return jnp.broadcast_to(x1, shape), jnp.broadcast_to(x2, shape)


def pairwise_distance(
    x1: ArrayLike, x2: ArrayLike, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> jax.Array:
    """Computes the distance of vectors: ``torch.nn.functional.pairwise_distance``.

    d = ‖x₁ - x₂ + eps‖ₚ

    Args:
        x1: vectors along the last axis.
        x2: an array that broadcasts with x1.
        p: the order of the norm.
        eps: added to each difference.
        keepdim: whether to keep the last axis with size 1.

    Returns:
        An array of the broadcast shape, without the last axis.

    Raises:
        InputError: if an array is not floating, or the shapes do not broadcast.

    Examples:
        >>> pairwise_distance(jnp.array([[3.0, 4.0]]), jnp.zeros(2), eps=0).tolist()
        [5.0]
    """
    first, second = _broadcast(x1, x2)
    p, eps = check_number("p", p, finite=False), check_number("eps", eps)
    distances = norm(first - second + eps, p, -1)
    return distances if check_bool("keepdim", keepdim) else distances[..., 0]


def pdist(input: ArrayLike, p: float = 2.0) -> jax.Array:
    """Computes the distances of all pairs of rows: ``torch.nn.functional.pdist``.

    Args:
        input: rows, [N, M].
        p: the order of the norm of the differences, not negative.

    Returns:
        [N (N - 1) / 2]: the distances of the first row to the second, to the third, ..., of the
        second to the third, and so on.

    Raises:
        InputError: if the input is not floating or has another rank, or p is negative.

    Examples:
        >>> pdist(jnp.array([[0.0], [1.0], [3.0]])).tolist()
        [1.0, 3.0, 2.0]
    """
    check_floats("input", input, ("N", "M"))
    p = check_number("p", p, least=0, finite=False)
    x = jnp.asarray(input)
    first, second = np.triu_indices(len(x), 1)
    return norm(x[first] - x[second], p, 1, False)[:, 0]


_MODES = tuple(
    f"{word}_mm_for_euclid_dist{end}"
    for word, end in (("use", "_if_necessary"), ("use", ""), ("donot_use", ""))
)


def cdist(x1: ArrayLike, x2: ArrayLike, p: float = 2.0, compute_mode: str = _MODES[0]) -> jax.Array:
    """Computes the distance of each row of x1 to each row of x2: ``torch.cdist``.

    Args:
        x1: [..., P, M].
        x2: [..., R, M].
        p: the order of the norm of the differences, not negative.
        compute_mode: accepted for compatibility with PyTorch, where it selects a faster, less
            accurate method; has no effect. Distances are always norms of differences.

    Returns:
        [..., P, R].

    Raises:
        InputError: if the shapes do not match, an array is not floating, or p is negative.

    Examples:
        >>> cdist(jnp.array([[0.0], [1.0]]), jnp.array([[3.0]])).tolist()
        [[3.0], [2.0]]
    """
    check_floats("x1", x1, ("...", "P", "M"))
    check_floats("x2", x2, ("...", "R", x1.shape[-1]))
    p = check_number("p", p, least=0, finite=False)
    check_choice("compute_mode", compute_mode, _MODES)
    first, second = _broadcast(jnp.expand_dims(x1, -2), jnp.expand_dims(x2, -3))
    return norm(first - second, p, -1, False)[..., 0]


class CosineSimilarity(nnx.Module):
    """``torch.nn.CosineSimilarity``: ``cosine_similarity`` as a layer.

    Args:
        dim: the axis of the vectors; the channels, axis 1 in PyTorch, are axis -1 here.
        eps: the smallest divisor.
    """

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        self.dim = check_integer("dim", dim)
        self.eps = check_number("eps", eps)

    def __call__(self, x1: ArrayLike, x2: ArrayLike) -> jax.Array:
        """Returns the cosine of the angle between the vectors of x1 and those of x2."""
        return cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(nnx.Module):
    """``torch.nn.PairwiseDistance``: ``pairwise_distance`` as a layer.

    Args:
        p: the order of the norm.
        eps: added to each difference.
        keepdim: whether to keep the last axis with size 1.
    """

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        self.p = check_number("p", p, finite=False)
        self.eps = check_number("eps", eps)
        self.keepdim = check_bool("keepdim", keepdim)

    def __call__(self, x1: ArrayLike, x2: ArrayLike) -> jax.Array:
        """Returns the distance between corresponding vectors of x1 and x2."""
        return pairwise_distance(x1, x2, self.p, self.eps, self.keepdim)
