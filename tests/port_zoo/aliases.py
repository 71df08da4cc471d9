import torch.nn as nn


class SecondName(nn.Module):
    def forward(self, x):
        y = x
        y += 1
        return x * y


class View(nn.Module):
    def forward(self, x):
        x = x * 2
        flat = x.view(-1)
        flat[0] = 1
        return x


class Copies(nn.Module):
    """In-place changes that affect no other variable."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Linear(3, 3)

    def forward(self, x):
        shortcut = x
        x = self.scale(x)
        x += shortcut
        y = x.clone()
        y[:, 0].zero_()
        flat = x.reshape(-1)
        x = y * 3
        return flat, x + y
