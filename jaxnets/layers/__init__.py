"""Building blocks with PyTorch's meaning: images are NHWC, sequences batch first."""

from jaxnets.layers.convolution import Conv1d, Conv2d, ConvTranspose2d
from jaxnets.layers.flatten import Flatten, flatten
from jaxnets.layers.linear import Linear
from jaxnets.layers.pooling import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    MaxPool1d,
    MaxPool2d,
)

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "Flatten",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "flatten",
]
