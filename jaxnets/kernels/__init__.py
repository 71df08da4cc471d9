"""What makes a processor fast, for any network: kernels in C++, and when XLA calls them."""

from jaxnets.kernels.native import aside, status
from jaxnets.kernels.rewrite import explain, with_kernels

__all__ = ["aside", "explain", "status", "with_kernels"]
