"""The transformer encoder, batch first."""

from collections.abc import Callable
from typing import Any, ClassVar

import jax
from flax import nnx

from jaxnets.arrays import check_bool, check_floats
from jaxnets.layers.parameters import check_others
from jaxnets.layers.transformer_blocks import TransformerLayer, attended, check_stack, copies


class TransformerEncoderLayer(TransformerLayer):
    """``torch.nn.TransformerEncoderLayer``, batch first: self-attention and an MLP.

    The output of each of these two blocks is added to its input and normalized:
    x ← norm1(x + self_attn(x)), x ← norm2(x + linear2(activation(linear1(x)))). With
    ``norm_first``, x ← x + self_attn(norm1(x)) and so on. Submodules have PyTorch's names:
    ``self_attn``, ``linear1``, ``linear2``, ``norm1``, ``norm2``, ``dropout``, ``dropout1``,
    ``dropout2``.

    Args:
        d_model: the size of each input and output.
        nhead: the number of attention heads.
        dim_feedforward: the size of the hidden layer.
        dropout: the probability of all dropouts.
        activation: "relu", "gelu" or a function of one array.
        layer_norm_eps: added to the variance in both normalizations.
        norm_first: whether to normalize the input of each block instead of its output.
        bias: whether linear layers and normalizations have biases.
        rngs: the random streams for the initial values and the dropout masks.
        param_dtype: the dtype of the parameters.
    """

    attentions: ClassVar[tuple[str, ...]] = ("self_attn",)

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
            is_causal: whether each position attends only to itself and earlier positions.

        Returns:
            [N, L, d_model].

        Raises:
            InputError: if an array has another shape or dtype.
        """
        check_floats("src", src, ("N", "L", self.self_attn.embed_dim))
        check_bool("is_causal", is_causal)

        def attend(x: jax.Array) -> jax.Array:
            return attended(
                *(self.self_attn, x, x),
                to="src",
                mask=src_mask,
                key_padding_mask=src_key_padding_mask,
                is_causal=is_causal,
            )

        return self._added(src, attend)


class TransformerEncoder(nnx.Module):
    """``torch.nn.TransformerEncoder``: a stack of copies of a layer, in ``layers``.

    As in PyTorch, the layers are copies of the given layer: all start with the same values, but
    each has its own parameters and dropout masks.

    Args:
        encoder_layer: the layer to copy, which does not become part of the stack.
        num_layers: the number of copies.
        norm: a normalization of the output, or None.

    Examples:
        >>> from jaxnets.layers import LayerNorm
        >>> layer = TransformerEncoderLayer(d_model=16, nhead=4, rngs=nnx.Rngs(0))
        >>> encoder = TransformerEncoder(layer, num_layers=2, norm=LayerNorm(16))
        >>> encoder(jax.numpy.zeros((8, 5, 16)), is_causal=True).shape
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
        check_stack("encoder_layer", encoder_layer, num_layers, norm)
        self.layers = copies(encoder_layer, num_layers)
        self.norm = norm

    def __call__(
        self,
        src: jax.Array,
        mask: jax.Array | None = None,
        src_key_padding_mask: jax.Array | None = None,
        is_causal: bool | None = None,
    ) -> jax.Array:
        """Passes a sequence through the layers in turn.

        Args:
            src: [N, L, d_model].
            mask: [L, L] or [N · nhead, L, L].
            src_key_padding_mask: [N, L].
            is_causal: whether each position attends only to itself and earlier positions; None for
                False.

        Returns:
            [N, L, d_model].

        Raises:
            InputError: if an array has another shape or dtype.
        """
        is_causal = False if is_causal is None else is_causal
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, is_causal)
        return src if self.norm is None else self.norm(src)
