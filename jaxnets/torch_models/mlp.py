"""A multilayer perceptron in PyTorch."""

import torch
from torch import Tensor, nn


class MLP(nn.Module):
    """Linear layers ``fc1``, ``fc2``, … with ReLU between them."""

    def __init__(self, features: tuple[int, ...], output: str = "logits") -> None:
        super().__init__()
        self.depth, self.output = len(features) - 1, output
        for index in range(1, self.depth + 1):
            setattr(self, f"fc{index}", nn.Linear(features[index - 1], features[index]))

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits or probabilities [batch, features[-1]] of x [batch, ...]."""
        x = torch.flatten(x, 1)
        for index in range(1, self.depth):
            x = torch.relu(getattr(self, f"fc{index}")(x))
        x = getattr(self, f"fc{self.depth}")(x)
        return torch.softmax(x, dim=1) if self.output == "softmax" else x
