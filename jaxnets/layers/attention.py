"""Multi-head attention, batch first."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import (
    InputError,
    check_bool,
    check_floats,
    check_number,
    check_positive,
    describe,
)
from jaxnets.kernels.marks import marked
from jaxnets.layers.dropout import Dropout, drop
from jaxnets.layers.linear import Linear
from jaxnets.layers.parameters import check_others, check_parameters


class MultiheadAttention(nnx.Module):
    """``torch.nn.MultiheadAttention``, batch first: softmax(Q Kᵀ / √d + mask) V, for each head.

    Parameters: ``in_proj_kernel`` [E, 3E], the concatenated kernels of query, key and value;
    ``in_proj_bias`` [3E]; and those of ``out_proj``, a ``Linear``. If ``kdim`` or ``vdim`` differs
    from E, there are three kernels instead of ``in_proj_kernel``: ``q_proj_kernel`` [E, E],
    ``k_proj_kernel`` [kdim, E] and ``v_proj_kernel`` [vdim, E]. Kernels are PyTorch's weights
    transposed. They are drawn from Xavier's uniform distribution, and biases are zeros at first.

    Args:
        embed_dim: E, the size of each query and of each output.
        num_heads: the number of heads, of d = E / num_heads features each.
        dropout: the probability that an attention weight is dropped in training.
        bias: whether the projections have biases.
        kdim: the size of each key; None for E.
        vdim: the size of each value; None for E.
        rngs: the random streams for the initial values and the dropout masks.
        param_dtype: the dtype of the parameters.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        *,
        kdim: int | None = None,
        vdim: int | None = None,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others, "batch_first", "add_bias_kv", "add_zero_attn")
        check_positive("embed_dim", embed_dim)
        check_positive("num_heads", num_heads)
        if embed_dim % num_heads:
            raise InputError("embed_dim", f"a multiple of {num_heads} heads", embed_dim)
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.kdim = embed_dim if kdim is None else check_positive("kdim", kdim)
        self.vdim = embed_dim if vdim is None else check_positive("vdim", vdim)
        check_number("dropout", dropout, least=0, most=1)
        check_bool("bias", bias)
        rngs = check_parameters(rngs, param_dtype)
        packed = self.kdim == self.vdim == embed_dim

        def kernel(present: bool, rows: int, columns: int = embed_dim) -> nnx.Param | None:
            if not present:
                return None
            draw = jax.nn.initializers.glorot_uniform()
            return nnx.Param(draw(rngs.params(), (rows, columns), param_dtype))

        self.in_proj_kernel = kernel(packed, embed_dim, 3 * embed_dim)
        self.q_proj_kernel = kernel(not packed, embed_dim)
        self.k_proj_kernel = kernel(not packed, self.kdim)
        self.v_proj_kernel = kernel(not packed, self.vdim)
        self.in_proj_bias = nnx.Param(jnp.zeros(3 * embed_dim, param_dtype)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, rngs=rngs, param_dtype=param_dtype)
        if bias:
            self.out_proj.bias[...] = jnp.zeros_like(self.out_proj.bias[...])
        self.dropout = Dropout(dropout, rngs=rngs)

    def __call__(
        self,
        query: jax.Array,
        key: jax.Array,
        value: jax.Array,
        *,
        key_padding_mask: jax.Array | None = None,
        attn_mask: jax.Array | None = None,
        is_causal: bool = False,
        need_weights: bool = True,
        average_attn_weights: bool = True,
    ) -> tuple[jax.Array, jax.Array | None]:
        """Computes the attention of each query to all keys.

        A boolean mask is True where attention is *not* allowed; a floating-point mask is added to
        the scaled products. As in PyTorch, the output for a query that is masked from all keys is
        NaN if ``need_weights`` is set, and otherwise the output bias.

        Args:
            query: [N, L, embed_dim].
            key: [N, S, kdim].
            value: [N, S, vdim].
            key_padding_mask: [N, S], for the keys of each sample.
            attn_mask: [L, S], or [N · num_heads, L, S] with consecutive heads of a sample.
            is_causal: whether query i attends only to keys up to i. In PyTorch this is only a hint
                that ``attn_mask`` is causal; here ``attn_mask`` is not required.
            need_weights: whether to return the attention weights.
            average_attn_weights: whether the weights are averaged over the heads.

        Returns:
            The outputs [N, L, embed_dim], and the weights [N, L, S], or [N, num_heads, L, S] if
            not averaged, or None if ``need_weights`` is False.

        Raises:
            InputError: if an array has another shape or dtype.
        """
        check_bool("is_causal", is_causal)
        check_bool("need_weights", need_weights)
        check_bool("average_attn_weights", average_attn_weights)
        check_floats("query", query, ("N", "L", self.embed_dim))
        check_floats("key", key, (query.shape[0], "S", self.kdim))
        check_floats("value", value, (query.shape[0], key.shape[1], self.vdim))
        inputs, heads = self._project(query, key, value), self.num_heads
        shape = query.shape[0], heads, query.shape[1], key.shape[1]
        masks = _additive_masks(shape, jnp.result_type(*inputs[:2]), attn_mask, key_padding_mask)
        drawn = None if need_weights else self.dropout.draw_key()
        if need_weights or (drawn is None and self.dropout.drops):
            logits, values = _scores(inputs, masks, heads, is_causal)
            weights = self.dropout((jax.nn.softmax if need_weights else _safe_softmax)(logits))
            outputs = _averages(weights, values)
        else:
            rate = 0.0 if drawn is None else self.dropout.rate
            outputs = attend(inputs, masks, drawn, heads=heads, causal=is_causal, rate=rate)
        outputs = self.out_proj(outputs)
        if not need_weights:
            return outputs, None
        return outputs, weights.mean(axis=1) if average_attn_weights else weights

    def _project(self, *inputs: jax.Array) -> tuple[jax.Array, ...]:
        """Projects query, key and value; for self-attention returns one array [N, L, 3E]."""
        if self.in_proj_kernel is not None:
            if inputs[0] is inputs[1] is inputs[2]:  # one large product is faster than three
                wide = inputs[0] @ self.in_proj_kernel[...]
                if self.in_proj_bias is not None:
                    wide = wide + self.in_proj_bias[...][None, None]
                return (wide,)
            kernels = jnp.split(self.in_proj_kernel[...], 3, axis=1)
        else:
            separate = (self.q_proj_kernel, self.k_proj_kernel, self.v_proj_kernel)
            kernels = [kernel[...] for kernel in separate if kernel is not None]
        projected = [x @ kernel for x, kernel in zip(inputs, kernels, strict=True)]
        if self.in_proj_bias is None:
            return tuple(projected)
        biases = jnp.split(self.in_proj_bias[...][None, None], 3, axis=-1)
        return tuple(x + bias for x, bias in zip(projected, biases, strict=True))


@marked
def attend(
    inputs: tuple[jax.Array, ...],
    masks: tuple[jax.Array, ...],
    key: jax.Array | None = None,
    *,
    heads: int,
    causal: bool,
    rate: float = 0.0,
) -> jax.Array:
    """Computes softmax(Q Kᵀ / √d + masks) V for each head; zeros for a query without keys.

    Args:
        inputs: the queries [N, L, E], the keys [N, S, E] and the values [N, S, V]; or one array
            [N, L, 3E] with all three concatenated.
        masks: arrays of rank four, which are added to the products [N, heads, L, S].
        key: the random key for dropout, or None for no dropout.
        heads: the number of heads that the last axis of the inputs is split into.
        causal: whether query i attends only to keys up to i.
        rate: the probability that an attention weight is dropped.

    Returns:
        [N, L, V].
    """
    logits, values = _scores(inputs, masks, heads, causal)
    weights = _safe_softmax(logits)
    if key is not None:
        weights = drop(weights, key, rate=rate, alike=())
    return _averages(weights, values)


def _scores(
    inputs: tuple[jax.Array, ...], masks: tuple[jax.Array, ...], heads: int, causal: bool
) -> tuple[jax.Array, jax.Array]:
    """Computes the logits [N, heads, L, S], and splits the values to [N, S, heads, d]."""
    separate = jnp.split(inputs[0], 3, axis=-1) if len(inputs) == 1 else inputs
    cut = (x.reshape(*x.shape[:2], heads, x.shape[2] // heads) for x in separate)
    queries, keys, values = cut
    logits = jnp.einsum("nlhd,nshd->nhls", queries * queries.shape[-1] ** -0.5, keys)
    for mask in masks:
        logits = logits + mask
    if causal:
        later = jnp.triu(jnp.ones(logits.shape[2:], bool), 1)
        logits = logits + jnp.where(later, -jnp.inf, 0.0).astype(logits.dtype)[None, None]
    return logits, values


def _averages(weights: jax.Array, values: jax.Array) -> jax.Array:
    """Averages the values by the weights [N, heads, L, S], to [N, L, V]."""
    outputs = jnp.einsum("nhls,nshd->nlhd", weights, values)
    return outputs.reshape(*outputs.shape[:2], values.shape[2] * values.shape[3])


def _additive_masks(
    shape: tuple[int, ...],
    dtype: DTypeLike,
    attn_mask: jax.Array | None,
    key_padding_mask: jax.Array | None,
) -> tuple[jax.Array, ...]:
    """Converts masks to arrays of rank four to add to the logits [N, heads, L, S]."""
    batch, heads, length, source = shape
    masks = []
    if attn_mask is not None:
        shapes = (length, source), (batch * heads, length, source)
        mask = _additive("attn_mask", attn_mask, shapes, dtype)
        masks.append(mask[None, None] if mask.ndim == 2 else mask.reshape(shape))
    if key_padding_mask is not None:
        mask = _additive("key_padding_mask", key_padding_mask, ((batch, source),), dtype)
        masks.append(mask[:, None, None, :])
    return tuple(masks)


def _additive(
    argument: str, mask: jax.Array, shapes: tuple[tuple[int, ...], ...], dtype: DTypeLike
) -> jax.Array:
    """Converts a mask to numbers to add: -∞ where a boolean mask is True."""
    if mask.shape not in shapes or not (
        mask.dtype == bool or jnp.issubdtype(mask.dtype, jnp.floating)
    ):
        expected = " or ".join(str(list(shape)) for shape in shapes)
        raise InputError(argument, f"a boolean or floating-point mask {expected}", describe(mask))
    if mask.dtype == bool:
        return jnp.where(mask, -jnp.inf, 0.0).astype(dtype)
    return jnp.asarray(mask, dtype)


def _safe_softmax(logits: jax.Array) -> jax.Array:
    """Computes the softmax over the last axis, zeros where every logit is -∞ (instead of NaN)."""
    masked = jnp.all(logits == -jnp.inf, axis=-1, keepdims=True)
    return jnp.where(masked, 0.0, jax.nn.softmax(jnp.where(masked, 0.0, logits)))
