"""``scaled_dot_product_attention``, with a separate axis for the heads."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    check_bool,
    check_floats,
    check_number,
    check_usable,
    describe,
)
from jaxnets.layers.attention import attend
from jaxnets.layers.parameters import check_draws, drawn_key


def scaled_dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    attn_mask: ArrayLike | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    rngs: nnx.Rngs | nnx.RngStream | jax.Array | None = None,
) -> jax.Array:
    """``torch.nn.functional.scaled_dot_product_attention``: softmax(Q Kᵀ · scale + mask) V.

    As in PyTorch, the output for a query that is masked from all keys is zero.

    Args:
        query: [N, ..., H, L, E].
        key: [N, ..., H, S, E].
        value: [N, ..., H, S, V].
        attn_mask: an array that broadcasts to [N, ..., H, L, S]. A boolean mask is True where
            attention is allowed, unlike in ``MultiheadAttention``; a floating-point mask is added
            to the scaled products.
        dropout_p: the probability that an attention weight is dropped.
        is_causal: whether query i attends only to keys up to i; not together with ``attn_mask``.
        scale: the factor of the products; None for 1/√E.
        enable_gqa: whether key and value may have fewer heads than query (grouped-query attention):
            each of their heads is then used for several consecutive heads of the query.
        rngs: a random key or random streams; required if ``dropout_p`` is neither 0 nor 1.

    Returns:
        [N, ..., H, L, V].

    Raises:
        InputError: if an argument is invalid, or the shapes do not match.

    Examples:
        >>> q, k, v = jnp.ones((2, 4, 5, 8)), jnp.ones((2, 4, 7, 8)), jnp.ones((2, 4, 7, 3))
        >>> scaled_dot_product_attention(q, k, v).shape
        (2, 4, 5, 3)
    """
    check_floats("query", query, ("...", "L", "E"))
    if query.shape[-1] == 0:
        raise InputError("query", "vectors of at least one element", describe(query))
    check_floats("key", key, ("...", "S", query.shape[-1]))
    check_floats("value", value, ("...", key.shape[-2], "V"))
    check_bool("is_causal", is_causal)
    rate = check_number("dropout_p", dropout_p, least=0, most=1)
    if rngs is not None:
        check_draws(rngs)
    q, k, v = jnp.asarray(query), jnp.asarray(key), jnp.asarray(value)
    if check_bool("enable_gqa", enable_gqa):
        k, v = _for_each_head("key", k, q), _for_each_head("value", v, q)
    if scale is not None:
        q = q * (check_number("scale", scale) * math.sqrt(q.shape[-1]))
    if rate == 1:
        rate, v = 0.0, v * 0
    leading = _leading_axes(q, k, v)
    masks: tuple[jax.Array, ...] = ()
    if attn_mask is not None:
        if is_causal:
            raise InputError("is_causal", "False together with attn_mask", is_causal)
        masks = (_added(attn_mask, (*leading, q.shape[-2], k.shape[-2]), q.dtype),)
    outputs = attend(
        tuple(_heads_side_by_side(x, leading) for x in (q, k, v)),
        masks,
        drawn_key(rngs) if rate else None,
        heads=math.prod(leading[-1:]),
        causal=bool(is_causal),
        rate=rate,
    )
    cut = outputs.reshape(len(outputs), q.shape[-2], math.prod(leading[-1:]), v.shape[-1])
    return jnp.swapaxes(cut, 1, 2).reshape(*leading, q.shape[-2], v.shape[-1])


def _for_each_head(argument: str, x: jax.Array, queries: jax.Array) -> jax.Array:
    """Repeats the heads of keys or values to match the heads of the queries."""
    heads = queries.shape[-3] if queries.ndim > 2 else 1
    if x.ndim < 3 or heads % x.shape[-3]:
        raise InputError(argument, f"[..., H, S, E] with H a divisor of {heads}", describe(x))
    return jnp.repeat(x, heads // x.shape[-3], -3)


def _leading_axes(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[int, ...]:
    """Returns the shape [N, ..., H] that the leading axes of all three arrays broadcast to."""
    leading = q.shape[:-2]
    for argument, x in (("key", k), ("value", v)):
        try:
            leading = jnp.broadcast_shapes(leading, x.shape[:-2])
        except ValueError:
            expected = f"leading axes that broadcast to {list(leading)}"
            raise InputError(argument, expected, describe(x)) from None
    return leading


def _heads_side_by_side(x: jax.Array, leading: tuple[int, ...]) -> jax.Array:
    """Reshapes [N, ..., H, L, E] to [N · ..., L, H · E], the layout of ``attend``."""
    length, size = x.shape[-2:]
    heads, batch = math.prod(leading[-1:]), math.prod(leading[:-1])
    every = jnp.broadcast_to(x, (*leading, length, size)).reshape(batch, heads, length, size)
    return jnp.swapaxes(every, 1, 2).reshape(batch, length, heads * size)


def _added(mask: ArrayLike, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
    """Converts the mask to an array of rank four to add to the products of the given shape."""
    expected = f"a boolean or floating-point mask that broadcasts to {list(shape)}"
    check_usable("attn_mask", expected, mask)
    kinds = mask.dtype == bool or jnp.issubdtype(mask.dtype, jnp.floating)
    try:
        fits = kinds and jnp.broadcast_shapes(mask.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise InputError("attn_mask", expected, describe(mask))
    mask = jnp.where(mask, 0.0, -jnp.inf) if mask.dtype == bool else jnp.asarray(mask)
    mask = mask.astype(dtype)
    if mask.ndim > 3 and len(shape) > 4:
        return jnp.broadcast_to(mask, shape).reshape(-1, *shape[-3:])
    return mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
