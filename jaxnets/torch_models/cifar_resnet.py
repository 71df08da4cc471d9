"""Residual networks for images of 32×32 pixels in PyTorch."""

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two convolutions with batch normalization, plus the input."""

    def __init__(self, inputs: int, outputs: int, stride: int, kind: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.more = stride, outputs - inputs
        self.shortcut = nn.Sequential()
        if kind == "B" and (stride != 1 or inputs != outputs):
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Returns [batch, outputs, height / stride, width / stride]."""
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if len(self.shortcut):
            return torch.relu(y + self.shortcut(x))
        before = self.more // 2
        x = x[:, :, :: self.stride, :: self.stride]
        x = nn.functional.pad(x, (0, 0, 0, 0, before, self.more - before))
        return torch.relu(y + x)


class CifarResNet(nn.Module):
    """ResNet-20, 32, 44, 56 or 110 (He et al., 2015)."""

    def __init__(
        self, depth: int = 20, num_classes: int = 10, in_channels: int = 3, shortcut: str = "A"
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._blocks((depth - 2) // 6, 16, 16, 1, shortcut)
        self.layer2 = self._blocks((depth - 2) // 6, 16, 32, 2, shortcut)
        self.layer3 = self._blocks((depth - 2) // 6, 32, 64, 2, shortcut)
        self.linear = nn.Linear(64, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight)

    def _blocks(
        self, count: int, inputs: int, outputs: int, stride: int, kind: str
    ) -> nn.Sequential:
        more = (Block(outputs, outputs, 1, kind) for _ in range(count - 1))
        return nn.Sequential(Block(inputs, outputs, stride, kind), *more)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits [batch, num_classes] of images [batch, channels, height, width]."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(dim=(2, 3)))
