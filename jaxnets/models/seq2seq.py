"""Sequence to sequence with a GRU encoder, a GRU decoder and attention."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets import losses
from jaxnets.arrays import InputError, check_number, check_positive, describe
from jaxnets.layers import GRU, Dropout, Embedding, GRUCell, Linear
from jaxnets.models.text_classifier import check_tokens, is_padding, token_lengths


class Seq2Seq(nnx.Module):
    """The encoder–decoder of Bahdanau, Cho and Bengio (2015), with additive attention.

    A bidirectional GRU encodes the source. A second GRU decodes the target: before each token it
    averages the outputs of the encoder, with weights that depend on its state. Its initial state is
    tanh of a linear function of the backward GRU's last state. A linear layer computes logits from
    its state (the paper has a maxout layer). Names are those of PyTorch's translation tutorial.

    The source is padded at its end with token 0. The target has ``END`` after its last token, and
    the token 0 before its first one.

    Args:
        vocab_size: number of tokens, the same for sources and targets.
        embedding_dim: size of the vector of a token.
        hidden_dim: H, size of the state of each direction and of the decoder.
        dropout: probability of dropping, in training, a value of a token's vector.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        ValueError: if a size is not a positive integer, or dropout is outside [0, 1].

    Examples:
        >>> model = Seq2Seq(11, 4, 8, rngs=nnx.Rngs(0))
        >>> source, target = jnp.array([[5, 7, 0]]), jnp.array([[0, 9, 4, 4]])
        >>> model(source, target).shape
        (1, 4, 11)
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int = 64,
        hidden_dim: int = 128,
        dropout: float = 0.0,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        check_positive("vocab_size", vocab_size)
        check_positive("embedding_dim", embedding_dim)
        check_positive("hidden_dim", hidden_dim)
        check_number("dropout", dropout, least=0, most=1)
        sizes = vocab_size, embedding_dim, hidden_dim, dropout
        self.encoder = Encoder(*sizes, rngs=rngs, param_dtype=param_dtype)
        self.decoder = Decoder(*sizes, rngs=rngs, param_dtype=param_dtype)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        return {
            "vocab_size": self.encoder.embedding.num_embeddings,
            "embedding_dim": self.encoder.embedding.embedding_dim,
            "hidden_dim": self.encoder.gru.hidden_size,
            "dropout": self.encoder.dropout.rate,
        }

    def __call__(self, source: jax.Array, target: jax.Array) -> jax.Array:
        """Returns the logits of each next token of the target, [batch, time, vocab_size].

        Args:
            source: integers [batch, steps] in [0, vocab_size); 0 is padding, at the end of a row.
            target: the tokens before each of those to predict, integers [batch, time]: 0 first.
        """
        check_pair(source, target)
        return self.decoder(target, self.encoder(source))[0]

    def attention(self, source: jax.Array, target: jax.Array) -> jax.Array:
        """Returns the attention to the source before each target token, [batch, time, steps].

        Args:
            source: as on a call.
            target: as on a call.
        """
        check_pair(source, target)
        return self.decoder(target, self.encoder(source))[1]

    def start(self, source: jax.Array, length: int) -> Any:
        """Encodes sources for decoding with ``step``.

        Args:
            source: as on a call.
            length: not used.

        Returns:
            The state before the first token: arrays [batch, …].
        """
        check_tokens(source)
        hidden, outputs, padding = self.encoder(source)
        return hidden, outputs, self.decoder.attention.Ua(outputs), padding

    def step(self, tokens: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        """Returns the logits of the next token, [batch, vocab_size], and the state after it.

        Args:
            tokens: the last token of each row, integers [batch]; 0 at the start.
            state: the state that ``start`` or ``step`` returned.
        """
        hidden, *read = state
        x = self.decoder.embedding(tokens)
        hidden, _ = self.decoder.advance(hidden, x, *read)
        return self.decoder.out(hidden), (hidden, *read)


#: The backward state [batch, H], the outputs [batch, steps, 2H], and what is padding
#: [batch, steps].
Read = tuple[jax.Array, jax.Array, jax.Array]


class Encoder(nnx.Module):
    """Reads a source in both directions.

    Args:
        vocab_size: see ``Seq2Seq``.
        embedding_dim: see ``Seq2Seq``.
        hidden_dim: see ``Seq2Seq``.
        dropout: see ``Seq2Seq``.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.
    """

    def __init__(
        self, vocab_size: int, embedding_dim: int, hidden_dim: int, dropout: float, **made: Any
    ) -> None:
        self.embedding = Embedding(vocab_size, embedding_dim, padding_idx=0, **made)
        self.dropout = Dropout(dropout, rngs=made["rngs"])
        self.gru = GRU(embedding_dim, hidden_dim, bidirectional=True, **made)
        self.init = Linear(hidden_dim, hidden_dim, **made)

    def __call__(self, source: jax.Array) -> Read:
        """Returns the decoder's first state, the outputs, and where the source is padding."""
        lengths = token_lengths(source)
        x = self.dropout(self.embedding(source))
        outputs, last = self.gru(x, lengths=lengths)  # [batch, steps, 2H], [2, batch, H]
        return jnp.tanh(self.init(last[1])), outputs, is_padding(source)


class Attention(nnx.Module):
    """Additive attention: softmax over the keys of Va tanh(Wa query + Ua key).

    Args:
        query_size: size of the query.
        key_size: size of each key.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.
    """

    def __init__(self, query_size: int, key_size: int, **made: Any) -> None:
        self.Wa = Linear(query_size, query_size, **made)
        self.Ua = Linear(key_size, query_size, **made)
        self.Va = Linear(query_size, 1, **made)

    def __call__(
        self, query: jax.Array, keys: jax.Array, projected: jax.Array, padding: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the mean of the keys [batch, key_size] and its weights [batch, steps].

        Args:
            query: [batch, query_size].
            keys: [batch, steps, key_size].
            projected: ``Ua`` of the keys, which is the same for every query.
            padding: which keys get no weight, bool [batch, steps].
        """
        scores = self.Va(jnp.tanh(self.Wa(query)[:, None] + projected))[..., 0]
        weights = jax.nn.softmax(jnp.where(padding, -jnp.inf, scores))
        return jnp.einsum("bs,bsk->bk", weights, keys), weights


class Decoder(nnx.Module):
    """Writes a target, one token after the other.

    Args:
        vocab_size: see ``Seq2Seq``.
        embedding_dim: see ``Seq2Seq``.
        hidden_dim: see ``Seq2Seq``.
        dropout: see ``Seq2Seq``.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.
    """

    def __init__(
        self, vocab_size: int, embedding_dim: int, hidden_dim: int, dropout: float, **made: Any
    ) -> None:
        self.embedding = Embedding(vocab_size, embedding_dim, **made)
        self.dropout = Dropout(dropout, rngs=made["rngs"])
        self.attention = Attention(hidden_dim, 2 * hidden_dim, **made)
        self.gru = GRUCell(embedding_dim + 2 * hidden_dim, hidden_dim, **made)
        self.out = Linear(hidden_dim, vocab_size, **made)

    def __call__(self, target: jax.Array, read: Read) -> tuple[jax.Array, jax.Array]:
        """Returns logits [batch, time, vocab_size] and weights [batch, time, steps]."""
        first, outputs, padding = read
        projected = self.attention.Ua(outputs)
        x = self.dropout(self.embedding(target))

        def step(hidden: jax.Array, x: jax.Array) -> tuple[jax.Array, Any]:
            hidden, weights = self.advance(hidden, x, outputs, projected, padding)
            return hidden, (hidden, weights)

        _, made = jax.lax.scan(step, first, jnp.swapaxes(x, 0, 1))
        states, weights = (jnp.swapaxes(each, 0, 1) for each in made)
        return self.out(states), weights

    def advance(
        self,
        hidden: jax.Array,
        x: jax.Array,
        outputs: jax.Array,
        projected: jax.Array,
        padding: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """Returns the next state [batch, H] and the weights [batch, steps].

        Args:
            hidden: the state, [batch, H].
            x: the vector of the last token, [batch, embedding_dim].
            outputs: of the encoder, [batch, steps, 2H].
            projected: ``Ua`` of the outputs, [batch, steps, H].
            padding: of the source, [batch, steps].
        """
        context, weights = self.attention(hidden, outputs, projected, padding)
        return self.gru(jnp.concatenate([x, context], axis=-1), hidden), weights


def check_pair(source: jax.Array, target: jax.Array) -> None:
    """Checks that two arrays are tokens of as many sources and targets.

    Raises:
        InputError: if they are not.
    """
    check_tokens(source)
    check_tokens(target)
    if len(source) != len(target):
        expected = f"as many rows as the {len(source)} of source"
        raise InputError("target", expected, describe(target))


def shifted(target: jax.Array) -> jax.Array:
    """The tokens before each of the target: 0, and all except for the last, [batch, time]."""
    return jnp.pad(target, ((0, 0), (1, 0)))[:, :-1]


def teacher_forcing(
    model: nnx.Module, batch: Mapping[str, Any], key: jax.Array
) -> tuple[jax.Array, dict[str, Any]]:
    """The objective: cross-entropy of each token of the target, given all those before it.

    A target counts as correct if each of its tokens is the most likely one. Greedy decoding then
    writes exactly this target, so ``accuracy`` is its fraction of exact matches.

    Args:
        model: a ``Seq2Seq``, or a network that is called like it.
        batch: ``inputs`` [batch, steps], and ``labels`` [batch, time] with 0 after the end.
        key: not used.

    Returns:
        The mean over the tokens, and the metrics ``accuracy``, the fraction of correct targets, and
        ``token_accuracy``.
    """
    target = batch["labels"]
    logits = model(batch["inputs"], shifted(target))
    padding = target == 0
    right = (logits.argmax(-1).astype(target.dtype) == target) | padding
    return losses.cross_entropy(logits, target, ignore_index=0), {
        "accuracy": (jnp.sum(jnp.all(right, axis=1)), len(target)),
        "token_accuracy": (jnp.sum(right & ~padding), jnp.sum(~padding)),
    }
