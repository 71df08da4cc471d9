"""PyTorch networks, rewritten as Flax NNX source."""

from jaxnets.port.ported import PortError, Ported, from_torch, port
from jaxnets.port.rewrite import Refusal

__all__ = ["PortError", "Ported", "Refusal", "from_torch", "port"]
