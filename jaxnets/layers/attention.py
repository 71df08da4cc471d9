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
from jaxnets.layers.dropout import Dropout
from jaxnets.layers.linear import Linear
from jaxnets.layers.parameters import check_others, check_parameters


class MultiheadAttention(nnx.Module):
    """``torch.nn.MultiheadAttention``, batch first: softmax(Q Kᵀ / √d + mask) V, for each head.

    Parameters: ``in_proj_kernel`` [E, 3E], the kernels of query, key and value side by side, or,
    where ``kdim`` or ``vdim`` differs from E, ``q_proj_kernel`` [E, E], ``k_proj_kernel``
    [kdim, E] and ``v_proj_kernel`` [vdim, E]; ``in_proj_bias`` [3E]; ``out_proj``, a ``Linear``.
    Each kernel is PyTorch's weight transposed, starts as Xavier's uniform distribution, and each
    bias as zeros.

    Args:
        embed_dim: E, the size of each query and of each output.
        num_heads: into how many heads, of d = E / num_heads values each, the embedding is cut.
        dropout: the probability that an attention weight is dropped in training.
        bias: whether the projections have biases.
        kdim: the size of each key; E if None.
        vdim: the size of each value; E if None.
        rngs: where the initial values and the dropout masks are drawn from.
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
        """Attends from each query to all keys.

        A boolean mask is True where attention is *not* allowed; a floating-point one is added to
        the scaled products. A query that may attend to no key gives NaN if ``need_weights``, and
        otherwise the output bias, as in PyTorch.

        Args:
            query: [N, L, embed_dim].
            key: [N, S, kdim].
            value: [N, S, vdim].
            key_padding_mask: [N, S], for the keys of each sample.
            attn_mask: [L, S], or [N · num_heads, L, S] with the heads of a sample together.
            is_causal: whether query i is kept from the keys after i. PyTorch takes this for a
                hint that ``attn_mask`` does so already; here the mask may be left out.
            need_weights: whether to return the attention weights.
            average_attn_weights: whether the weights are averaged over the heads.

        Returns:
            The outputs [N, L, embed_dim], and the weights [N, L, S], or [N, num_heads, L, S] if
            not averaged, or None if not needed.

        Raises:
            InputError: if an array has another shape or dtype.
        """
        check_bool("is_causal", is_causal)
        check_bool("need_weights", need_weights)
        check_bool("average_attn_weights", average_attn_weights)
        check_floats("query", query, ("N", "L", self.embed_dim))
        check_floats("key", key, (query.shape[0], "S", self.kdim))
        check_floats("value", value, (query.shape[0], key.shape[1], self.vdim))
        queries, keys, values = map(self._heads, self._project(query, key, value))
        logits = jnp.einsum("nlhd,nshd->nhls", queries * queries.shape[-1] ** -0.5, keys)
        for mask in self._masks(logits, attn_mask, key_padding_mask, is_causal):
            logits = logits + mask
        weights = self.dropout((jax.nn.softmax if need_weights else _safe_softmax)(logits))
        outputs = jnp.einsum("nhls,nshd->nlhd", weights, values)
        outputs = self.out_proj(outputs.reshape(query.shape))
        if not need_weights:
            return outputs, None
        return outputs, weights.mean(axis=1) if average_attn_weights else weights

    def _project(self, *inputs: jax.Array) -> list[jax.Array]:
        """The projected query, key and value."""
        if self.in_proj_kernel is not None:
            if inputs[0] is inputs[1] is inputs[2]:  # self-attention: one wide product, not three
                wide = inputs[0] @ self.in_proj_kernel[...]
                if self.in_proj_bias is not None:
                    wide = wide + self.in_proj_bias[...][None, None]
                return jnp.split(wide, 3, axis=-1)
            kernels = jnp.split(self.in_proj_kernel[...], 3, axis=1)
        else:
            separate = (self.q_proj_kernel, self.k_proj_kernel, self.v_proj_kernel)
            kernels = [kernel[...] for kernel in separate if kernel is not None]
        projected = [x @ kernel for x, kernel in zip(inputs, kernels, strict=True)]
        if self.in_proj_bias is None:
            return projected
        biases = jnp.split(self.in_proj_bias[...][None, None], 3, axis=-1)
        return [x + bias for x, bias in zip(projected, biases, strict=True)]

    def _heads(self, x: jax.Array) -> jax.Array:
        size = self.embed_dim // self.num_heads
        return x.reshape(*x.shape[:2], self.num_heads, size)  # [N, L, heads, d]

    def _masks(
        self,
        logits: jax.Array,
        attn_mask: jax.Array | None,
        key_padding_mask: jax.Array | None,
        is_causal: bool,
    ) -> list[jax.Array]:
        """What is to be added to the logits [N, heads, L, S], each mask of rank four."""
        batch, heads, length, source = logits.shape
        masks = []
        if attn_mask is not None:
            shapes = (length, source), (batch * heads, length, source)
            mask = _additive("attn_mask", attn_mask, shapes, logits.dtype)
            masks.append(mask[None, None] if mask.ndim == 2 else mask.reshape(logits.shape))
        if key_padding_mask is not None:
            shape = (batch, source)
            mask = _additive("key_padding_mask", key_padding_mask, (shape,), logits.dtype)
            masks.append(mask[:, None, None, :])
        if is_causal:
            later = jnp.triu(jnp.ones((length, source), bool), 1)
            masks.append(jnp.where(later, -jnp.inf, 0.0).astype(logits.dtype)[None, None])
        return masks


def _additive(
    argument: str, mask: jax.Array, shapes: tuple[tuple[int, ...], ...], dtype: DTypeLike
) -> jax.Array:
    """The mask as numbers to add: -∞ where a boolean one is True."""
    if mask.shape not in shapes or not (
        mask.dtype == bool or jnp.issubdtype(mask.dtype, jnp.floating)
    ):
        expected = " or ".join(str(list(shape)) for shape in shapes)
        raise InputError(argument, f"a boolean or floating-point mask {expected}", describe(mask))
    if mask.dtype == bool:
        return jnp.where(mask, -jnp.inf, 0.0).astype(dtype)
    return jnp.asarray(mask, dtype)


def _safe_softmax(logits: jax.Array) -> jax.Array:
    """Softmax over the last axis, with zeros where every logit is -∞."""
    masked = jnp.all(logits == -jnp.inf, axis=-1, keepdims=True)
    return jnp.where(masked, 0.0, jax.nn.softmax(jnp.where(masked, 0.0, logits)))
