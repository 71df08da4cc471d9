"""Triplet losses: an anchor should be closer to a positive example than to a negative one."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnets import tensors
from jaxnets.arrays import ArrayLike, called, check_bool, check_function, check_number
from jaxnets.losses import arguments
from jaxnets.losses.margins import at_least_zero
from jaxnets.losses.reduction import Reduction, reduce

#: A function from two arrays of vectors to their distances [N].
Distance = Callable[[jax.Array, jax.Array], jax.Array]


def triplet_margin_loss(
    anchor: ArrayLike,
    positive: ArrayLike,
    negative: ArrayLike,
    *,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: Reduction = "mean",
) -> jax.Array:
    """Computes the triplet margin loss max(0, margin + d(a, p) - d(a, n)).

    The distance is d(x, y) = ‖x - y + eps‖ₚ.

    Args:
        anchor: the anchors a, [N, D] or [D].
        positive: the positive examples p, in the anchor's shape.
        negative: the negative examples n, in the anchor's shape.
        margin: the difference of the distances from which on the loss is 0, > 0.
        p: the order of the norm, > 0; infinity for the largest difference.
        eps: added to each difference.
        swap: whether to use the smaller of d(p, n) and d(a, n) instead of d(a, n).
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, [N].

    Returns:
        The loss in the anchor's dtype.

    Raises:
        InputError: if the shapes differ, or a number is out of range.

    PyTorch: ``torch.nn.functional.triplet_margin_loss``.

    Examples:
        >>> anchor, near, far = jnp.zeros((1, 2)), jnp.array([[0, 1.0]]), jnp.array([[1.5, 0]])
        >>> print(triplet_margin_loss(anchor, near, far).round(4))
        0.5
    """
    anchor = arguments.vectors("anchor", anchor)
    p = check_number("p", p, above=0, finite=False)
    eps = check_number("eps", eps)

    def distance(x: jax.Array, y: jax.Array) -> jax.Array:
        return _norm(x - y + eps, p)

    return _reduced(distance, anchor, positive, negative, margin, swap, reduction)


def triplet_margin_with_distance_loss(
    anchor: ArrayLike,
    positive: ArrayLike,
    negative: ArrayLike,
    *,
    distance_function: Distance | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: Reduction = "mean",
) -> jax.Array:
    """Computes the triplet margin loss max(0, margin + d(a, p) - d(a, n)) for any distance d.

    Args:
        anchor: the anchors a, of any shape that the distance function accepts.
        positive: the positive examples p, in the anchor's shape.
        negative: the negative examples n, in the anchor's shape.
        distance_function: d, a function from two arrays to one distance for each example; None for
            the distance of ``triplet_margin_loss``.
        margin: the difference of the distances from which on the loss is 0, > 0.
        swap: whether to use the smaller of d(p, n) and d(a, n) instead of d(a, n).
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, the shape of the distances.

    Returns:
        The loss in the distances' dtype.

    Raises:
        InputError: if the shapes differ, or the margin is not positive.

    PyTorch: ``torch.nn.functional.triplet_margin_with_distance_loss``.
    """
    if distance_function is None:
        return triplet_margin_loss(
            anchor, positive, negative, margin=margin, swap=swap, reduction=reduction
        )
    expected = "a function of two arrays that returns distances"
    function = check_function("distance_function", distance_function, expected)

    def distance(x: jax.Array, y: jax.Array) -> jax.Array:
        made = called("distance_function", expected, function, x, y)
        return arguments.floating("distance_function", made)

    anchor = arguments.floating("anchor", anchor)
    return _reduced(distance, anchor, positive, negative, margin, swap, reduction)


def _reduced(
    distance: Distance,
    anchor: jax.Array,
    positive: ArrayLike,
    negative: ArrayLike,
    margin: float,
    swap: bool,
    reduction: str,
) -> jax.Array:
    positive = arguments.same_shape("positive", positive, "the anchor", anchor)
    negative = arguments.same_shape("negative", negative, "the anchor", anchor)
    margin = check_number("margin", margin, above=0)
    near, far = distance(anchor, positive), distance(anchor, negative)
    if check_bool("swap", swap):
        far = jnp.minimum(far, distance(positive, negative))
    return reduce(at_least_zero(margin + near - far), reduction)


def _norm(x: jax.Array, p: float) -> jax.Array:
    """Computes the p-norm over the last axis, with slope 0 at 0, as in PyTorch."""
    sizes = x * jax.lax.stop_gradient(jnp.sign(x))
    if p == 1:
        return jnp.sum(sizes, axis=-1)
    if p == jnp.inf:
        return tensors.amax(sizes, -1)
    return _power(jnp.sum(_power(sizes, p), axis=-1), 1 / p)


def _power(values: jax.Array, exponent: float) -> jax.Array:
    """Raises values to a power, with slope 0 at 0."""
    zero = values == 0
    return jnp.where(zero, 0, jnp.where(zero, 1, values) ** exponent)
