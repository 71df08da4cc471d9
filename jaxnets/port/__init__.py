"""Rewrites PyTorch networks as Flax NNX source code."""

from jaxnets.port.job import Refusal
from jaxnets.port.ported import Ported, PortError, from_torch, port

__all__ = ["PortError", "Ported", "Refusal", "from_torch", "port"]
