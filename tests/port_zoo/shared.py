import torch
import torch.nn as nn


class SharedHead(nn.Module):
    """One layer in several places, and rates that grow with the depth."""

    def __init__(self, rate=0.2, depth=3):
        super().__init__()
        rates = [x.item() for x in torch.linspace(0, rate, depth)]
        self.drops = nn.ModuleList([nn.Dropout(p) for p in rates])
        self.head = nn.Linear(4, 4)
        self.heads = nn.ModuleList([self.head] * depth)
        self.again = nn.ModuleDict({"first": self.heads[0], "act": nn.ReLU()})

    def forward(self, x):
        for drop, head in zip(self.drops, self.heads):
            x = drop(torch.tanh(head(x)))
        return self.again["act"](self.again["first"](x))


class Twice(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layers = nn.ModuleList([layer, layer])

    def forward(self, x):
        return self.layers[1](self.layers[0](x))


class Once(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.same = nn.Sequential(nn.ReLU(), layer)

    def forward(self, x):
        return self.same(self.layer(x))


def twice():
    return Twice(nn.Linear(4, 4))


def once():
    return Once(nn.Linear(4, 4))
