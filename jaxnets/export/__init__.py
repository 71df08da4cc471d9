"""Writes trained networks as files for other programs: StableHLO, ONNX, PyTorch."""

from jaxnets.export.onnx_file import save_onnx
from jaxnets.export.program import Program
from jaxnets.export.stablehlo import save_stablehlo
from jaxnets.export.torch_file import save_torch

__all__ = ["Program", "save_onnx", "save_stablehlo", "save_torch"]
