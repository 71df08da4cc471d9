"""Norms of vectors, and how far or how alike two vectors are."""

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


@partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def norm(x: jax.Array, p: float, axis: int, shared: bool = True) -> jax.Array:
    """(Σ |x|^p)^(1/p) along an axis, with PyTorch's slopes: 0 where the norm is 0.

    Args:
        x: floating-point numbers.
        p: any number; of 0 it is how many are not 0, of ±∞ the largest or smallest magnitude.
        axis: stays, with size 1.
        shared: whether of several largest magnitudes each has a part of the slope; if not, all of
            it, as in PyTorch's distances between rows.
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
    """The derivatives of a norm y by each number of x."""
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
        p: of the norm.
        dim: the axis along which vectors are; the channels, PyTorch's 1, are -1.
        eps: the least that is divided by.

    Returns:
        An array of the shape and dtype of the input.

    Raises:
        InputError: if the input is not floating, or ``dim`` may mean another axis in PyTorch.

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
    """The cosine of the angle between vectors: ``torch.nn.functional.cosine_similarity``.

    cos = x₁ · x₂ / (max(‖x₁‖, eps) max(‖x₂‖, eps))

    Args:
        x1: floating-point numbers.
        x2: of a shape that broadcasts with that of x1.
        dim: the axis along which vectors are; the channels, PyTorch's 1, are -1.
        eps: the least that is divided by. The gradient is that of the norm itself, as PyTorch's.

    Returns:
        The shape of both, without the axis.

    Raises:
        InputError: if an array is not floating, the shapes do not fit, or ``dim`` may mean another
            axis in PyTorch.

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
    raised = eps + (length - jax.lax.stop_gradient(length))
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
    """The distance of vectors: ``torch.nn.functional.pairwise_distance``.

    d = ‖x₁ - x₂ + eps‖ₚ

    Args:
        x1: vectors along the last axis.
        x2: of a shape that broadcasts with that of x1.
        p: of the norm.
        eps: added to each difference.
        keepdim: whether the last axis stays, with size 1.

    Returns:
        The shape of both, without the last axis.

    Raises:
        InputError: if an array is not floating, or the shapes do not fit.

    Examples:
        >>> pairwise_distance(jnp.array([[3.0, 4.0]]), jnp.zeros(2), eps=0).tolist()
        [5.0]
    """
    first, second = _broadcast(x1, x2)
    p, eps = check_number("p", p, finite=False), check_number("eps", eps)
    distances = norm(first - second + eps, p, -1)
    return distances if check_bool("keepdim", keepdim) else distances[..., 0]


def pdist(input: ArrayLike, p: float = 2.0) -> jax.Array:
    """The distances of all pairs of rows: ``torch.nn.functional.pdist``.

    Args:
        input: rows, [N, M].
        p: of the norm of their differences, not negative.

    Returns:
        [N (N - 1) / 2]: of the first row to the second, to the third, ..., of the second to the
        third, and so on.

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
    """The distance of each row of one matrix to each of another: ``torch.cdist``.

    Args:
        x1: [..., P, M].
        x2: [..., R, M].
        p: of the norm of the rows' differences, not negative.
        compute_mode: PyTorch's, which says when distances are had from a product of matrices. Here
            they always are the norms of differences, which are more exact.

    Returns:
        [..., P, R].

    Raises:
        InputError: if the shapes do not fit, an array is not floating, or p is negative.

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
        dim: the axis along which vectors are; the channels, PyTorch's 1, are -1.
        eps: the least that is divided by.
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
        p: of the norm.
        eps: added to each difference.
        keepdim: whether the last axis stays, with size 1.
    """

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        self.p = check_number("p", p, finite=False)
        self.eps = check_number("eps", eps)
        self.keepdim = check_bool("keepdim", keepdim)

    def __call__(self, x1: ArrayLike, x2: ArrayLike) -> jax.Array:
        """Returns the distance of each vector of x1 to that of x2."""
        return pairwise_distance(x1, x2, self.p, self.eps, self.keepdim)
