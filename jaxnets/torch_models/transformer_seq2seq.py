"""A Transformer from one text to another, in PyTorch."""

import torch
from torch import Tensor, nn


def sinusoidal_positions(length: int, size: int) -> Tensor:
    """Returns the position encoding of Vaswani et al. (2017), [length, size]."""
    column = torch.arange(size)
    position = torch.arange(length, dtype=torch.float64)[:, None]
    angle = position / 10000 ** (column // 2 * 2 / size).double()
    return torch.where(column % 2 == 1, angle.cos(), angle.sin()).float()


class TransformerSeq2Seq(nn.Module):
    """``nn.Transformer`` between two embeddings and a linear layer."""

    def __init__(
        self,
        vocab_size: int,
        d_model: int = 128,
        nhead: int = 4,
        num_layers: int = 2,
        dim_feedforward: int = 256,
        dropout: float = 0.0,
        norm_first: bool = False,
    ) -> None:
        super().__init__()
        self.src_tok_emb = nn.Embedding(vocab_size, d_model, padding_idx=0)
        self.tgt_tok_emb = nn.Embedding(vocab_size, d_model)
        self.dropout = nn.Dropout(dropout)
        self.transformer = nn.Transformer(
            *(d_model, nhead, num_layers, num_layers, dim_feedforward, dropout),
            batch_first=True,
            norm_first=norm_first,
        )
        self.generator = nn.Linear(d_model, vocab_size)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Returns logits [batch, time, vocab_size] of the tokens after each of the target."""
        lengths = (source != 0).sum(1, keepdim=True).clamp(min=1)
        padding = torch.arange(source.shape[1])[None] >= lengths
        later = torch.ones(2 * target.shape[1:], dtype=torch.bool).triu(1)
        x = self.transformer(
            self._embedded(self.src_tok_emb, source),
            self._embedded(self.tgt_tok_emb, target),
            tgt_mask=later,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return self.generator(x)

    def _embedded(self, embedding: nn.Embedding, tokens: Tensor) -> Tensor:
        x = embedding(tokens) * embedding.embedding_dim**0.5
        return self.dropout(x + sinusoidal_positions(*x.shape[1:]).to(x.dtype))
