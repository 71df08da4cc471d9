"""The documented networks. Each is a plain ``nnx.Module``; images are NHWC."""

from flax import nnx

from jaxnets.models.gpt import GPT
from jaxnets.models.image_classifier import ImageClassifier
from jaxnets.models.language_model import LanguageModel
from jaxnets.models.lenet import LeNet
from jaxnets.models.linear_regression import LinearRegression
from jaxnets.models.mlp import MLP
from jaxnets.models.recurrent_classifier import RecurrentClassifier
from jaxnets.models.text_classifier import TextClassifier

MODELS: dict[str, type[nnx.Module]] = {
    "linear-regression": LinearRegression,
    "mlp": MLP,
    "image-classifier": ImageClassifier,
    "lenet": LeNet,
    "recurrent-classifier": RecurrentClassifier,
    "text-classifier": TextClassifier,
    "language-model": LanguageModel,
    "gpt": GPT,
}
"""The documented networks by name."""

LANGUAGE_MODELS = (LanguageModel, GPT)
"""Those that predict the next token, with which ``jaxnets.sampling`` writes text."""

__all__ = [
    "GPT",
    "LANGUAGE_MODELS",
    "MLP",
    "MODELS",
    "ImageClassifier",
    "LanguageModel",
    "LeNet",
    "LinearRegression",
    "RecurrentClassifier",
    "TextClassifier",
]
