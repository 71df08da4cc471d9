"""A Transformer encoder that classifies texts."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import check_choice, check_number, check_positive
from jaxnets.layers import (
    Dropout,
    Embedding,
    Linear,
    TransformerEncoder,
    TransformerEncoderLayer,
)
from jaxnets.models.positions import sinusoidal_positions
from jaxnets.models.text_classifier import check_tokens, is_padding, token_lengths


class TransformerClassifier(nnx.Module):
    """Tokens through ``embedding``, ``encoder``, a mean over the tokens, and ``fc``.

    The vectors of the tokens are multiplied by √d_model and added to sinusoidal positions, as in
    "Attention Is All You Need". Token 0 is padding, after a row's end: no token attends to it, and
    it does not count in the mean.

    Args:
        vocab_size: number of tokens, padding included.
        d_model: size of the vector of a token.
        nhead: number of attention heads.
        num_layers: number of encoder layers.
        dim_feedforward: size of the hidden layer in each encoder layer.
        dropout: probability of every dropout: of embeddings, within the layers, and of the mean.
        output_dim: number of outputs: classes, or 1 for the binary case.
        norm_first: whether each layer normalizes its input rather than its output.
        output: ``"sigmoid"`` for probabilities, ``"logits"``; None for the sigmoid of a single
            output, and logits of several.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        ValueError: if a size is not a positive integer, ``d_model`` is not a multiple of ``nhead``,
            dropout is outside [0, 1], or output is unknown.

    Examples:
        >>> model = TransformerClassifier(11, 8, 2, rngs=nnx.Rngs(0))
        >>> model(jnp.array([[5, 7, 0]])).shape
        (1, 1)
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        nhead: int,
        num_layers: int = 2,
        dim_feedforward: int = 128,
        dropout: float = 0.0,
        output_dim: int = 1,
        *,
        norm_first: bool = False,
        output: Literal["sigmoid", "logits"] | None = None,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        check_positive("vocab_size", vocab_size)
        check_positive("num_layers", num_layers)
        check_positive("output_dim", output_dim)
        check_number("dropout", dropout, least=0, most=1)
        if output is None:
            output = "sigmoid" if output_dim == 1 else "logits"
        self.output = check_choice("output", output, ("sigmoid", "logits"))
        made: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        layer = TransformerEncoderLayer(
            d_model, nhead, dim_feedforward, dropout, norm_first=norm_first, **made
        )
        self.embedding = token_embedding(vocab_size, d_model, padding_idx=0, **made)
        self.encoder = TransformerEncoder(layer, num_layers)
        self.dropout = Dropout(dropout, rngs=rngs)
        self.fc = Linear(d_model, output_dim, **made)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        layer = self.encoder.layers[0]
        return {
            "vocab_size": self.embedding.num_embeddings,
            "d_model": self.embedding.embedding_dim,
            "nhead": layer.self_attn.num_heads,
            "num_layers": len(self.encoder.layers),
            "dim_feedforward": layer.linear1.out_features,
            "dropout": self.dropout.rate,
            "output_dim": self.fc.out_features,
            "norm_first": layer.norm_first,
            "output": self.output,
        }

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Returns probabilities or logits [batch, output_dim].

        Args:
            tokens: integers [batch, time] in [0, vocab_size); 0 is padding, at the end of a row.
        """
        check_tokens(tokens)
        padding = is_padding(tokens)  # [batch, time]
        x = embedded(self.embedding, tokens)
        x = self.encoder(self.dropout(x), src_key_padding_mask=padding)
        x = jnp.where(padding[..., None], 0, x).sum(1)  # [batch, d_model]
        x = x / token_lengths(tokens)[:, None].astype(x.dtype)
        x = self.fc(self.dropout(x))
        return jax.nn.sigmoid(x) if self.output == "sigmoid" else x


def token_embedding(vocab_size: int, d_model: int, **options: Any) -> Embedding:
    """An embedding whose vectors start as N(0, 1 / d_model), so that ``embedded`` has N(0, 1).

    With PyTorch's N(0, 1), the vectors would be √d_model times as large as the positions.

    Args:
        vocab_size: number of tokens.
        d_model: size of the vector of a token.
        **options: those of ``Embedding``.
    """
    embedding = Embedding(vocab_size, d_model, **options)
    embedding.embedding[...] = embedding.embedding[...] * d_model**-0.5
    return embedding


def embedded(embedding: Embedding, tokens: jax.Array) -> jax.Array:
    """The vectors of tokens times √d plus sinusoidal positions, [batch, time, d].

    Args:
        embedding: the table of vectors [vocab_size, d].
        tokens: integers [batch, time].
    """
    x = embedding(tokens) * math.sqrt(embedding.embedding_dim)
    return x + jnp.asarray(sinusoidal_positions(*x.shape[1:]), x.dtype)[None]
