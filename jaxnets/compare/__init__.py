"""The same experiment in PyTorch and in JAX."""

from jaxnets.compare.torch_twins import twin

__all__ = ["twin"]
