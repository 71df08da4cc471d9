"""Quantization of weights and activations to integers, as in ``torch.ao.quantization``."""

from jaxnets.quantization.after_training import (
    quantize_dynamic,
    quantize_static,
    quantize_weights,
)
from jaxnets.quantization.aware import FakeQuantize, convert, prepare_qat
from jaxnets.quantization.observers import (
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    PerChannelMinMaxObserver,
)
from jaxnets.quantization.report import Report, report
from jaxnets.quantization.structure import restructured, settings_of

__all__ = [
    "FakeQuantize",
    "MinMaxObserver",
    "MovingAverageMinMaxObserver",
    "PerChannelMinMaxObserver",
    "Report",
    "convert",
    "prepare_qat",
    "quantize_dynamic",
    "quantize_static",
    "quantize_weights",
    "report",
    "restructured",
    "settings_of",
]
