"""A transformer one head at a time, with hyperparameters in the module."""

import torch
import torch.nn as nn
from torch.nn import functional as F

context = 6
device = 'cuda' if torch.cuda.is_available() else 'cpu'
width = 8
heads = 2
depth = 2
p = 0.2
symbols = 15


class Head(nn.Module):
    """ a single causal head """

    def __init__(self, size):
        super().__init__()
        self.key = nn.Linear(width, size, bias=False)
        self.query = nn.Linear(width, size, bias=False)
        self.value = nn.Linear(width, size, bias=False)
        self.register_buffer('below', torch.tril(torch.ones(context, context)))
        self.drop = nn.Dropout(p)

    def forward(self, x):
        B,T,C = x.shape
        k = self.key(x)
        q = self.query(x)
        w = q @ k.transpose(-2,-1) * C**-0.5 # (B,T,T)
        w = w.masked_fill(self.below[:T, :T] == 0, float('-inf'))
        w = F.softmax(w, dim=-1)
        w = self.drop(w)
        v = self.value(x)
        return w @ v


class Heads(nn.Module):
    """ several of them, side by side """

    def __init__(self, count, size):
        super().__init__()
        self.heads = nn.ModuleList([Head(size) for _ in range(count)])
        self.proj = nn.Linear(width, width)
        self.drop = nn.Dropout(p)

    def forward(self, x):
        out = torch.cat([h(x) for h in self.heads], dim=-1)
        out = self.drop(self.proj(out))
        return out


class Layer(nn.Module):

    def __init__(self, width, heads):
        super().__init__()
        self.attend = Heads(heads, width // heads)
        self.think = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.ReLU(),
            nn.Linear(4 * width, width),
            nn.Dropout(p),
        )
        self.ln1 = nn.LayerNorm(width)
        self.ln2 = nn.LayerNorm(width)

    def forward(self, x):
        x = x + self.attend(self.ln1(x))
        x = x + self.think(self.ln2(x))
        return x


class CharacterModel(nn.Module):

    def __init__(self):
        super().__init__()
        self.symbol_table = nn.Embedding(symbols, width)
        self.place_table = nn.Embedding(context, width)
        self.layers = nn.Sequential(*[Layer(width, heads=heads) for _ in range(depth)])
        self.ln = nn.LayerNorm(width)
        self.head = nn.Linear(width, symbols)

    def forward(self, idx, targets=None):
        B, T = idx.shape
        x = self.symbol_table(idx) + self.place_table(torch.arange(T, device=device)) # (B,T,C)
        x = self.ln(self.layers(x))
        logits = self.head(x) # (B,T,symbols)

        if targets is None:
            loss = None
        else:
            B, T, C = logits.shape
            logits = logits.view(B*T, C)
            targets = targets.view(B*T)
            loss = F.cross_entropy(logits, targets)

        return logits, loss

    def generate(self, idx, count):
        for _ in range(count):
            logits, _ = self(idx[:, -context:])
            chances = F.softmax(logits[:, -1, :], dim=-1)
            idx = torch.cat((idx, torch.multinomial(chances, num_samples=1)), dim=1)
        return idx
