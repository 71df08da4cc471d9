"""The transformer decoder, batch first."""

from collections.abc import Callable
from typing import ClassVar

import jax
from flax import nnx

from jaxnets.arrays import check_bool, check_floats
from jaxnets.layers.attention import MultiheadAttention
from jaxnets.layers.transformer_blocks import TransformerLayer, attended, check_stack, copies


class TransformerDecoderLayer(TransformerLayer):
    """``torch.nn.TransformerDecoderLayer``, batch first: two attention blocks and an MLP.

    The blocks are self-attention, attention to an encoder's outputs, and an MLP. The output of each
    is added to its input and normalized: x ← norm1(x + self_attn(x)),
    x ← norm2(x + multihead_attn(x, memory)), x ← norm3(x + linear2(activation(linear1(x)))). With
    ``norm_first``, x ← x + self_attn(norm1(x)) and so on. Submodules have PyTorch's names:
    ``self_attn``, ``multihead_attn``, ``linear1``, ``linear2``, ``norm1`` to ``norm3``,
    ``dropout``, ``dropout1`` to ``dropout3``.

    Args:
        d_model: the size of each input and output.
        nhead: the number of attention heads.
        dim_feedforward: the size of the hidden layer.
        dropout: the probability of all dropouts.
        activation: "relu", "gelu" or a function of one array.
        layer_norm_eps: added to the variance in the three normalizations.
        norm_first: whether to normalize the input of each block instead of its output.
        bias: whether linear layers and normalizations have biases.
        rngs: the random streams for the initial values and the dropout masks.
        param_dtype: the dtype of the parameters.
    """

    attentions: ClassVar[tuple[str, ...]] = ("self_attn", "multihead_attn")
    multihead_attn: MultiheadAttention

    def __call__(
        self,
        tgt: jax.Array,
        memory: jax.Array,
        tgt_mask: jax.Array | None = None,
        memory_mask: jax.Array | None = None,
        tgt_key_padding_mask: jax.Array | None = None,
        memory_key_padding_mask: jax.Array | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> jax.Array:
        """Decodes a sequence; the masks are those of ``MultiheadAttention``.

        Args:
            tgt: the sequence, [N, T, d_model].
            memory: the encoder's outputs, [N, S, d_model].
            tgt_mask: [T, T] or [N · nhead, T, T].
            memory_mask: [T, S] or [N · nhead, T, S].
            tgt_key_padding_mask: [N, T].
            memory_key_padding_mask: [N, S].
            tgt_is_causal: whether each position of the sequence attends only to itself and earlier
                positions.
            memory_is_causal: whether position i of the sequence attends only to positions up to i
                of the memory.

        Returns:
            [N, T, d_model].

        Raises:
            InputError: if an array has another shape or dtype.
        """
        size = self.self_attn.embed_dim
        check_floats("tgt", tgt, ("N", "T", size))
        check_floats("memory", memory, (tgt.shape[0], "S", size))
        check_bool("tgt_is_causal", tgt_is_causal)
        check_bool("memory_is_causal", memory_is_causal)

        def attend(x: jax.Array) -> jax.Array:
            return attended(
                *(self.self_attn, x, x),
                to="tgt",
                mask=tgt_mask,
                key_padding_mask=tgt_key_padding_mask,
                is_causal=tgt_is_causal,
            )

        def attend_to_memory(x: jax.Array) -> jax.Array:
            return attended(
                *(self.multihead_attn, x, memory),
                to="memory",
                mask=memory_mask,
                key_padding_mask=memory_key_padding_mask,
                is_causal=memory_is_causal,
            )

        return self._added(tgt, attend, attend_to_memory)


class TransformerDecoder(nnx.Module):
    """``torch.nn.TransformerDecoder``: a stack of copies of a layer, in ``layers``.

    As in PyTorch, the layers are copies of the given layer: all start with the same values, but
    each has its own parameters and dropout masks.

    Args:
        decoder_layer: the layer to copy, which does not become part of the stack.
        num_layers: the number of copies.
        norm: a normalization of the output, or None.

    Examples:
        >>> layer = TransformerDecoderLayer(d_model=16, nhead=4, rngs=nnx.Rngs(0))
        >>> decoder = TransformerDecoder(layer, num_layers=2)
        >>> memory = jax.numpy.zeros((8, 7, 16))
        >>> decoder(jax.numpy.zeros((8, 5, 16)), memory, tgt_is_causal=True).shape
        (8, 5, 16)
    """

    def __init__(
        self,
        decoder_layer: TransformerDecoderLayer,
        num_layers: int,
        norm: Callable[[jax.Array], jax.Array] | None = None,
    ) -> None:
        check_stack("decoder_layer", decoder_layer, num_layers, norm)
        self.layers = copies(decoder_layer, num_layers)
        self.norm = norm

    def __call__(
        self,
        tgt: jax.Array,
        memory: jax.Array,
        tgt_mask: jax.Array | None = None,
        memory_mask: jax.Array | None = None,
        tgt_key_padding_mask: jax.Array | None = None,
        memory_key_padding_mask: jax.Array | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> jax.Array:
        """Passes a sequence through the layers in turn.

        Args:
            tgt: the sequence, [N, T, d_model].
            memory: the encoder's outputs, [N, S, d_model].
            tgt_mask: [T, T] or [N · nhead, T, T].
            memory_mask: [T, S] or [N · nhead, T, S].
            tgt_key_padding_mask: [N, T].
            memory_key_padding_mask: [N, S].
            tgt_is_causal: whether each position of the sequence attends only to itself and earlier
                positions; None for False.
            memory_is_causal: whether position i of the sequence attends only to positions up to i
                of the memory.

        Returns:
            [N, T, d_model].

        Raises:
            InputError: if an array has another shape or dtype.
        """
        masks = tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask
        causal = False if tgt_is_causal is None else tgt_is_causal, memory_is_causal
        for layer in self.layers:
            tgt = layer(tgt, memory, *masks, *causal)
        return tgt if self.norm is None else self.norm(tgt)
