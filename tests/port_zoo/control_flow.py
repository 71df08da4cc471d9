import random

import numpy as np
import torch
import torch.nn as nn


class DependsOnData(nn.Module):
    """Takes one of two branches, depending on the sum of the input."""

    def __init__(self, n=4):
        super().__init__()
        self.left = nn.Linear(n, n)
        self.right = nn.Linear(n, n)

    def forward(self, x):
        if x.sum() > 0:
            return self.left(x)
        return self.right(x)


class ShrinksNorm(nn.Module):
    """Divides by two until the vector is short."""

    def __init__(self, n=4):
        super().__init__()
        self.linear = nn.Linear(n, n)

    def forward(self, x):
        x = self.linear(x)
        while x.abs().sum().item() > 1.0:
            x = x / 2
        return x


class SharedSteps(nn.Module):
    """Applies the same layer several times; the number is an argument of the constructor."""

    def __init__(self, n=4, repeats=3, early_exit=None):
        super().__init__()
        self.first = nn.Linear(n, n)
        self.middle = nn.Linear(n, n)
        self.last = nn.Linear(n, 2)
        self.repeats = repeats
        self.early_exit = early_exit

    def forward(self, x):
        h = self.first(x).clamp(min=0)
        for step in range(self.repeats):
            if self.early_exit is not None and step >= self.early_exit:
                break
            h = self.middle(h).clamp(min=0)
        assert not torch.isnan(h).any(), "not a number"
        return self.last(h)


class DynamicNet(nn.Module):
    """Its depth is drawn at random."""

    def __init__(self, n=4):
        super().__init__()
        self.middle = nn.Linear(n, n)

    def forward(self, x):
        for _ in range(random.randint(0, 3)):
            x = self.middle(x).clamp(min=0)
        return x


class SelectsRows(nn.Module):
    """The number of selected rows depends on the data."""

    def __init__(self, n=4):
        super().__init__()
        self.linear = nn.Linear(n, 2)

    def forward(self, x):
        kept = x[x[:, 0] > 0]
        return self.linear(kept)


class DropsByNumPy(nn.Module):
    def forward(self, x):
        return x * np.random.randint(2)
