"""The networks of the recipes; each is a plain ``nnx.Module``, and images are NHWC.

These are residual networks, and the networks of the reference documents, the tutorials 000 to 004
that recipes reproduce.
"""

from flax import nnx

from jaxnets.models.actor_critic import ActorCritic
from jaxnets.models.autoencoder import Autoencoder
from jaxnets.models.center_net import CenterNet
from jaxnets.models.cifar_resnet import CifarResNet
from jaxnets.models.dcgan import DCGAN, Discriminator, Generator
from jaxnets.models.diffusion import Diffusion
from jaxnets.models.gpt import GPT
from jaxnets.models.image_classifier import ImageClassifier
from jaxnets.models.language_model import LanguageModel
from jaxnets.models.lenet import LeNet
from jaxnets.models.linear_regression import LinearRegression
from jaxnets.models.matrix_factorization import MatrixFactorization
from jaxnets.models.mlp import MLP
from jaxnets.models.neural_collaborative_filtering import NeuMF
from jaxnets.models.recurrent_classifier import RecurrentClassifier
from jaxnets.models.resnet import ResNet
from jaxnets.models.seq2seq import Seq2Seq
from jaxnets.models.speech_cnn import SpeechCNN
from jaxnets.models.speech_gru import SpeechGRU
from jaxnets.models.speech_recognizer import SpeechRecognizer
from jaxnets.models.text_classifier import TextClassifier
from jaxnets.models.transformer_classifier import TransformerClassifier
from jaxnets.models.transformer_seq2seq import TransformerSeq2Seq
from jaxnets.models.vae import VAE
from jaxnets.models.vit import ViT

MODELS: dict[str, type[nnx.Module]] = {
    "linear-regression": LinearRegression,
    "mlp": MLP,
    "image-classifier": ImageClassifier,
    "lenet": LeNet,
    "cifar-resnet": CifarResNet,
    "resnet": ResNet,
    "center-net": CenterNet,
    "recurrent-classifier": RecurrentClassifier,
    "speech-cnn": SpeechCNN,
    "speech-gru": SpeechGRU,
    "speech-recognizer": SpeechRecognizer,
    "text-classifier": TextClassifier,
    "language-model": LanguageModel,
    "actor-critic": ActorCritic,
    "gpt": GPT,
    "seq2seq": Seq2Seq,
    "transformer-seq2seq": TransformerSeq2Seq,
    "transformer-classifier": TransformerClassifier,
    "vit": ViT,
    "matrix-factorization": MatrixFactorization,
    "neural-collaborative-filtering": NeuMF,
    "vae": VAE,
    "dcgan": DCGAN,
    "diffusion": Diffusion,
    "autoencoder": Autoencoder,
}
"""The networks by name."""

LANGUAGE_MODELS = (LanguageModel, GPT)
"""Those that predict the next token, with which ``jaxnets.sampling.sample`` writes text."""

TRANSLATORS = (Seq2Seq, TransformerSeq2Seq)
"""Those that write one text for another, with ``jaxnets.sampling.translate``."""

IMAGE_MODELS = (VAE, DCGAN, Diffusion)
"""The networks that draw images, with ``jaxnets.sampling.sample_images``."""

__all__ = [
    "DCGAN",
    "GPT",
    "IMAGE_MODELS",
    "LANGUAGE_MODELS",
    "MLP",
    "MODELS",
    "TRANSLATORS",
    "VAE",
    "ActorCritic",
    "Autoencoder",
    "CenterNet",
    "CifarResNet",
    "Diffusion",
    "Discriminator",
    "Generator",
    "ImageClassifier",
    "LanguageModel",
    "LeNet",
    "LinearRegression",
    "MatrixFactorization",
    "NeuMF",
    "RecurrentClassifier",
    "ResNet",
    "Seq2Seq",
    "SpeechCNN",
    "SpeechGRU",
    "SpeechRecognizer",
    "TextClassifier",
    "TransformerClassifier",
    "TransformerSeq2Seq",
    "ViT",
]
