"""C++ kernels for CPUs, and the rewrite that makes XLA call them, for any network."""

from jaxnets.kernels.native import aside, status
from jaxnets.kernels.rewrite import explain, with_kernels

__all__ = ["aside", "explain", "status", "with_kernels"]
