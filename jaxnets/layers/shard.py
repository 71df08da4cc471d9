"""Which part of a batch a layer sees, for statistics over the batch; what differs by device."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Shard(NamedTuple):
    """A part of a batch, while a training step is traced.

    Attributes:
        axis: the name of the axis over which devices share the batch; None for one device.
        valid: bool [part], which examples count; the others fill the part up.
    """

    axis: str | None
    valid: jax.Array


_CURRENT: ContextVar[Shard | None] = ContextVar("shard", default=None)


def current() -> Shard | None:
    """The part that is being traced; None where the batch is whole."""
    return _CURRENT.get()


@contextlib.contextmanager
def of_batch(axis: str, shards: int, part: int, size: int) -> Iterator[jax.Array | None]:
    """Says for what is traced inside that it sees a part of a batch.

    Args:
        axis: the name of the devices' axis.
        shards: the number of devices; of one nothing is said.
        part: examples on each device.
        size: examples of the batch that count, the first ones over all devices.

    Yields:
        The share of the batch's examples that this device has; None for one device.
    """
    if shards == 1:
        yield None
        return
    valid = lax.axis_index(axis) * part + jnp.arange(part) < size
    with _seen(Shard(axis, valid)):
        yield valid.sum() / size


@contextlib.contextmanager
def part_of_batch(number: jax.Array, part: int, size: int) -> Iterator[None]:
    """Says for what is traced inside that it sees one part of several of what one device has.

    Args:
        number: of the part.
        part: examples in it.
        size: examples in all parts together, the first ones; the last part is filled up.
    """
    outer = current()
    places = number * part + jnp.arange(part)
    valid = places < size
    if outer is not None:
        valid &= outer.valid[jnp.minimum(places, size - 1)]
    with _seen(Shard(None if outer is None else outer.axis, valid)):
        yield


@contextlib.contextmanager
def _seen(part: Shard) -> Iterator[None]:
    token = _CURRENT.set(part)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def vary_like(x: jax.Array, arrays: Any) -> Any:
    """Under ``jax.shard_map``, makes replicated arrays differ by device as x does; else nothing.

    A scan demands it of its carry, where zeros are replicated, and a hand-written gradient of its
    arrays. The gradient of this sum is what adds up a replicated kernel's gradient over devices.
    """
    zero = jnp.zeros_like(x, shape=())
    return jax.tree.map(lambda array: array + zero.astype(array.dtype), arrays)
