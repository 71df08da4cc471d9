"""The documented networks. Each is a plain ``nnx.Module``; images are NHWC."""

from flax import nnx

from jaxnets.models.image_classifier import ImageClassifier
from jaxnets.models.language_model import LanguageModel
from jaxnets.models.lenet import LeNet
from jaxnets.models.linear_regression import LinearRegression
from jaxnets.models.mlp import MLP
from jaxnets.models.recurrent_classifier import RecurrentClassifier
from jaxnets.models.speech_cnn import SpeechCNN
from jaxnets.models.speech_gru import SpeechGRU
from jaxnets.models.speech_recognizer import SpeechRecognizer
from jaxnets.models.text_classifier import TextClassifier

MODELS: dict[str, type[nnx.Module]] = {
    "linear-regression": LinearRegression,
    "mlp": MLP,
    "image-classifier": ImageClassifier,
    "lenet": LeNet,
    "recurrent-classifier": RecurrentClassifier,
    "speech-cnn": SpeechCNN,
    "speech-gru": SpeechGRU,
    "speech-recognizer": SpeechRecognizer,
    "text-classifier": TextClassifier,
    "language-model": LanguageModel,
}
"""The documented networks by name."""

__all__ = [
    "MLP",
    "MODELS",
    "ImageClassifier",
    "LanguageModel",
    "LeNet",
    "LinearRegression",
    "RecurrentClassifier",
    "SpeechCNN",
    "SpeechGRU",
    "SpeechRecognizer",
    "TextClassifier",
]
