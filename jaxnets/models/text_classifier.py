"""The LSTM classifier of document 002, on text."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import (
    InputError,
    check_choice,
    check_number,
    check_positive,
    check_usable,
    describe,
)
from jaxnets.layers import GRU, LSTM, Dropout, Embedding, Linear


def check_tokens(tokens: jax.Array) -> None:
    """Checks that tokens are integers [batch, time].

    Raises:
        InputError: if they are not.
    """
    check_usable("tokens", "integers [batch, time]", tokens)
    if len(tokens.shape) != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise InputError("tokens", "integers [batch, time]", describe(tokens))


class TextClassifier(nnx.Module):
    """A text classifier: ``embedding``, ``lstm`` or ``gru``, and ``fc`` on the final state.

    This is the LSTM of document 002 with an embedding before it. As in ``RecurrentClassifier``,
    ``fc`` has hidden_dim inputs for each direction, and ``output_dim`` is an argument.

    Token 0 is padding at the end of a row. As with PyTorch's packed sequences, the final state is
    the state after the last token that is not padding. In a bidirectional network, ``fc`` takes the
    final states of both directions of the top layer, each after the whole row.

    Args:
        vocab_size: the number of tokens, including padding.
        embedding_dim: the size of the vector of a token.
        hidden_dim: the size of the hidden state of each direction.
        n_layers: the number of stacked layers.
        dropout: the dropout probability, in training, of the vectors of tokens, the outputs between
            layers and the final state. The document only has dropout between layers.
        output_dim: the number of outputs: the number of classes, or 1 for binary classification.
        cell: ``"lstm"`` or ``"gru"``.
        bidirectional: whether the layers also process the tokens in reverse.
        output: ``"sigmoid"`` for probabilities or ``"logits"``; None for ``"sigmoid"`` with a
            single output, as in the document, and ``"logits"`` with several.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        InputError: if a size is not a positive integer, dropout is outside [0, 1], or cell or
            output is unknown.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int,
        hidden_dim: int,
        n_layers: int = 1,
        dropout: float = 0.0,
        output_dim: int = 1,
        *,
        cell: Literal["lstm", "gru"] = "lstm",
        bidirectional: bool = False,
        output: Literal["sigmoid", "logits"] | None = None,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        check_positive("vocab_size", vocab_size)
        check_positive("embedding_dim", embedding_dim)
        check_positive("hidden_dim", hidden_dim)
        check_positive("n_layers", n_layers)
        check_positive("output_dim", output_dim)
        check_choice("cell", cell, ("lstm", "gru"))
        if output is None:
            output = "sigmoid" if output_dim == 1 else "logits"
        self.output = check_choice("output", output, ("sigmoid", "logits"))
        check_number("dropout", dropout, least=0, most=1)
        self.cell = cell
        options: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.embedding = Embedding(vocab_size, embedding_dim, padding_idx=0, **options)
        layer = {"lstm": LSTM, "gru": GRU}[cell](
            embedding_dim,
            hidden_dim,
            n_layers,
            dropout=dropout,
            bidirectional=bidirectional,
            **options,
        )
        setattr(self, cell, layer)  # the same name as in PyTorch, so that weights can be loaded
        self.dropout = Dropout(dropout, rngs=rngs)
        self.directions = 2 if bidirectional else 1
        self.fc = Linear(self.directions * hidden_dim, output_dim, **options)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        layer = getattr(self, self.cell)
        return {
            "vocab_size": self.embedding.num_embeddings,
            "embedding_dim": layer.input_size,
            "hidden_dim": layer.hidden_size,
            "n_layers": layer.num_layers,
            "dropout": self.dropout.rate,
            "output_dim": self.fc.out_features,
            "cell": self.cell,
            "bidirectional": layer.bidirectional,
            "output": self.output,
        }

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Returns probabilities or logits [batch, output_dim].

        Args:
            tokens: integers [batch, time] in [0, vocab_size); 0 is padding, at the end of a row.
        """
        check_tokens(tokens)
        x = self.dropout(self.embedding(tokens))  # [batch, time, embedding_dim]
        _, state = getattr(self, self.cell)(x, lengths=token_lengths(tokens))
        final = state[0] if self.cell == "lstm" else state  # [layers · directions, batch, hidden]
        x = jnp.concatenate(list(final[-self.directions :]), axis=-1)
        x = self.fc(self.dropout(x))
        return jax.nn.sigmoid(x) if self.output == "sigmoid" else x


def token_lengths(tokens: jax.Array) -> jax.Array:
    """Counts the tokens of each row that are not padding, int32 [batch], but at least 1.

    An empty row counts as one token, because recurrent layers require at least one step.
    """
    return jnp.maximum(jnp.sum(tokens != 0, axis=1, dtype=jnp.int32), 1)


def is_padding(tokens: jax.Array) -> jax.Array:
    """Whether each place is after the end of its row, bool [batch, time]; the first is not."""
    lengths = token_lengths(tokens)
    return jnp.arange(tokens.shape[1], dtype=lengths.dtype)[None, :] >= lengths[:, None]
