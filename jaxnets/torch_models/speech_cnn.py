"""A convolutional network for short sounds in PyTorch."""

import torch
from torch import Tensor, nn


class SpeechCNN(nn.Module):
    """Three convolutions with batch normalization, and the maximum over time."""

    def __init__(self, num_classes: int = 10, bands: int = 40, channels: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * channels)
        self.conv3 = nn.Conv2d(2 * channels, 4 * channels, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * channels)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(channels * bands, num_classes)

    def forward(self, sound: Tensor) -> Tensor:
        """Returns logits [batch, num_classes] of spectrograms [batch, time, bands]."""
        x = self.pool(torch.relu(self.bn1(self.conv1(sound.unsqueeze(1)))))
        x = self.pool(torch.relu(self.bn2(self.conv2(x))))
        x = torch.relu(self.bn3(self.conv3(x)))
        return self.fc(torch.flatten(x.amax(2), 1))
