"""Sequence to sequence with a Transformer encoder and decoder."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import check_number, check_positive
from jaxnets.layers import Dropout, Linear, Transformer
from jaxnets.models.seq2seq import check_pair
from jaxnets.models.text_classifier import check_tokens, is_padding
from jaxnets.models.transformer_classifier import embedded, token_embedding


class TransformerSeq2Seq(nnx.Module):
    """The Transformer of "Attention Is All You Need" (Vaswani et al., 2017).

    The vectors of the tokens are multiplied by √d_model and added to sinusoidal positions; sources
    and targets have separate tables. Names are those of PyTorch's tutorial on language translation:
    ``src_tok_emb``, ``tgt_tok_emb``, ``transformer`` and ``generator``. Sources and targets are
    padded as for ``Seq2Seq``.

    Args:
        vocab_size: number of tokens, the same for sources and targets.
        d_model: size of the vector of a token.
        nhead: number of attention heads.
        num_layers: number of layers of the encoder, and of the decoder.
        dim_feedforward: size of the hidden layer in each layer.
        dropout: probability of every dropout.
        norm_first: whether each layer normalizes its input rather than its output.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        ValueError: if a size is not a positive integer, ``d_model`` is not a multiple of ``nhead``,
            or dropout is outside [0, 1].

    Examples:
        >>> model = TransformerSeq2Seq(11, 8, 2, 1, 16, rngs=nnx.Rngs(0))
        >>> source, target = jnp.array([[5, 7, 0]]), jnp.array([[0, 9, 4, 4]])
        >>> model(source, target).shape
        (1, 4, 11)
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int = 128,
        nhead: int = 4,
        num_layers: int = 2,
        dim_feedforward: int = 256,
        dropout: float = 0.0,
        *,
        norm_first: bool = False,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        check_positive("vocab_size", vocab_size)
        check_positive("d_model", d_model)
        check_positive("num_layers", num_layers)
        check_number("dropout", dropout, least=0, most=1)
        made: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.src_tok_emb = token_embedding(vocab_size, d_model, padding_idx=0, **made)
        self.tgt_tok_emb = token_embedding(vocab_size, d_model, **made)
        self.dropout = Dropout(dropout, rngs=rngs)
        sizes = d_model, nhead, num_layers, num_layers, dim_feedforward, dropout
        self.transformer = Transformer(*sizes, norm_first=norm_first, **made)
        self.generator = Linear(d_model, vocab_size, **made)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        layers = self.transformer.decoder.layers
        return {
            "vocab_size": self.generator.out_features,
            "d_model": self.transformer.d_model,
            "nhead": self.transformer.nhead,
            "num_layers": len(layers),
            "dim_feedforward": layers[0].linear1.out_features,
            "dropout": self.dropout.rate,
            "norm_first": layers[0].norm_first,
        }

    def __call__(self, source: jax.Array, target: jax.Array) -> jax.Array:
        """Returns the logits of each next token of the target, [batch, time, vocab_size].

        Args:
            source: integers [batch, steps] in [0, vocab_size); 0 is padding, at the end of a row.
            target: the tokens before each of those to predict, integers [batch, time]: 0 first.
        """
        check_pair(source, target)
        return self.generator(self._decoded(target, *self._read(source)))

    def attention(self, source: jax.Array, target: jax.Array) -> jax.Array:
        """Returns the attention to the source before each target token, [batch, time, steps].

        They are those of the decoder's last layer, averaged over its heads.

        Args:
            source: as on a call.
            target: as on a call.
        """
        check_pair(source, target)
        memory, padding = self._read(source)
        x = self.dropout(embedded(self.tgt_tok_emb, target))
        *before, last = self.transformer.decoder.layers
        for layer in before:
            x = layer(x, memory, memory_key_padding_mask=padding, tgt_is_causal=True)
        y = last.norm1(x) if last.norm_first else x
        y, _ = last.self_attn(y, y, y, is_causal=True)
        query = last.norm2(x + y) if last.norm_first else last.norm1(x + y)
        _, weights = last.multihead_attn(query, memory, memory, key_padding_mask=padding)
        return weights

    def start(self, source: jax.Array, length: int) -> Any:
        """Encodes sources for decoding with ``step``.

        Args:
            source: as on a call.
            length: the largest number of steps.

        Returns:
            The state before the first token: arrays [batch, …].
        """
        check_tokens(source)
        check_positive("length", length)
        written = jnp.zeros((len(source), length), jnp.int32)
        return written, jnp.zeros(len(source), jnp.int32), *self._read(source)

    def step(self, tokens: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        """Returns the logits of the next token, [batch, vocab_size], and the state after it.

        All tokens so far are computed again, without a cache of keys and values.

        Args:
            tokens: the last token of each row, integers [batch]; 0 at the start.
            state: the state that ``start`` or ``step`` returned.
        """
        written, count, *read = state
        rows = jnp.arange(len(tokens), dtype=jnp.int32)
        written = written.at[rows, count].set(tokens.astype(jnp.int32))
        last = self._decoded(written, *read)[rows, count]
        return self.generator(last), (written, count + 1, *read)

    def _read(self, source: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The encoder's outputs [batch, steps, d_model], and where the source is padding."""
        padding = is_padding(source)
        x = self.dropout(embedded(self.src_tok_emb, source))
        return self.transformer.encoder(x, src_key_padding_mask=padding), padding

    def _decoded(self, target: jax.Array, memory: jax.Array, padding: jax.Array) -> jax.Array:
        """The decoder's outputs [batch, time, d_model]."""
        x = self.dropout(embedded(self.tgt_tok_emb, target))
        return self.transformer.decoder(
            x, memory, memory_key_padding_mask=padding, tgt_is_causal=True
        )
