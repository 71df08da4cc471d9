"""Building blocks with PyTorch's meaning: images are NHWC, sequences batch first."""

from jaxnets.layers.linear import Linear

__all__ = ["Linear"]
