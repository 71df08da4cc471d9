"""Of which part of a batch a layer sees: for statistics over the batch, on several devices."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax


class Shard(NamedTuple):
    """This device's part of a batch, while a training step is traced.

    Attributes:
        axis: the name of the axis over which the devices share the batch.
        valid: bool [part], which examples count; the others fill the part up.
    """

    axis: str
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
    token = _CURRENT.set(Shard(axis, valid))
    try:
        yield valid.sum() / size
    finally:
        _CURRENT.reset(token)
