"""The documented networks in PyTorch, as its tutorials write them."""

import numpy as np
import torch
from networks import Network
from torch import nn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class MLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(784, 128), nn.Linear(128, 64)
        self.fc3 = nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc3(torch.relu(self.fc2(x)))


class LeNet(nn.Module):
    def __init__(self, channels, size):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=(32 - size) // 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = self.pool(torch.relu(self.conv1(x)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = torch.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc3(torch.relu(self.fc2(x)))


class Recurrent(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.rnn = layer(28, 128, 2, batch_first=True)
        self.fc = nn.Linear(128, 10)

    def forward(self, x):
        return self.fc(self.rnn(x)[0][:, -1])


def build(network: Network) -> nn.Module:
    torch.manual_seed(0)
    if network.kind == "mlp":
        return MLP().to(DEVICE)
    if network.kind == "lenet":
        return LeNet(network.shape[2], network.shape[0]).to(DEVICE)
    return Recurrent({"lstm": nn.LSTM, "gru": nn.GRU}[network.kind]).to(DEVICE)


def tensor(array: np.ndarray) -> torch.Tensor:
    """Examples as PyTorch has them: images NCHW, labels of 64 bits."""
    if array.ndim == 4:
        array = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    made = torch.from_numpy(array)
    return (made.long() if array.ndim == 1 else made).to(DEVICE)


def wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
