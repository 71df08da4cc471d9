import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd import Variable


def relu_maker(inplace=False):
    return lambda: nn.ReLU(inplace=inplace)


def small(value):
    return -torch.finfo(value.dtype).max


class Concat(nn.Sequential):
    """Concatenates the outputs of its layers."""

    def forward(self, x):
        assert len(self._modules.values()) > 0
        return torch.cat([branch(x) for branch in self._modules.values()], dim=1)


class Split(nn.Module):
    """A layer for each part of the channels, added by number."""

    def __init__(self, channels, parts=2):
        super().__init__()
        self.part = channels // parts
        for i in range(parts):
            self.add_module(name=str(i), module=nn.Conv2d(self.part, self.part, 2 * i + 1, padding=i))

    def forward(self, x):
        parts = torch.split(x, self.part, dim=1)
        return torch.cat([conv(part) for conv, part in zip(self.children(), parts)], dim=1)


class Habits(nn.Module):
    """Ways of writing that libraries of networks have."""

    def __init__(self, width=4, classes=3, activation=relu_maker(True), version=torch.__version__):
        super().__init__()
        from torch import nn as layers

        self.newer = version >= '1'
        self.branches = Concat(layers.Conv2d(3, width, 1), nn.Conv2d(3, width, 3, padding=1))
        self.split = Split(2 * width)
        self.act = activation()
        self.weight = nn.Parameter(torch.randn(classes, 2 * width))
        self.frozen = nn.Parameter(torch.tensor([0.0, 1.0] * width), requires_grad=False)

    def train(self, mode=True):
        super().train(mode)
        return self

    def forward(self, x, mask=None):
        x = self.act(self.split(self.branches(x)))
        if not self.newer:
            x = x * 2
        elif mask is not None:
            x = x.masked_fill(mask, small(x))
        try:
            pooled = x.mean(dim=(2, 3)) * self.frozen
        except IndexError:
            pooled = torch.zeros(1)
        l = F.linear(pooled, self.weight)
        if (mask == None) == True:
            double = lambda value: 2 * value
            l = double(l)
        return l


class Residual(nn.Module):
    def forward(self, x, layer):
        return x + layer(x)


class Closures(nn.Module):
    """Functions in attributes, which read layers, and layers by name."""

    def __init__(self, width=6, heads=("hm", "wh")):
        super().__init__()
        self.mlp = nn.ModuleDict(dict(
            inner=nn.Linear(width, 2 * width), act=nn.Tanh(), drop=nn.Dropout(0.1), outer=nn.Linear(2 * width, width),
        ))
        m = self.mlp
        self.mlpf = lambda x: m.drop(m.outer(m.act(m.inner(x))))
        self.norm = nn.LayerNorm(width)
        self.twice = lambda x, scale: F.relu(
            self.norm(x) * scale
        )
        self.residual = Residual()
        self.heads = heads
        for head in heads:
            self.__setattr__(head, nn.Linear(width, 2))

    def forward(self, x):
        x = x + self.mlpf(x)
        x = self.twice(x, 2.0) + Variable(x, requires_grad=False)
        x = self.residual(x, lambda x: self.norm(x))
        x = self.residual(x, self.norm)
        return {head: self.__getattr__(head)(x) for head in self.heads}


class FrozenEmbedding(nn.Module):
    """Convolutions over words whose vectors are not trained."""

    def __init__(self, vocab=9, width=6, maps=4, classes=3):
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.embed.weight.requires_grad = False
        self.convs = nn.ModuleList([nn.Conv2d(1, maps, (size, width)) for size in (2, 3)])
        self.fc = nn.Linear(2 * maps, classes)

    def forward(self, words):
        x = self.embed(words).unsqueeze(1)
        x = [F.relu(conv(x)).squeeze(3) for conv in self.convs]
        return self.fc(torch.cat([F.max_pool1d(y, y.size(2)).squeeze(2) for y in x], 1))
