"""A line search for the strong Wolfe conditions, with the same trials as PyTorch's."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

_ARMIJO, _CURVATURE = 1e-4, 0.9


class Point(NamedTuple):
    """A point on the line of the search.

    Attributes:
        t: the step length along the direction.
        loss: the loss at the point.
        gradient: the gradient at the point, as one vector.
        slope: the derivative of the loss with respect to t.
    """

    t: jax.Array
    loss: jax.Array
    gradient: jax.Array
    slope: jax.Array


class _Search(NamedTuple):
    """The state of the search between two trials.

    In the first phase each trial is farther than the one before, until two trials enclose a point
    that satisfies the conditions. In the second phase the interval between ``low``, the end with
    the smaller loss, and ``high`` is divided.
    """

    t: jax.Array  # the step length of the next trial
    trials: jax.Array  # the number of trials so far
    previous: Point  # the last trial of the first phase
    low: Point
    high: Point
    low_is_first: jax.Array  # PyTorch keeps a list of both ends, and takes the first of equal ones
    insufficient: jax.Array  # whether the last trial was close to an end of the interval
    enclosed: jax.Array  # whether the second phase has started
    done: jax.Array


def strong_wolfe(
    at: Callable[[jax.Array], Point],
    start: Point,
    t: jax.Array,
    *,
    size: jax.Array,
    most: jax.Array,
    tolerance_change: float,
) -> tuple[Point, jax.Array]:
    """Finds a point that satisfies the strong Wolfe conditions, or the best end of an interval.

    Args:
        at: a function that evaluates the point at a step length.
        start: the point at step length 0.
        t: the step length of the first trial.
        size: the largest absolute value of the direction.
        most: the largest number of trials after the first.
        tolerance_change: the search ends if the ends of the interval are closer than this.

    Returns:
        The point, and the number of trials.
    """
    no = jnp.zeros((), bool)
    search = _Search(t, jnp.int32(0), start, start, start, ~no, no, no, no)

    def body(search: _Search) -> _Search:
        new = at(search.t)
        left = search.trials < most
        after = _choose(
            search.enclosed,
            _narrowed(search, new, start),
            _extended(search, new, start, left),
        )
        ends = jnp.abs(after.high.t - after.low.t)
        tried_enough = ~left | (ends * size < tolerance_change)
        after = _choose(after.enclosed, _divided(after), after)
        done = after.done | (after.enclosed & tried_enough)
        return after._replace(trials=search.trials + 1, done=done)

    search = lax.while_loop(lambda search: ~search.done, body, search)
    return search.low, search.trials


def _extended(search: _Search, new: Point, start: Point, left: jax.Array) -> _Search:
    """Updates the state after a trial of the first phase."""
    previous = search.previous
    rises = _is_high(new, start) | ((search.trials > 1) & (new.loss >= previous.loss))
    found = left & ~rises & _is_flat(new, start)
    other = _choose(found, new, _choose(left, previous, start))
    first = other.loss <= new.loss
    farther = _minimum(previous, new, new.t + 0.01 * (new.t - previous.t), new.t * 10)
    return search._replace(
        t=farther,
        previous=new,
        low=_choose(first, other, new),
        high=_choose(first, new, other),
        low_is_first=first,
        enclosed=~left | rises | found | (new.slope >= 0),
        done=~left | found,
    )


def _narrowed(search: _Search, new: Point, start: Point) -> _Search:
    """Updates the state after a trial within the interval."""
    low, high = search.low, search.high
    worse = _is_high(new, start) | (new.loss >= low.loss)
    found = ~worse & _is_flat(new, start)
    turned = ~found & (new.slope * (high.t - low.t) >= 0)
    low, high = (
        _choose(worse, low, new),
        _choose(worse, new, _choose(turned, low, high)),
    )
    first = jnp.where(search.low_is_first, low.loss <= high.loss, high.loss <= low.loss)
    swapped = worse & (first != search.low_is_first)
    return search._replace(
        low=_choose(swapped, high, low),
        high=_choose(swapped, low, high),
        low_is_first=jnp.where(worse, first, search.low_is_first),
        done=found,
    )


def _divided(search: _Search) -> _Search:
    """Chooses the next trial within the interval.

    If two trials in a row would be close to an end of the interval, the second is moved away.
    """
    low, high = search.low, search.high
    least, most = jnp.minimum(low.t, high.t), jnp.maximum(low.t, high.t)
    t, margin = _minimum(low, high, least, most), 0.1 * (most - least)
    close = jnp.minimum(most - t, t - least) < margin
    moved = close & (search.insufficient | (t >= most) | (t <= least))
    inside = jnp.where(jnp.abs(t - most) < jnp.abs(t - least), most - margin, least + margin)
    return search._replace(t=jnp.where(moved, inside, t), insufficient=close & ~moved)


def _is_high(new: Point, start: Point) -> jax.Array:
    return new.loss > start.loss + _ARMIJO * new.t * start.slope


def _is_flat(new: Point, start: Point) -> jax.Array:
    return jnp.abs(new.slope) <= -_CURVATURE * start.slope


def _minimum(one: Point, other: Point, least: jax.Array, most: jax.Array) -> jax.Array:
    """Computes the minimum of the cubic through two points, or the middle if there is none.

    The result is limited to [least, most].
    """
    ordered = one.t <= other.t
    near, far = _choose(ordered, one, other), _choose(ordered, other, one)
    d1 = near.slope + far.slope - 3 * (near.loss - far.loss) / (near.t - far.t)
    square = d1 * d1 - near.slope * far.slope
    d2 = jnp.sqrt(jnp.maximum(square, 0))
    share = (far.slope + d2 - d1) / (far.slope - near.slope + 2 * d2)
    t = far.t - (far.t - near.t) * share
    return jnp.where(square >= 0, jnp.minimum(jnp.maximum(t, least), most), (least + most) / 2)


def _choose(condition: jax.Array, one: Any, other: Any) -> Any:
    return jax.tree.map(partial(jnp.where, condition), one, other)
