"""Converts weights and optimizer state between PyTorch and JAX."""

from jaxnets.interop.differences import Step, Trace
from jaxnets.interop.exporting import save_safetensors, save_torch, to_numpy, to_torch
from jaxnets.interop.loading import load_torch, read_torch
from jaxnets.interop.optimizer_options import optimizer_from_torch
from jaxnets.interop.optimizer_state import load_torch_optimizer, to_torch_optimizer
from jaxnets.interop.report import Report, WeightsError
from jaxnets.interop.tracing import trace_difference
from jaxnets.interop.unwrapping import StateDict

__all__ = [
    "Report",
    "StateDict",
    "Step",
    "Trace",
    "WeightsError",
    "load_torch",
    "load_torch_optimizer",
    "optimizer_from_torch",
    "read_torch",
    "save_safetensors",
    "save_torch",
    "to_numpy",
    "to_torch",
    "to_torch_optimizer",
    "trace_difference",
]
