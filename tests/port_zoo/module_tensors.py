import torch
import torch.nn as nn
import torch.nn.functional as F

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
BLUR = torch.ones(9).view(1, 1, 3, 3) / 9
TURNED = torch.arange(4.0).reshape(2, 2).t()
ORDER = torch.tensor([1.0, 0.0]).long()


class Normalized(nn.Module):
    """Tensors of the module."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        x = F.conv2d((x - MEAN).sum(1, keepdim=True), BLUR)
        return self.conv(x).mean((2, 3))[:, ORDER] @ TURNED * BLUR.shape[-1]


class Tracked(nn.Module):
    """Its buffers change in a method without gradients."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("steps", torch.zeros(1, dtype=torch.long))

    @torch.no_grad()
    def update(self, x):
        self.steps += 1
        self.mean *= 0.9
        self.mean += 0.1 * x.mean(0)

    def forward(self, x):
        x = self.fc(x)
        self.update(x)
        x = x - self.mean
        return F.gumbel_softmax(x, tau=0.7, hard=True) * x, F.gumbel_softmax(x[:, :, None], dim=1)
