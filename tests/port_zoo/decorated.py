import functools
import time

import torch
import torch.nn as nn


def timed(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        start = time.perf_counter()
        result = function(*args, **kwargs)
        wrapper.seconds += time.perf_counter() - start
        return result

    wrapper.seconds = 0.0
    return wrapper


class Timed(nn.Module):
    """A method in a decorator of the file, and products of dense matrices by sparse functions."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    @timed
    def features(self, x):
        return torch.spmm(x, self.fc.weight)

    def forward(self, x):
        return torch.sparse.mm(self.features(x), self.fc.weight.t())


class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        places = torch.tensor([[0, 1], [1, 0]])
        self.graph = torch.sparse_coo_tensor(places, torch.ones(2), (4, 4))

    def forward(self, x):
        return torch.sparse.mm(self.graph, x.t())


class Nested(nn.Module):
    class Head(nn.Module):
        def forward(self, x):
            return x.relu()

    def __init__(self):
        super().__init__()
        self.fc = eval("nn.Linear(4, 2)")
        self.head = self.Head()

    def forward(self, x):
        return self.head(self.fc(x))
