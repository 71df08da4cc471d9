"""A recurrent network that predicts the next token."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import check_choice, check_number, check_positive
from jaxnets.layers import GRU, LSTM, Dropout, Embedding, Linear
from jaxnets.models.text_classifier import check_tokens


class LanguageModel(nnx.Module):
    """A recurrent language model: ``encoder`` (embedding), ``rnn`` and ``decoder`` (linear).

    The network is that of PyTorch's example word_language_model: names, order and dropout are the
    same, and initial values are the defaults of the layers. A call starts from a zero state, so
    that training does not depend on the order of windows of text. The example passes the state from
    window to window instead; use ``advance`` for that.

    Args:
        vocab_size: the number of tokens.
        embedding_dim: the size of the vector of a token.
        hidden_dim: the size of the hidden state.
        n_layers: the number of stacked layers.
        dropout: the dropout probability, in training, of the vectors of tokens, the outputs between
            layers and the outputs of the top layer.
        cell: ``"lstm"`` or ``"gru"``.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        InputError: if a size is not a positive integer, dropout is outside [0, 1], or cell is
            unknown.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int,
        hidden_dim: int,
        n_layers: int = 1,
        dropout: float = 0.0,
        *,
        cell: Literal["lstm", "gru"] = "lstm",
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        check_positive("vocab_size", vocab_size)
        check_positive("embedding_dim", embedding_dim)
        check_positive("hidden_dim", hidden_dim)
        check_positive("n_layers", n_layers)
        check_choice("cell", cell, ("lstm", "gru"))
        check_number("dropout", dropout, least=0, most=1)
        self.cell = cell
        options: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.drop = Dropout(dropout, rngs=rngs)
        self.encoder = Embedding(vocab_size, embedding_dim, **options)
        layer = {"lstm": LSTM, "gru": GRU}[cell]
        self.rnn = layer(embedding_dim, hidden_dim, n_layers, dropout=dropout, **options)
        self.decoder = Linear(hidden_dim, vocab_size, **options)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        return {
            "vocab_size": self.decoder.out_features,
            "embedding_dim": self.rnn.input_size,
            "hidden_dim": self.rnn.hidden_size,
            "n_layers": self.rnn.num_layers,
            "dropout": self.drop.rate,
            "cell": self.cell,
        }

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Computes the logits of the next token after each token, [batch, time, vocab_size].

        Args:
            tokens: integers [batch, time] in [0, vocab_size).
        """
        return self.advance(tokens, None)[0]

    def advance(self, tokens: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        """Computes logits like a call, but starts from a given state.

        Args:
            tokens: integers [batch, time] in [0, vocab_size).
            state: the state that an earlier call of ``advance`` returned; None for zeros.

        Returns:
            The logits [batch, time, vocab_size], and the state after the last token.
        """
        check_tokens(tokens)
        x = self.drop(self.encoder(tokens))  # [batch, time, embedding_dim]
        outputs, state = self.rnn(x, state)
        return self.decoder(self.drop(outputs)), state
