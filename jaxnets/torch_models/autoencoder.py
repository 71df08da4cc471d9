"""A fully connected autoencoder in PyTorch."""

import itertools

import torch
from torch import Tensor, nn


class Autoencoder(nn.Module):
    """Compresses examples to short codes, and reconstructs them from their codes."""

    def __init__(
        self,
        in_features: int = 784,
        hidden_features: tuple[int, ...] = (512, 256),
        code_features: int = 32,
        output: str = "linear",
    ) -> None:
        super().__init__()
        sizes = (in_features, *hidden_features, code_features)
        ends = [nn.Sigmoid()] if output == "sigmoid" else []
        self.encoder = nn.Sequential(*_layers(sizes))
        self.decoder = nn.Sequential(*_layers(sizes[::-1]), *ends)

    def forward(self, x: Tensor) -> Tensor:
        """Returns reconstructions [batch, in_features] of x [batch, ...]."""
        return self.decoder(self.encoder(torch.flatten(x, 1)))


def _layers(sizes: tuple[int, ...]) -> list[nn.Module]:
    """Returns linear layers with ReLU between them."""
    layers: list[nn.Module] = []
    for size, next_size in itertools.pairwise(sizes):
        layers += [nn.Linear(size, next_size), nn.ReLU()]
    return layers[:-1]
