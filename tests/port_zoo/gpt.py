"""A decoder-only language model with tied embeddings, configured by a dataclass."""
import math
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F


@dataclass
class Config:
    context: int = 8
    vocab: int = 20
    depth: int = 2
    heads: int = 2
    width: int = 8
    p_drop: float = 0.1
    bias: bool = True
    fused: bool = False


class ScaleShift(nn.Module):
    """Layer normalization whose shift can be left out."""

    def __init__(self, width, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, h):
        return F.layer_norm(h, self.weight.shape, self.weight, self.bias, 1e-5)


class SelfAttention(nn.Module):

    def __init__(self, config):
        super().__init__()
        assert config.width % config.heads == 0
        self.qkv   = nn.Linear(config.width, 3 * config.width, bias=config.bias)
        self.merge = nn.Linear(config.width, config.width, bias=config.bias)
        self.drop_weights = nn.Dropout(config.p_drop)
        self.drop_out = nn.Dropout(config.p_drop)
        self.heads = config.heads
        self.width = config.width
        self.p_drop = config.p_drop
        self.fused = config.fused
        if not self.fused:
            causal = torch.tril(torch.ones(config.context, config.context))
            self.register_buffer("causal", causal.view(1, 1, config.context, config.context))

    def forward(self, h):
        B, T, C = h.size()

        # every head attends on its own: (B, heads, T, C / heads)
        q, k, v  = self.qkv(h).split(self.width, dim=2)
        q = q.view(B, T, self.heads, C // self.heads).transpose(1, 2)
        k = k.view(B, T, self.heads, C // self.heads).transpose(1, 2)
        v = v.view(B, T, self.heads, C // self.heads).transpose(1, 2)

        if self.fused:
            y = torch.nn.functional.scaled_dot_product_attention(
                q, k, v, attn_mask=None, dropout_p=self.p_drop if self.training else 0, is_causal=True)
        else:
            scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            scores = scores.masked_fill(self.causal[:,:,:T,:T] == 0, float('-inf'))
            scores = F.softmax(scores, dim=-1)
            y = self.drop_weights(scores) @ v
        y = y.transpose(1, 2).contiguous().view(B, T, C)
        return self.drop_out(self.merge(y))


class FeedForward(nn.Module):

    def __init__(self, config):
        super().__init__()
        self.up   = nn.Linear(config.width, 4 * config.width, bias=config.bias)
        self.act  = nn.GELU()
        self.down = nn.Linear(4 * config.width, config.width, bias=config.bias)
        self.drop = nn.Dropout(config.p_drop)

    def forward(self, h):
        h = self.act(self.up(h))
        h = self.down(h)
        h = self.drop(h)
        return h


class Layer(nn.Module):

    def __init__(self, config):
        super().__init__()
        self.norm1 = ScaleShift(config.width, bias=config.bias)
        self.attn = SelfAttention(config)
        self.norm2 = ScaleShift(config.width, bias=config.bias)
        self.mlp = FeedForward(config)

    def forward(self, h):
        h = h + self.attn(self.norm1(h))
        h = h + self.mlp(self.norm2(h))
        return h


class GPT(nn.Module):

    def __init__(self, config=Config()):
        super().__init__()
        assert config.vocab is not None
        self.config = config

        self.body = nn.ModuleDict(dict(
            tokens = nn.Embedding(config.vocab, config.width),
            places = nn.Embedding(config.context, config.width),
            drop = nn.Dropout(config.p_drop),
            layers = nn.ModuleList([Layer(config) for _ in range(config.depth)]),
            norm = ScaleShift(config.width, bias=config.bias),
        ))
        self.head = nn.Linear(config.width, config.vocab, bias=False)
        self.body.tokens.weight = self.head.weight  # one matrix for both

        self.apply(self._init)
        for name, p in self.named_parameters():
            if name.endswith('down.weight'):
                torch.nn.init.normal_(p, mean=0.0, std=0.02/math.sqrt(2 * config.depth))

    def _init(self, module):
        if isinstance(module, nn.Linear):
            torch.nn.init.normal_(module.weight, mean=0.0, std=0.02)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            torch.nn.init.normal_(module.weight, mean=0.0, std=0.02)

    def size(self):
        return sum(p.numel() for p in self.parameters())

    def forward(self, idx, targets=None):
        device = idx.device
        b, t = idx.size()
        assert t <= self.config.context, f"{t} tokens are more than {self.config.context}"
        where = torch.arange(0, t, dtype=torch.long, device=device)

        h = self.body.drop(self.body.tokens(idx) + self.body.places(where))
        for layer in self.body.layers:
            h = layer(h)
        h = self.body.norm(h)

        if targets is not None:
            logits = self.head(h)
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-1)
        else:
            logits = self.head(h[:, [-1], :])  # of the last token alone
            loss = None

        return logits, loss


def gpt_fused():
    return GPT(Config(fused=True, bias=False, depth=1))
