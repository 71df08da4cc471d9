"""C++ kernels for CPUs, and the rewrite of traced functions that makes XLA call them."""

from jaxnets.kernels.native import aside, status
from jaxnets.kernels.rewrite import explain, with_kernels

__all__ = ["aside", "explain", "status", "with_kernels"]
