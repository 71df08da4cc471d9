"""Images with boxes around their objects."""

from jaxnets.data.detection.dataset import DetectionDataset, padded
from jaxnets.data.detection.scattered import ScatterDigits

__all__ = ["DetectionDataset", "ScatterDigits", "padded"]
