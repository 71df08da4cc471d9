"""Cross entropy of logits and classes as a call of a native kernel, forward and backward."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnets.kernels import native
from jaxnets.kernels.geometry import Shaped
from jaxnets.kernels.gradients import with_gradient

# Every label up to this is a floating-point number.
_MOST_CLASSES = 2**24

Losses = Callable[[jax.Array, jax.Array], jax.Array]


def serves(logits: Shaped, labels: Shaped) -> bool:
    """Whether the kernels of ``cross_entropy`` can run this, and are faster than XLA's operations.

    Args:
        logits: [N, ..., C].
        labels: integers [N, ...].
    """
    shape = tuple(logits.shape)
    fits = len(shape) > 1 and math.prod(shape) > 0 and shape[-1] <= _MOST_CLASSES
    same = tuple(labels.shape) == shape[:-1] and jnp.issubdtype(labels.dtype, jnp.integer)
    return fits and same and native.ready("cross_entropy", logits)


def cross_entropy(plain: Losses) -> Losses:
    """The cross entropy of logits and a class for each example, by kernels.

    Args:
        plain: the same function in XLA's operations.

    Returns:
        A function of logits [N, ..., C] and labels [N, ...], integers, which gives
        ``log(sum(exp(logits))) - logits[label]`` of each example, [N, ...]. Of a label that is no
        class it is the first of the two terms, less the largest logit.
    """

    def call(way: str, results: list[jax.ShapeDtypeStruct], *arrays: jax.Array) -> list[jax.Array]:
        return native.call("cross_entropy", f"cross_entropy_{way}", results, *arrays)

    def like(array: jax.Array) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(array.shape, array.dtype)

    def run(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return call("forward", [like(labels)], logits, labels)[0]

    def keep(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        losses, *kept = call("forward", [like(labels)] * 3, logits, labels)
        return losses, kept

    def pull_back(inputs: tuple, kept: list[jax.Array], d: jax.Array) -> tuple:
        logits, labels = inputs
        (d_logits,) = call("backward", [like(logits)], logits, labels, *kept, d)
        return d_logits, jnp.zeros_like(labels)

    def plainly(logits: jax.Array, labels: jax.Array) -> jax.Array:
        return plain(logits, labels.astype(jnp.int32))

    # Labels are floating-point numbers here, of which JAX takes a gradient as of any.
    function = with_gradient(run, keep, pull_back, plainly)

    def losses(logits: jax.Array, labels: jax.Array) -> jax.Array:
        is_class = (labels >= 0) & (labels < logits.shape[-1])
        return function(logits, jnp.where(is_class, labels, -1).astype(logits.dtype))

    return losses
