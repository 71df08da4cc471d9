"""The documented networks in PyTorch, as in its tutorials, and random data for all networks."""

from collections.abc import Callable

import numpy as np
import ordinary_torch
import torch
from networks import Network, examples
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
    if network.kind in ("lstm", "gru"):
        return Recurrent({"lstm": nn.LSTM, "gru": nn.GRU}[network.kind]).to(DEVICE)
    return getattr(ordinary_torch, network.kind)(*network.sizes).to(DEVICE)


def loss(network: Network) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    function = getattr(nn.functional, network.loss)
    if not network.labels or network.loss != "cross_entropy":
        return function
    return lambda outputs, labels: function(outputs.flatten(0, 1), labels.flatten())


def laid_out(network: Network, array: np.ndarray, channels_last: bool = False) -> np.ndarray:
    """Examples as PyTorch has them: channels before the image's axes, integers of 64 bits.

    With ``channels_last``, the channels remain contiguous in memory.
    """
    if array.dtype == np.int32:
        return array.astype(np.int64)
    if network.axes and array.ndim == 2 + network.axes:
        array = np.moveaxis(array, -1, 1)
    return array if channels_last else np.ascontiguousarray(array)


def tensors(network: Network, count: int, channels_last: bool = False) -> list[torch.Tensor]:
    """Returns random inputs and labels."""
    arrays = (laid_out(network, array, channels_last) for array in examples(network, count))
    return [torch.from_numpy(array).to(DEVICE) for array in arrays]


def wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
