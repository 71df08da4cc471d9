"""The transformer encoder, batch first."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import InputError, check_bool, check_number, check_positive
from jaxnets.layers.activation import GELU, ReLU
from jaxnets.layers.attention import MultiheadAttention
from jaxnets.layers.dropout import Dropout
from jaxnets.layers.linear import Linear
from jaxnets.layers.normalization import LayerNorm
from jaxnets.layers.parameters import check_others

_ACTIVATIONS = {"relu": ReLU, "gelu": GELU}


class TransformerEncoderLayer(nnx.Module):
    """``torch.nn.TransformerEncoderLayer``, batch first: self-attention, then a small MLP.

    Each of the two is added to its input and normalized: x ← norm1(x + attention(x)),
    x ← norm2(x + linear2(activation(linear1(x)))); with ``norm_first``, x ← x + attention(norm1(x))
    and so on. Submodules bear PyTorch's names: ``self_attn``, ``linear1``, ``linear2``, ``norm1``,
    ``norm2``, ``dropout``, ``dropout1``, ``dropout2``.

    Args:
        d_model: the size of each input and output.
        nhead: the number of attention heads.
        dim_feedforward: the size of the hidden layer.
        dropout: the probability of every dropout within.
        activation: "relu", "gelu" or a function of one array.
        layer_norm_eps: added to the variance in both normalizations.
        norm_first: whether to normalize what goes in, rather than what comes out.
        bias: whether linear layers and normalizations have biases.
        rngs: where the initial values and the dropout masks are drawn from.
        param_dtype: the dtype of the parameters.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[jax.Array], jax.Array] = "relu",
        layer_norm_eps: float = 1e-5,
        *,
        norm_first: bool = False,
        bias: bool = True,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others, "batch_first")
        check_positive("d_model", d_model)
        check_positive("nhead", nhead)
        check_number("layer_norm_eps", layer_norm_eps, least=0)
        check_positive("dim_feedforward", dim_feedforward)
        if isinstance(activation, str) and activation in _ACTIVATIONS:
            activation = _ACTIVATIONS[activation]()
        if not callable(activation):
            raise InputError("activation", "relu, gelu or a function", activation)
        self.activation, self.norm_first = activation, check_bool("norm_first", norm_first)
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, rngs=rngs, param_dtype=param_dtype
        )
        self.linear1 = Linear(d_model, dim_feedforward, bias, rngs=rngs, param_dtype=param_dtype)
        self.linear2 = Linear(dim_feedforward, d_model, bias, rngs=rngs, param_dtype=param_dtype)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, param_dtype=param_dtype)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, param_dtype=param_dtype)
        self.dropout = Dropout(dropout, rngs=rngs)
        self.dropout1 = Dropout(dropout, rngs=rngs)
        self.dropout2 = Dropout(dropout, rngs=rngs)

    def __call__(
        self,
        src: jax.Array,
        src_mask: jax.Array | None = None,
        src_key_padding_mask: jax.Array | None = None,
        is_causal: bool = False,
    ) -> jax.Array:
        """Encodes a sequence; the masks are those of ``MultiheadAttention``.

        Args:
            src: [N, L, d_model].
            src_mask: [L, L] or [N · nhead, L, L].
            src_key_padding_mask: [N, L].
            is_causal: whether each position is kept from the later ones.

        Returns:
            [N, L, d_model].

        Raises:
            InputError: if an array has another shape or dtype.
        """

        def attend(x: jax.Array) -> jax.Array:
            outputs, _ = self.self_attn(
                *(x, x, x),
                attn_mask=src_mask,
                key_padding_mask=src_key_padding_mask,
                is_causal=is_causal,
                need_weights=False,
            )
            return self.dropout1(outputs)

        def feed_forward(x: jax.Array) -> jax.Array:
            return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))

        if self.norm_first:
            x = src + attend(self.norm1(src))
            return x + feed_forward(self.norm2(x))
        x = self.norm1(src + attend(src))
        return self.norm2(x + feed_forward(x))


class TransformerEncoder(nnx.Module):
    """``torch.nn.TransformerEncoder``: the same kind of layer, several times, in ``layers``.

    As in PyTorch, the layers are copies of the given one and all start from its values, with
    parameters of their own. Each copy drops values of its own.

    Args:
        encoder_layer: the layer to copy; itself, it is no part of the stack.
        num_layers: the number of copies.
        norm: a normalization of the output, if any.

    Examples:
        >>> layer = TransformerEncoderLayer(d_model=16, nhead=4, rngs=nnx.Rngs(0))
        >>> encoder = TransformerEncoder(layer, num_layers=2, norm=LayerNorm(16))
        >>> encoder(jnp.zeros((8, 5, 16)), is_causal=True).shape
        (8, 5, 16)
    """

    def __init__(
        self,
        encoder_layer: TransformerEncoderLayer,
        num_layers: int,
        norm: Callable[[jax.Array], jax.Array] | None = None,
        **others: Any,
    ) -> None:
        check_others(self, others, "enable_nested_tensor", "mask_check")
        if not isinstance(encoder_layer, nnx.Module):
            raise InputError("encoder_layer", "a layer", encoder_layer)
        if norm is not None and not callable(norm):
            raise InputError("norm", "a normalization or None", norm)
        check_positive("num_layers", num_layers)
        self.layers = nnx.List([_copy(encoder_layer, index) for index in range(num_layers)])
        self.norm = norm

    def __call__(
        self,
        src: jax.Array,
        mask: jax.Array | None = None,
        src_key_padding_mask: jax.Array | None = None,
        is_causal: bool = False,
    ) -> jax.Array:
        """Passes a sequence through the layers in turn.

        Args:
            src: [N, L, d_model].
            mask: [L, L] or [N · nhead, L, L].
            src_key_padding_mask: [N, L].
            is_causal: whether each position is kept from the later ones.

        Returns:
            [N, L, d_model].

        Raises:
            InputError: if an array has another shape or dtype.
        """
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal)
        return src if self.norm is None else self.norm(src)


def _copy(layer: TransformerEncoderLayer, index: int) -> TransformerEncoderLayer:
    """A copy with buffers of its own, so that all can be donated, and its own dropout keys."""
    copy = nnx.clone(layer, arrays=True)
    keys = nnx.state(copy, nnx.RngKey)
    nnx.update(copy, jax.tree.map(lambda key: jax.random.fold_in(key, index), keys))
    return copy
