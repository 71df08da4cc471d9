"""Linear regression in PyTorch."""

from torch import nn


class LinearRegression(nn.Linear):
    """y = x Wᵀ + b."""

    def __init__(self, in_features: int = 1, out_features: int = 1) -> None:
        super().__init__(in_features, out_features)
