"""Runs the same experiment in jaxnets and in PyTorch, and compares the results."""

from jaxnets.compare.own import run
from jaxnets.compare.records import Comparison, Pair
from jaxnets.compare.step_records import StepComparison
from jaxnets.torch_models import twin

__all__ = ["Comparison", "Pair", "StepComparison", "run", "twin"]
