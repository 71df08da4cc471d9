"""Cross-entropy of logits and classes by a native kernel, forward and backward."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxnets.kernels import native
from jaxnets.kernels.geometry import Shaped
from jaxnets.kernels.gradients import with_gradient

Losses = Callable[[jax.Array, jax.Array], jax.Array]


def supports(logits: Shaped, labels: Shaped) -> bool:
    """Whether the kernels of ``cross_entropy`` can run this, and are faster than XLA's operations.

    Args:
        logits: [N, ..., C].
        labels: integers [N, ...].
    """
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        return False
    shape = tuple(logits.shape)
    # Labels are passed as floats of the logits' dtype, which represents the integers up to this.
    most = 2 ** (jnp.finfo(logits.dtype).nmant + 1)
    fits = len(shape) > 1 and math.prod(shape) > 0 and shape[-1] <= most
    same = tuple(labels.shape) == shape[:-1] and jnp.issubdtype(labels.dtype, jnp.integer)
    return fits and same and native.ready("cross_entropy", logits)


def cross_entropy(plain: Losses) -> Losses:
    """Makes the cross-entropy of logits and a class for each example that kernels compute.

    Args:
        plain: the same function in XLA's operations.

    Returns:
        A function of logits [N, ..., C] and integer labels [N, ...] that returns
        ``log(sum(exp(logits))) - logits[label]`` for each example, [N, ...]. For a label that is
        not a class, it returns ``log(sum(exp(logits))) - max(logits)``.
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

    # Labels are passed as floats, because kernels take all arrays in one dtype. Their gradient is
    # zero.
    function = with_gradient(run, keep, pull_back, plainly)

    def losses(logits: jax.Array, labels: jax.Array) -> jax.Array:
        # The kernel does not read the logit of a negative label.
        is_class = (labels >= 0) & (labels < logits.shape[-1])
        return function(logits, jnp.where(is_class, labels, -1).astype(logits.dtype))

    return losses
