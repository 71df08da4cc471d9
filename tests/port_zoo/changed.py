"""A function that changes its argument in place, and whose result is not used."""

import torch
import torch.nn as nn


def add_rest(x, y, whole):
    if whole:
        x.add_(y)
    else:
        x[:, 1:] += y[:, 1:]
    return x


class Changed(nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.fc = nn.Linear(width, width)
        self.whole = False

    def forward(self, x):
        x = self.fc(x)
        add_rest(x, torch.sigmoid(2 * x), self.whole)
        return x
