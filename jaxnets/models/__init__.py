"""The documented networks. Each is a plain ``nnx.Module``; images are NHWC."""

from flax import nnx

from jaxnets.models.image_classifier import ImageClassifier
from jaxnets.models.lenet import LeNet
from jaxnets.models.linear_regression import LinearRegression
from jaxnets.models.mlp import MLP
from jaxnets.models.recurrent_classifier import RecurrentClassifier

#: The documented networks by name.
MODELS: dict[str, type[nnx.Module]] = {
    "linear-regression": LinearRegression,
    "mlp": MLP,
    "image-classifier": ImageClassifier,
    "lenet": LeNet,
    "recurrent-classifier": RecurrentClassifier,
}

__all__ = [
    "MLP",
    "MODELS",
    "ImageClassifier",
    "LeNet",
    "LinearRegression",
    "RecurrentClassifier",
]
