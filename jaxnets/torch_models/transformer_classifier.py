"""A Transformer encoder that classifies texts, in PyTorch."""

import torch
from torch import Tensor, nn


def sinusoidal_positions(length: int, size: int) -> Tensor:
    """Returns the position encoding of Vaswani et al. (2017), [length, size]."""
    column = torch.arange(size)
    position = torch.arange(length, dtype=torch.float64)[:, None]
    angle = position / 10000 ** (column // 2 * 2 / size).double()
    return torch.where(column % 2 == 1, angle.cos(), angle.sin()).float()


class TransformerClassifier(nn.Module):
    """An embedding, ``nn.TransformerEncoder``, a mean over the tokens and a linear layer."""

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        nhead: int,
        num_layers: int = 2,
        dim_feedforward: int = 128,
        dropout: float = 0.0,
        output_dim: int = 1,
        norm_first: bool = False,
        output: str = "logits",
    ) -> None:
        super().__init__()
        self.output = output
        self.embedding = nn.Embedding(vocab_size, d_model, padding_idx=0)
        layer = nn.TransformerEncoderLayer(
            d_model, nhead, dim_feedforward, dropout, batch_first=True, norm_first=norm_first
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(d_model, output_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns logits or probabilities [batch, output_dim] of tokens [batch, time]."""
        lengths = (tokens != 0).sum(1, keepdim=True).clamp(min=1)
        padding = torch.arange(tokens.shape[1])[None] >= lengths
        x = self.embedding(tokens) * self.embedding.embedding_dim**0.5
        x = self.dropout(x + sinusoidal_positions(*x.shape[1:]).to(x.dtype))
        x = self.encoder(x, src_key_padding_mask=padding)
        x = x.masked_fill(padding[..., None], 0.0).sum(1) / lengths
        x = self.fc(self.dropout(x))
        return torch.sigmoid(x) if self.output == "sigmoid" else x
