"""The transformer with encoder and decoder, batch first."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import InputError, check_float_dtype, check_floats, check_positive
from jaxnets.layers.normalization import LayerNorm
from jaxnets.layers.parameters import check_harmless, check_others, check_parameters
from jaxnets.layers.transformer_decoder import TransformerDecoder, TransformerDecoderLayer
from jaxnets.layers.transformer_encoder import TransformerEncoder, TransformerEncoderLayer


class Transformer(nnx.Module):
    """``torch.nn.Transformer``, batch first: a decoder that attends to an encoder's outputs.

    Submodules have PyTorch's names: ``encoder`` and ``decoder``, each with ``layers`` and a
    ``norm``. As in PyTorch, all kernels are drawn from Xavier's uniform distribution, independently
    for each layer, and including those of a custom encoder or decoder.

    Args:
        d_model: the size of each input and output.
        nhead: the number of attention heads.
        num_encoder_layers: the number of layers of the encoder.
        num_decoder_layers: the number of layers of the decoder.
        dim_feedforward: the size of each hidden layer.
        dropout: the probability of all dropouts.
        activation: "relu", "gelu" or a function of one array.
        custom_encoder: a module that replaces the encoder and is called with the same arguments;
            None for a ``TransformerEncoder``.
        custom_decoder: a module that replaces the decoder and is called with the same arguments;
            None for a ``TransformerDecoder``.
        layer_norm_eps: added to the variance in all normalizations.
        norm_first: whether to normalize the input of each block instead of its output.
        bias: whether linear layers and normalizations have biases.
        rngs: the random streams for the initial values and the dropout masks.
        param_dtype: the dtype of the parameters.

    Examples:
        >>> model = Transformer(16, 4, 2, 2, dim_feedforward=32, rngs=nnx.Rngs(0))
        >>> source, target = jnp.zeros((8, 7, 16)), jnp.zeros((8, 5, 16))
        >>> model(source, target, tgt_is_causal=True).shape
        (8, 5, 16)
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[jax.Array], jax.Array] = "relu",
        custom_encoder: nnx.Module | None = None,
        custom_decoder: nnx.Module | None = None,
        layer_norm_eps: float = 1e-5,
        *,
        norm_first: bool = False,
        bias: bool = True,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others, "batch_first")
        check_positive("num_encoder_layers", num_encoder_layers)
        check_positive("num_decoder_layers", num_decoder_layers)
        for name, given in {"encoder": custom_encoder, "decoder": custom_decoder}.items():
            if given is not None and not isinstance(given, nnx.Module):
                raise InputError(f"custom_{name}", "a module or None", given)
        sizes = d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps
        made: dict[str, Any] = {"bias": bias, "param_dtype": param_dtype}
        options = {**made, "norm_first": norm_first, "rngs": rngs}
        encoder_layer = TransformerEncoderLayer(*sizes, **options)
        decoder_layer = TransformerDecoderLayer(*sizes, **options)

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, **made)

        self.encoder = custom_encoder or TransformerEncoder(
            encoder_layer, num_encoder_layers, norm()
        )
        self.decoder = custom_decoder or TransformerDecoder(
            decoder_layer, num_decoder_layers, norm()
        )
        self.d_model, self.nhead = d_model, nhead
        draw, streams = jax.nn.initializers.glorot_uniform(), check_parameters(rngs, param_dtype)
        for _, parameter in nnx.to_flat_state(nnx.state(self, nnx.Param)):
            if parameter.ndim > 1:
                parameter[...] = draw(streams.params(), parameter.shape, parameter.dtype)

    def __call__(
        self,
        src: jax.Array,
        tgt: jax.Array,
        src_mask: jax.Array | None = None,
        tgt_mask: jax.Array | None = None,
        memory_mask: jax.Array | None = None,
        src_key_padding_mask: jax.Array | None = None,
        tgt_key_padding_mask: jax.Array | None = None,
        memory_key_padding_mask: jax.Array | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> jax.Array:
        """Encodes a source and decodes a target; the masks are those of ``MultiheadAttention``.

        Args:
            src: the source, [N, S, d_model].
            tgt: the target, [N, T, d_model].
            src_mask: [S, S] or [N · nhead, S, S].
            tgt_mask: [T, T] or [N · nhead, T, T].
            memory_mask: [T, S] or [N · nhead, T, S].
            src_key_padding_mask: [N, S].
            tgt_key_padding_mask: [N, T].
            memory_key_padding_mask: [N, S].
            src_is_causal: whether each position of the source attends only to itself and earlier
                positions; None for False.
            tgt_is_causal: whether each position of the target attends only to itself and earlier
                positions; None for False.
            memory_is_causal: whether position i of the target attends only to positions up to i of
                the encoded source.

        Returns:
            [N, T, d_model].

        Raises:
            InputError: if an array has another shape or dtype.
        """
        check_floats("src", src, ("N", "S", self.d_model))
        check_floats("tgt", tgt, (src.shape[0], "T", self.d_model))
        memory = self.encoder(
            src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal
        )
        return self.decoder(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal,
            memory_is_causal=memory_is_causal,
        )

    @staticmethod
    def generate_square_subsequent_mask(
        sz: int, device: None = None, dtype: DTypeLike | None = None
    ) -> jax.Array:
        """Returns the causal mask [sz, sz]: -∞ for later positions, 0 for all others.

        Args:
            sz: the length of the sequence.
            device: must be None; accepted for compatibility with PyTorch.
            dtype: the dtype of the mask; None for float32.

        Examples:
            >>> print(Transformer.generate_square_subsequent_mask(2))
            [[  0. -inf]
             [  0.   0.]]
        """
        check_positive("sz", sz)
        check_harmless("device", device)
        dtype = jnp.float32 if dtype is None else check_float_dtype("dtype", dtype)
        return jnp.triu(jnp.full((sz, sz), -jnp.inf, dtype), 1)
