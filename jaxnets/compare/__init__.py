"""The same experiment in PyTorch and in JAX."""

from jaxnets.compare.own import run
from jaxnets.compare.records import Comparison
from jaxnets.compare.torch_twins import twin

__all__ = ["Comparison", "run", "twin"]
