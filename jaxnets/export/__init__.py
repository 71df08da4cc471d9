"""Trained networks as files that need no jaxnets: StableHLO for JAX, ONNX, PyTorch."""

from jaxnets.export.onnx_file import save_onnx
from jaxnets.export.program import Program
from jaxnets.export.stablehlo import save_stablehlo

__all__ = ["Program", "save_onnx", "save_stablehlo"]
