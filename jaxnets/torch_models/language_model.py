"""A recurrent language model in PyTorch."""

from torch import Tensor, nn


class LanguageModel(nn.Module):
    """An embedding, an LSTM or GRU, and a linear layer to the next token."""

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int,
        hidden_dim: int,
        n_layers: int = 1,
        dropout: float = 0.0,
        cell: str = "lstm",
    ) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(vocab_size, embedding_dim)
        self.rnn = (nn.LSTM if cell == "lstm" else nn.GRU)(
            embedding_dim,
            hidden_dim,
            n_layers,
            batch_first=True,
            dropout=dropout if n_layers > 1 else 0.0,  # PyTorch warns otherwise
        )
        self.decoder = nn.Linear(hidden_dim, vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns logits [batch, time, vocab_size] of the tokens after each of [batch, time]."""
        outputs, _ = self.rnn(self.drop(self.encoder(tokens)))
        return self.decoder(self.drop(outputs))
