"""PyTorch networks, rewritten as Flax NNX source."""

from jaxnets.port.ported import Ported, PortError, from_torch, port
from jaxnets.port.rewrite import Refusal

__all__ = ["PortError", "Ported", "Refusal", "from_torch", "port"]
