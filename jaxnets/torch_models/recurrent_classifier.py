"""A classifier of sequences in PyTorch."""

import torch
from torch import Tensor, nn


class RecurrentClassifier(nn.Module):
    """An LSTM or GRU, and a linear layer on its output at the last time step."""

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        n_layers: int = 1,
        dropout: float = 0.0,
        output_dim: int = 1,
        cell: str = "lstm",
        bidirectional: bool = False,
        output: str = "logits",
    ) -> None:
        super().__init__()
        self.cell, self.output = cell, output
        layer = (nn.LSTM if cell == "lstm" else nn.GRU)(
            input_dim,
            hidden_dim,
            n_layers,
            batch_first=True,
            dropout=dropout if n_layers > 1 else 0.0,  # PyTorch warns otherwise
            bidirectional=bidirectional,
        )
        setattr(self, cell, layer)
        self.fc = nn.Linear(hidden_dim * (2 if bidirectional else 1), output_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits or probabilities [batch, output_dim] of x [batch, time, input_dim]."""
        outputs, _ = getattr(self, self.cell)(x)
        x = self.fc(outputs[:, -1, :])
        return torch.sigmoid(x) if self.output == "sigmoid" else x
