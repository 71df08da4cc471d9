"""A recurrent network for short sounds in PyTorch."""

from torch import Tensor, nn


class SpeechGRU(nn.Module):
    """A bidirectional GRU, and a linear layer on the mean of its outputs."""

    def __init__(
        self,
        num_classes: int = 10,
        bands: int = 40,
        hidden_dim: int = 64,
        n_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.gru = nn.GRU(
            bands,
            hidden_dim,
            n_layers,
            batch_first=True,
            dropout=dropout if n_layers > 1 else 0.0,  # PyTorch warns otherwise
            bidirectional=True,
        )
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2 * hidden_dim, num_classes)

    def forward(self, sound: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Returns logits [batch, num_classes] of spectrograms [batch, time, bands]."""
        if lengths is None:
            return self.fc(self.dropout(self.gru(sound)[0].mean(1)))
        rnn = nn.utils.rnn
        packed = rnn.pack_padded_sequence(sound, lengths.cpu(), True, enforce_sorted=False)
        outputs, _ = rnn.pad_packed_sequence(self.gru(packed)[0], True)
        return self.fc(self.dropout(outputs.sum(1) / lengths[:, None]))
