"""Losses of three: an anchor should be nearer to what is like it than to what is not."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnets.arrays import ArrayLike, called, check_bool, check_function, check_number
from jaxnets.losses import arguments
from jaxnets.losses.margins import at_least_zero
from jaxnets.losses.reduction import Reduction, reduce

#: The distances [N] of vectors from vectors.
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
    """Triplet margin loss: max(0, margin + d(a, p) - d(a, n)), d(x, y) = ‖x - y + eps‖ₚ.

    Args:
        anchor: a, [N, D] or [D].
        positive: what is like the anchor, in its shape.
        negative: what is not, in its shape.
        margin: by how much the negative should be farther away, more than 0.
        p: the norm's exponent, more than 0; infinity for the largest difference.
        eps: added to each difference.
        swap: whether d(p, n) counts where it is less than d(a, n).
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, [N].

    Returns:
        The loss in the anchor's dtype.

    Raises:
        InputError: for shapes that differ, and for a number out of its range.

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
    """Triplet margin loss of any distance: max(0, margin + d(a, p) - d(a, n)).

    Args:
        anchor: a, of any shape that the distance takes.
        positive: what is like the anchor, in its shape.
        negative: what is not, in its shape.
        distance_function: d, from two arrays to one distance for each example; that of
            ``triplet_margin_loss`` by default.
        margin: by how much the negative should be farther away, more than 0.
        swap: whether d(p, n) counts where it is less than d(a, n).
        reduction: ``"mean"``, ``"sum"`` or ``"none"``, the shape of the distances.

    Returns:
        The loss in the distances' dtype.

    Raises:
        InputError: for shapes that differ, and for a margin that is not positive.

    PyTorch: ``torch.nn.functional.triplet_margin_with_distance_loss``.
    """
    if distance_function is None:
        return triplet_margin_loss(
            anchor, positive, negative, margin=margin, swap=swap, reduction=reduction
        )
    expected = "a function of two arrays that makes distances"
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
    """The p-norm over the last axis, whose slope at 0 is 0 as in PyTorch."""
    sizes = x * jax.lax.stop_gradient(jnp.sign(x))
    if p == 1:
        return jnp.sum(sizes, axis=-1)
    if p == jnp.inf:
        return jnp.max(sizes, axis=-1)
    return _power(jnp.sum(_power(sizes, p), axis=-1), 1 / p)


def _power(values: jax.Array, exponent: float) -> jax.Array:
    """Values to a power, with slope 0 at 0."""
    zero = values == 0
    return jnp.where(zero, 0, jnp.where(zero, 1, values) ** exponent)
