"""A network with one hidden layer in PyTorch."""

import torch
from torch import Tensor, nn


class ImageClassifier(nn.Module):
    """Two linear layers with ReLU between them."""

    def __init__(self, input_size: int, hidden_size: int, num_classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(input_size, hidden_size)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(hidden_size, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Returns logits [batch, num_classes] of images [batch, ...]."""
        return self.fc2(self.relu(self.fc1(torch.flatten(x, 1))))
