"""A classifier of texts in PyTorch."""

import torch
from torch import Tensor, nn


class TextClassifier(nn.Module):
    """An embedding, an LSTM or GRU, and a linear layer on its final states."""

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int,
        hidden_dim: int,
        n_layers: int = 1,
        dropout: float = 0.0,
        output_dim: int = 1,
        cell: str = "lstm",
        bidirectional: bool = False,
        output: str = "logits",
    ) -> None:
        super().__init__()
        self.cell, self.output, self.directions = cell, output, 2 if bidirectional else 1
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        layer = (nn.LSTM if cell == "lstm" else nn.GRU)(
            embedding_dim,
            hidden_dim,
            n_layers,
            batch_first=True,
            dropout=dropout if n_layers > 1 else 0.0,  # PyTorch warns otherwise
            bidirectional=bidirectional,
        )
        setattr(self, cell, layer)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(hidden_dim * self.directions, output_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns logits or probabilities [batch, output_dim] of tokens [batch, time]."""
        x = self.dropout(self.embedding(tokens))
        lengths = (tokens != 0).sum(1).clamp(min=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        _, state = getattr(self, self.cell)(packed)
        final = state[0] if self.cell == "lstm" else state
        x = self.fc(self.dropout(torch.cat(list(final[-self.directions :]), dim=1)))
        return torch.sigmoid(x) if self.output == "sigmoid" else x
