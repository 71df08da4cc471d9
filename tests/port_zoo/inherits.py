from collections import OrderedDict

import torch
import torch.nn as nn


class Base(nn.Module):
    """The common parts of its subclasses."""

    hidden = 6

    def __init__(self, n=4, classes=3):
        super().__init__()
        self.n = n
        self.encode = self.build_encoder()
        self.head = nn.Linear(self.hidden, classes)

    def build_encoder(self):
        return nn.Linear(self.n, self.hidden)

    def features(self, x):
        return torch.relu(self.encode(x))

    def forward(self, x):
        return self.head(self.features(x))


class Deeper(Base):
    hidden = 8

    def __init__(self, *args, scale=2.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.extra = nn.Linear(self.hidden, self.hidden)
        self.scale = scale

    def build_encoder(self):
        return nn.Sequential(super().build_encoder(), nn.Tanh())

    def features(self, x):
        return super().features(x) + torch.relu(self.extra(super().features(x)))

    def forward(self, x):
        return self.scale * super().forward(x)


class ConvBlock(nn.Sequential):
    def __init__(self, n_in, n_out, k=3):
        super(ConvBlock, self).__init__(OrderedDict([
            ('conv', nn.Conv2d(n_in, n_out, k, padding=k // 2)),
            ('norm', nn.BatchNorm2d(n_out)),
            ('act', nn.SiLU()),
        ]))
        self.n_out = n_out


class ResidualBlock(ConvBlock):
    """A Sequential whose forward adds its input."""

    def __init__(self, n):
        super().__init__(n, n)

    def forward(self, x):
        return x + super().forward(x)


class OfBlocks(nn.Module):
    def __init__(self):
        super().__init__()
        first = ConvBlock(3, 6)
        self.body = nn.Sequential(first, ResidualBlock(first.n_out))
        self.head = nn.Sequential(OrderedDict(pool=nn.AdaptiveMaxPool2d(1), flat=nn.Flatten(), fc=nn.Linear(6, 4)))

    def forward(self, x):
        y = x
        for layer in self.body:
            y = layer(y)
        return self.head[2](self.head[1](self.head.pool(y)))


class Plain(nn.Sequential):
    """No forward of its own at all."""

    def __init__(self, sizes=(4, 8, 3)):
        layers = []
        for i, (a, b) in enumerate(zip(sizes[:-1], sizes[1:])):
            layers.append(nn.Linear(a, b))
            if i < len(sizes) - 2:
                layers.append(nn.Softplus())
        super().__init__(*layers)
