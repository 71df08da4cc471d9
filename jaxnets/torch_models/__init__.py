"""The networks of ``jaxnets.models`` in PyTorch: the same files, classes, arguments and names.

Each file needs torch alone, so that it can accompany exported weights as it is.
"""

from jaxnets.torch_models.twins import torch_source, twin

__all__ = ["torch_source", "twin"]
