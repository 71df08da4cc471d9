"""A recurrent network with attention from one text to another, in PyTorch."""

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """An embedding and a bidirectional GRU."""

    def __init__(
        self, vocab_size: int, embedding_dim: int, hidden_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.gru = nn.GRU(embedding_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.init = nn.Linear(hidden_dim, hidden_dim)

    def forward(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the decoder's first state and the outputs [batch, time, 2 · hidden_dim]."""
        rnn, lengths = nn.utils.rnn, (source != 0).sum(1).clamp(min=1).cpu()
        x = self.dropout(self.embedding(source))
        packed = rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        outputs, last = self.gru(packed)
        outputs, _ = rnn.pad_packed_sequence(outputs, True, total_length=source.shape[1])
        return torch.tanh(self.init(last[1])), outputs


class Attention(nn.Module):
    """Additive attention (Bahdanau et al., 2014)."""

    def __init__(self, query_size: int, key_size: int) -> None:
        super().__init__()
        self.Wa = nn.Linear(query_size, query_size)
        self.Ua = nn.Linear(key_size, query_size)
        self.Va = nn.Linear(query_size, 1)

    def forward(self, query: Tensor, keys: Tensor, padding: Tensor) -> Tensor:
        """Returns the mean of the keys [batch, key_size], weighted for the query."""
        scores = self.Va(torch.tanh(self.Wa(query)[:, None] + self.Ua(keys)))[..., 0]
        weights = torch.softmax(scores.masked_fill(padding, -torch.inf), dim=-1)
        return (weights[:, None] @ keys)[:, 0]


class Decoder(nn.Module):
    """An embedding, attention and a GRU cell, one token at a time."""

    def __init__(
        self, vocab_size: int, embedding_dim: int, hidden_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.dropout = nn.Dropout(dropout)
        self.attention = Attention(hidden_dim, 2 * hidden_dim)
        self.gru = nn.GRUCell(embedding_dim + 2 * hidden_dim, hidden_dim)
        self.out = nn.Linear(hidden_dim, vocab_size)

    def forward(self, target: Tensor, state: Tensor, keys: Tensor, padding: Tensor) -> Tensor:
        """Returns logits [batch, time, vocab_size]."""
        x, states = self.dropout(self.embedding(target)), []
        for place in range(target.shape[1]):
            context = self.attention(state, keys, padding)
            state = self.gru(torch.cat([x[:, place], context], dim=1), state)
            states.append(state)
        return self.out(torch.stack(states, dim=1))


class Seq2Seq(nn.Module):
    """An encoder, and a decoder with additive attention."""

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int = 64,
        hidden_dim: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(vocab_size, embedding_dim, hidden_dim, dropout)
        self.decoder = Decoder(vocab_size, embedding_dim, hidden_dim, dropout)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Returns logits [batch, time, vocab_size] of the tokens after each of the target."""
        lengths = (source != 0).sum(1, keepdim=True).clamp(min=1)
        padding = torch.arange(source.shape[1])[None] >= lengths
        return self.decoder(target, *self.encoder(source), padding)
