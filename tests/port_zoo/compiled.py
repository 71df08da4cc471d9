import torch
import torch.nn as nn


@torch.jit.script
def swish(x, beta: float = 1.0):
    return x * torch.sigmoid(beta * x)


@torch.compile
def residual(x, y):
    return x + y


class Compiled(nn.Module):
    """Functions, layers and methods that PyTorch compiles."""

    def __init__(self):
        super().__init__()
        self.fc = torch.jit.script(nn.Linear(4, 4))
        self.act = torch.compile(swish, mode="reduce-overhead")
        self.out = torch.compile(nn.Linear(4, 4))

    @torch.compile(dynamic=True)
    def forward(self, x):
        return residual(self.out(self.act(self.fc(x))), x)


def compiled_network():
    return torch.compile(Compiled())


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.fc.register_forward_hook(lambda module, given, result: 2 * result)

    def forward(self, x):
        return self.fc(x)


class ScalesGradient(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.fc.weight.register_hook(lambda gradient: 2 * gradient)

    def forward(self, x):
        return self.fc(x)
