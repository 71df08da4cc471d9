import math

import torch
import torch.nn as nn


class SinePositions(nn.Module):
    def __init__(self, emb_size, maxlen=30):
        super().__init__()
        den = torch.exp(-torch.arange(0, emb_size, 2) * math.log(10000) / emb_size)
        pos = torch.arange(0, maxlen).reshape(maxlen, 1)
        table = torch.zeros((maxlen, emb_size))
        table[:, 0::2] = torch.sin(pos * den)
        table[:, 1::2] = torch.cos(pos * den)
        self.register_buffer("table", table[None], persistent=False)

    def forward(self, x):
        return x + self.table[:, : x.size(1)]


class TransformerClassifier(nn.Module):
    """An encoder over tokens; padding is masked out."""

    def __init__(self, vocab=20, d_model=8, nhead=2, num_layers=2, num_classes=3, pad=0):
        super().__init__()
        self.pad = pad
        self.d_model = d_model
        self.embedding = nn.Embedding(vocab, d_model, padding_idx=pad)
        self.positions = SinePositions(d_model)
        layer = nn.TransformerEncoderLayer(
            d_model=d_model, nhead=nhead, dim_feedforward=16, dropout=0.1, batch_first=True,
            norm_first=True, activation="gelu",
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers=num_layers, enable_nested_tensor=False)
        self.classifier = nn.Linear(d_model, num_classes)

    def forward(self, tokens):
        padding = tokens == self.pad
        x = self.embedding(tokens) * math.sqrt(self.d_model)
        x = self.encoder(self.positions(x), src_key_padding_mask=padding)
        return self.classifier(x.mean(dim=1))


class Translator(nn.Module):
    """The full nn.Transformer, sequence first as it is by default."""

    def __init__(self, src_vocab=20, tgt_vocab=18, emb=8, heads=2):
        super().__init__()
        self.src_tok = nn.Embedding(src_vocab, emb)
        self.tgt_tok = nn.Embedding(tgt_vocab, emb)
        self.transformer = nn.Transformer(
            d_model=emb, nhead=heads, num_encoder_layers=1, num_decoder_layers=1,
            dim_feedforward=12, dropout=0.1,
        )
        self.generator = nn.Linear(emb, tgt_vocab)

    def forward(self, src, tgt):
        tgt_mask = nn.Transformer.generate_square_subsequent_mask(tgt.size(0))
        out = self.transformer(self.src_tok(src), self.tgt_tok(tgt), tgt_mask=tgt_mask)
        return self.generator(out)


class CrossAttention(nn.Module):
    """One set of vectors looks at another, and the weights are returned too."""

    def __init__(self, dim=8, kdim=6):
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, 2, kdim=kdim, vdim=kdim, batch_first=True)
        self.norm = nn.LayerNorm(dim)

    def forward(self, queries, memory):
        out, weights = self.attention(queries, memory, memory)
        return self.norm(queries + out), weights
