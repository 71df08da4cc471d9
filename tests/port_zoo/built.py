import re
from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F

MODELS = {}


def register(function):
    MODELS[function.__name__] = function
    return function


class NormAct(nn.BatchNorm2d):
    """A norm with its activation."""

    def __init__(self, features, act=None, **kwargs):
        super().__init__(features, **kwargs)
        self.act = act() if act is not None else nn.Identity()

    def forward(self, x):
        return self.act(super().forward(x))


class Residual(nn.Module):
    def __init__(self, text, norm):
        super().__init__()
        a, b, s = map(int, re.match(r"(\d+)-(\d+)/(\d)", text).groups())
        self.conv1 = nn.Conv2d(a, b, 3, s, 1, bias=False)
        self.bn1 = norm(b, act=nn.ReLU)
        self.conv2 = nn.Conv2d(b, b, (3, 3), padding=(1, 1), bias=False)
        self.bn2 = norm(b)
        self.drop = nn.Dropout(0.0)
        self.downsample = nn.Conv2d(a, b, 1, s) if s > 1 or a != b else None
        self.text = text

    def forward(self, x):
        y = self.bn1(self.conv1(x))
        y = self.drop(self.bn2(self.conv2(y)))
        if self.downsample is not None:
            x = self.downsample(x)
        return F.relu(x + y)


class Assembled(nn.Module):
    """A network of parts that others made."""

    scale: torch.jit.Final[float]

    def __init__(self, body, head, scale=2.0):
        super().__init__()
        self.body, self.head = body, head
        self.scale = scale
        self.mean = nn.Parameter(torch.full((1, 3, 1, 1), 0.5))
        self.register_buffer("steps", torch.arange(4), persistent=False)

    def forward(self, x):
        x = self.body(self.scale * (x - self.mean))
        return self.head(x.mean((2, 3))) + self.steps


def build(cls, spec, **kwargs):
    blocks = [Residual(text, partial(NormAct, eps=1e-3)) for text in spec]
    return cls(nn.Sequential(*blocks), nn.Linear(8, 4), **kwargs)


@register
def assembled(scale=3.0):
    return MODELS and build(Assembled, ["3-6/1", "6-8/2", "8-8/1", "8-8/1", "8-8/1"], scale=scale)


def Network():
    return nn.Sequential(
        nn.Conv2d(3, 4, kernel_size=3, stride=1, padding=1),
        nn.BatchNorm2d(num_features=4),
        nn.GELU(),
        nn.MaxPool2d(kernel_size=2, stride=2),
        nn.Sequential(
            nn.ZeroPad2d(padding=(1, 0, 1, 0)),
            nn.LeakyReLU(negative_slope=0.1),
            nn.AdaptiveAvgPool2d(output_size=(8, 8)),
        ),
        nn.Flatten(start_dim=1),
        nn.Linear(in_features=4 * 8 * 8, out_features=5),
        nn.LayerNorm(normalized_shape=5, eps=1e-6),
    )
