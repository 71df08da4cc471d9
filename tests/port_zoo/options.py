from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F

ACTIVATIONS = {
    "relu": F.relu,
    "swish": lambda x: x * torch.sigmoid(x),
    "gelu": F.gelu,
}


def get_activation(name):
    if name == "relu":
        return nn.ReLU(inplace=True)
    elif name == "lrelu":
        return nn.LeakyReLU(0.2)
    elif name is None:
        return nn.Identity()
    else:
        raise ValueError(f"unknown activation {name}")


class ByName(nn.Module):
    """Activations named by strings, in three ways."""

    def __init__(self, n=5, first="elu", second="swish", third="lrelu"):
        super().__init__()
        self.fc1 = nn.Linear(n, n)
        self.fc2 = nn.Linear(n, n)
        self.fc3 = nn.Linear(n, n)
        self.act1 = getattr(F, first)
        self.act2 = ACTIVATIONS[second]
        self.act3 = get_activation(third)

    def forward(self, x):
        x = self.act1(self.fc1(x))
        x = self.act2(self.fc2(x))
        return self.act3(self.fc3(x))


class WithLambdas(nn.Module):
    def __init__(self, n=5, power=2):
        super().__init__()
        self.linear = nn.Linear(n, n)
        self.pool = lambda t: t.mean(dim=1)
        self.norm = lambda t, p=power: t / t.norm(p=p, dim=-1, keepdim=True)

    def forward(self, x):
        x = self.norm(self.linear(x))
        return self.pool(x)


class PartialNorms(nn.Module):
    """The layers' kinds are arguments, made by functools.partial."""

    def __init__(
        self,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        act_layer=partial(nn.GELU, approximate="tanh"),
        linear=nn.Linear,
        dims=(5, 7, 3),
    ):
        super().__init__()
        blocks = []
        for d_in, d_out in zip(dims, dims[1:]):
            blocks += [linear(d_in, d_out), norm_layer(d_out), act_layer()]
        self.body = nn.Sequential(*blocks)

    def forward(self, x):
        return self.body(x)


class Switches(nn.Module):
    """Arguments of the constructor decide what forward computes."""

    def __init__(self, mode="attention", residual=True, norm=None, n=6):
        super(Switches, self).__init__()
        assert mode in ("attention", "mean"), "Invalid mode"
        self.mode = mode
        self.residual = residual
        self.linear = nn.Linear(n, n)
        if mode == "attention":
            self.score = nn.Linear(n, 1)
        if norm is not None:
            self.norm = norm(n)

    def forward(self, x):
        h = self.linear(x)
        if self.residual:
            h += x
        h = torch.tanh(h)
        if hasattr(self, "norm"):
            h = self.norm(h)
        if self.mode == "attention":
            weights = self.score(h).softmax(dim=1)
            return (weights * h).sum(1)
        return h.mean(1)
