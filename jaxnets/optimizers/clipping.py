"""Gradient clipping, for use before an optimizer in ``optax.chain``."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxnets.arrays import check_number
from jaxnets.optimizers.scalars import scalar


def clip_grad_norm(max_norm: float, norm_type: float = 2.0) -> optax.GradientTransformation:
    """``torch.nn.utils.clip_grad_norm_``: g ← g min(1, max_norm / (‖g‖ + 10⁻⁶)).

    The norm is that of all gradients as one vector; within a parameter group, that of the gradients
    of the group.

    Args:
        max_norm: the largest norm; ``math.inf`` for no limit.
        norm_type: the order of the norm, > 0; ``math.inf`` for the largest absolute value.

    Returns:
        A gradient transformation.

    Raises:
        InputError: if max_norm is not a number >= 0, or norm_type is not a number > 0.

    Examples:
        >>> import optax
        >>> from jaxnets import optimizers
        >>> optimizer = optax.chain(optimizers.clip_grad_norm(1.0), optimizers.sgd(0.1))
    """
    max_norm = check_number("max_norm", max_norm, least=0, finite=False)
    norm_type = check_number("norm_type", norm_type, above=0, finite=False)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        leaves = jax.tree.leaves(updates)
        if not leaves:
            return updates, state
        norms = jnp.stack([scalar(_norm(leaf, norm_type)) for leaf in leaves])
        factor = jnp.minimum(max_norm / (_norm(norms, norm_type) + 1e-6), 1)

        def clip(g: jax.Array) -> jax.Array:
            wide = _widened(g)
            return (wide * factor.astype(wide.dtype)).astype(g.dtype)

        return jax.tree.map(clip, updates), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def clip_grad_value(clip_value: float) -> optax.GradientTransformation:
    """``torch.nn.utils.clip_grad_value_``: limits each element to [-clip_value, clip_value].

    Args:
        clip_value: the largest absolute value.

    Returns:
        A gradient transformation.

    Raises:
        InputError: if clip_value is not a number >= 0.
    """
    clip_value = check_number("clip_value", clip_value, least=0, finite=False)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(lambda g: jnp.clip(g, -clip_value, clip_value), updates), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def _widened(array: jax.Array) -> jax.Array:
    return array.astype(jnp.float32) if jnp.finfo(array.dtype).bits < 32 else array


def _norm(array: jax.Array, order: float) -> jax.Array:
    array = _widened(array)
    if order == 2:
        return jnp.sqrt(jnp.sum(array * array))
    if math.isinf(order):
        return jnp.max(jnp.abs(array), initial=0)
    return jnp.sum(jnp.abs(array) ** order) ** (1 / order)
